"""The first step of a search: a question becomes what the index is asked, in one space.

Here is all that knows of texts, pictures, assets and vectors. The steps behind take a `Composed`, and ask it for what
is nearest, as far down as they like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phosphene.assemble import Engine
from phosphene.decoding import DecoderPool
from phosphene.encoders import Encoder
from phosphene.errors import InvalidQuery
from phosphene.filters import Filter, tenant_filter
from phosphene.open_space import OpenSpace
from phosphene.types import (
    AssetId,
    Modality,
    RawEmbeddings,
    Space,
    TenantId,
    UnitEmbeddings,
    point_id,
)
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery
from search_api.question import Numbers, SearchQuery, normalised_text


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """What the index of one space is asked. `embedding` is (1, d)."""

    tenant: TenantId
    embedding: UnitEmbeddings
    filter: Filter | None  # without the tenant's own
    left_out: frozenset[AssetId]  # asked with: never among the hits
    text: str | None  # where the whole question is one text
    modality: Modality | None  # None: several, or a bare vector, which can be either
    kind: str  # text, image, asset_id, vector: for counting
    fingerprint: str  # names the question, but not the page: 20 hex digits

    def nearest(self, limit: int, *, index: VectorIndex) -> list[ScoredPoint]:
        """Give the best `limit` points, best first; fewer: there are no more. Raises Unavailable."""
        left_out = {point_id(asset, self.embedding.space.id) for asset in self.left_out}
        asked = VectorQuery(self.embedding.rows[0], limit + len(left_out), tenant_filter(self.tenant, self.filter))
        return [point for point in index.query([asked])[0] if point.id not in left_out][:limit]

    def instead(self, embedding: UnitEmbeddings) -> Composed:
        """Ask the same with another embedding (1, d) of the same space."""
        return replace(self, embedding=embedding)


def compose(query: SearchQuery, *, space: OpenSpace, engine: Engine, tenant: TenantId) -> Composed:
    """Embed a question. Raises InvalidQuery, PictureError, and NotFound for an asset that is not the tenant's."""
    text = normalised_text(query.text) if query.text is not None else None
    embedding = _embed(query, text, space, engine=engine, tenant=tenant)
    return Composed(
        tenant=tenant,
        embedding=embedding,
        filter=query.filter,
        left_out=frozenset({query.asset_id} if query.asset_id is not None else ()),
        text=text,
        modality=_modality(query),
        kind=_kind(query),
        fingerprint=_fingerprint(query, text, embedding, tenant),
    )


def embed_pictures(files: Sequence[bytes], *, encoder: Encoder, decoders: DecoderPool) -> UnitEmbeddings:
    """Decode picture files in the pool and embed them: (n, d). Raises PictureError."""
    spec = encoder.space.pixels
    decoding = [decoders.decode(data, spec=spec, thumbnail=False) for data in files]
    pixels = [decoded.pixels for decoded in (future.result() for future in decoding) if decoded.pixels is not None]
    return encoder.encode_pixels(np.stack(pixels)).unit()


def _embed(
    query: SearchQuery, text: str | None, space: OpenSpace, *, engine: Engine, tenant: TenantId
) -> UnitEmbeddings:
    if text is not None:
        return space.texts.embed(text)
    if query.image is not None:
        return embed_pictures([query.image], encoder=space.encoder, decoders=engine.decoders)
    if query.asset_id is not None:
        engine.catalog.asset(tenant, query.asset_id)  # NotFound, also where it is another tenant's
        return _embedding_of(query.asset_id, space.index)
    return _checked_vector(query.vector, space.space)


def _embedding_of(asset: AssetId, index: VectorIndex) -> UnitEmbeddings:
    space = index.space
    point = point_id(asset, space.id)
    vector = index.vectors([point]).get(point)
    if vector is None:
        msg = f"asset {asset} has no embedding yet: try again when its ingest has finished"
        raise InvalidQuery(msg)
    return UnitEmbeddings(space, np.asarray(vector, dtype=np.float32)[None])


def _checked_vector(vector: Numbers | None, space: Space) -> UnitEmbeddings:
    row = np.asarray(vector, dtype=np.float64)
    if row.shape != (space.dimension,):
        msg = f"a vector of {space.id} has {space.dimension} numbers, not {row.size}"
        raise InvalidQuery(msg)
    if not np.isfinite(row).all():
        raise InvalidQuery("the vector has numbers that are not finite")
    largest = float(np.abs(row).max())
    if largest == 0:
        raise InvalidQuery("the vector has length 0 and so no direction")
    scaled = np.asarray(row / largest, dtype=np.float32)  # so that no square overflows
    return RawEmbeddings(space, scaled[None]).unit()


def _kind(query: SearchQuery) -> str:
    return next(kind for kind in ("text", "image", "asset_id", "vector") if getattr(query, kind) is not None)


def _modality(query: SearchQuery) -> Modality | None:
    if query.text is not None:
        return Modality.TEXT
    return None if query.vector is not None else Modality.IMAGE


def _fingerprint(query: SearchQuery, text: str | None, embedding: UnitEmbeddings, tenant: TenantId) -> str:
    """Name the question, but not the page: 20 hex digits."""
    if text is not None:
        asked = f"text {text}"
    elif query.image is not None:
        asked = f"image {hashlib.sha256(query.image).hexdigest()}"
    elif query.asset_id is not None:
        asked = f"asset {query.asset_id}"
    else:
        asked = f"vector {embedding.rows.tobytes().hex()}"
    name = repr((tenant, embedding.space.id, asked, query.filter, query.prior_search))
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:20]
