"""Requests for embeddings and similarities, carried out: what the routes and the command line share."""

from __future__ import annotations

from phosphene.assemble import Engine
from phosphene.errors import Forbidden
from phosphene.types import TenantId
from search_api.compose import require_space
from search_api.embedding import embed_all
from search_api.schemas import EmbeddingsRequest, EmbeddingsResponse, SimilarityRequest, SimilarityResponse
from search_api.schemas.embeddings import Fetch
from search_api.similarity import compare


def fetch_nothing(url: str) -> bytes:
    """Refuse to fetch. Raises Forbidden."""
    raise Forbidden(f"nothing is fetched here, so not {url}: send the picture itself")


def embeddings_of(
    body: EmbeddingsRequest, *, engine: Engine, tenant: TenantId, fetch: Fetch = fetch_nothing
) -> EmbeddingsResponse:
    """Embed what a request names. Raises InvalidQuery, PictureError, NotFound, Forbidden, SpaceMismatch."""
    asked = body.to_embeddables(fetch)
    with engine.answering() as space:
        require_space(body.space, space.space)
        rows = embed_all(asked, space, engine=engine, tenant=tenant).rows
        return EmbeddingsResponse.of(body, space.space, rows)


def similarity_of(
    body: SimilarityRequest, *, engine: Engine, tenant: TenantId, fetch: Fetch = fetch_nothing
) -> SimilarityResponse:
    """Compare what a request names. Raises as `embeddings_of` does."""
    left, right = body.to_embeddables(fetch)
    found = compare(left, right, pairs=body.pairs, engine=engine, tenant=tenant, named_space=body.space)
    return SimilarityResponse.of(found, body.encoding)
