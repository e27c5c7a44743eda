"""Embeddings and similarities for callers who bring their own pictures, words or vectors. Nothing is kept."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile

from phosphene.errors import InvalidQuery
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.comparing import embeddings_of, similarity_of
from search_api.embedding import Encoding
from search_api.routes.dependencies import EngineDep
from search_api.routes.search import fetched_picture
from search_api.schemas import EmbeddingsRequest, EmbeddingsResponse, SimilarityRequest, SimilarityResponse
from search_api.schemas.embeddings import MAX_EMBEDDED

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", responses=problems.responses(404))
def embed(body: EmbeddingsRequest, engine: EngineDep, principal: PrincipalDep) -> EmbeddingsResponse:
    """Embed texts and pictures in this server's space, or give the vectors of assets."""
    return embeddings_of(body, fetch=partial(fetched_picture, engine=engine), engine=engine, tenant=principal.tenant)


@router.post("/v1/embeddings/images", responses=problems.responses())
def embed_uploads(
    engine: EngineDep,
    principal: PrincipalDep,
    images: Annotated[list[UploadFile], File(description=f"picture files, at most {MAX_EMBEDDED}")],
    encoding: Annotated[Encoding, Form(description="as of POST /v1/embeddings")] = Encoding.FLOAT,
) -> EmbeddingsResponse:
    """Embed uploaded pictures: the vectors come under `images`, in the order of the uploads."""
    if len(images) > MAX_EMBEDDED:
        raise InvalidQuery(f"{len(images)} pictures, {MAX_EMBEDDED} are allowed in one request: send several")
    body = EmbeddingsRequest(images=[image.file.read() for image in images], encoding=encoding)
    return embeddings_of(body, engine=engine, tenant=principal.tenant)


@router.post("/v1/similarity", responses=problems.responses(404))
def similarity(body: SimilarityRequest, engine: EngineDep, principal: PrincipalDep) -> SimilarityResponse:
    """Compare texts, pictures, assets and vectors with each other: cosine and CLIP score."""
    return similarity_of(body, fetch=partial(fetched_picture, engine=engine), engine=engine, tenant=principal.tenant)
