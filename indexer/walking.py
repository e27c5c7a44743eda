"""Going through a tenant's pictures with their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from phosphene.assemble import Engine
from phosphene.catalog.records import Asset
from phosphene.errors import NotFound
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, Float32, TenantId, point_id

_PAGE = 500


def vectors(tenant: TenantId, space: OpenSpace, *, engine: Engine) -> Iterator[tuple[list[Asset], Float32]]:
    """Walk through the pictures that the index holds, in the order of their ids, with rows (n, d)."""
    after: AssetId | None = None
    while page := engine.catalog.page_assets(tenant=tenant, after=after, limit=_PAGE):
        after = page[-1].id
        found = space.index.vectors([point_id(asset.id, space.space.id) for asset in page])
        there = [asset for asset in page if point_id(asset.id, space.space.id) in found]
        if there:
            rows = np.stack([found[point_id(asset.id, space.space.id)] for asset in there])
            yield there, np.asarray(rows, dtype=np.float32)


def vectors_of(ids: Sequence[AssetId], space: OpenSpace, *, engine: Engine, tenant: TenantId) -> dict[AssetId, Float32]:
    """Give the embeddings (d,) of those pictures of a tenant that have one. Raises NotFound for an unknown one."""
    known = engine.catalog.assets(tenant, list(ids))
    unknown = [id_ for id_ in ids if id_ not in known]
    if unknown:
        raise NotFound(f"no asset {unknown[0]}")
    by_point = {point_id(id_, space.space.id): id_ for id_ in ids}
    return {by_point[point]: row for point, row in space.index.vectors(list(by_point)).items()}


def vector_of(id_: AssetId, space: OpenSpace, *, engine: Engine, tenant: TenantId) -> Float32:
    """Give the embedding (d,) of a tenant's picture. Raises NotFound."""
    found = vectors_of([id_], space, engine=engine, tenant=tenant).get(id_)
    if found is None:
        raise NotFound(f"asset {id_} has no embedding yet: try again when its ingest has finished")
    return np.asarray(found, dtype=np.float32)
