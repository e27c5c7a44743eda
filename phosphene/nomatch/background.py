"""The background: a fixed sample of a tenant's pictures that every question is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phosphene.catalog.catalog import Catalog
from phosphene.nomatch.evidence import Float64
from phosphene.types import AssetId, Float32, TenantId, point_id
from phosphene.vectors.base import VectorIndex

SIZE = 512


@dataclass(frozen=True, eq=False)
class Background:
    """Some pictures with their vectors, rows (n, d) of length 1."""

    ids: tuple[AssetId, ...]
    rows: Float32

    def cosines(self, vector: Float32, *, but: AssetId) -> Float64:
        """Cosine of a question (d,) with each: (n,), or (n - 1,) where the one left out is among them."""
        cosines = np.asarray(self.rows @ vector, dtype=np.float64)
        place = self._places.get(but)
        return cosines if place is None else np.delete(cosines, place)

    @cached_property
    def _places(self) -> dict[AssetId, int]:
        return {id_: at for at, id_ in enumerate(self.ids)}

    def without(self, left_out: frozenset[AssetId]) -> Background:
        """Leave pictures out."""
        kept = [at for at, id_ in enumerate(self.ids) if id_ not in left_out]
        return self if len(kept) == len(self.ids) else Background(tuple(self.ids[at] for at in kept), self.rows[kept])


def sample_background(tenant: TenantId, *, catalog: Catalog, index: VectorIndex) -> Background:
    """Take the first SIZE pictures in the order of their ids.

    Ids are hashes of contents, so these are a fair sample, and pictures that come in later change few of them.
    """
    ids = [asset.id for asset in catalog.page_assets(tenant=tenant, after=None, limit=SIZE)]
    found = index.vectors([point_id(id_, index.space.id) for id_ in ids])
    there = [(id_, found[point]) for id_ in ids if (point := point_id(id_, index.space.id)) in found]
    rows = np.stack([row for _, row in there]) if there else np.empty((0, index.space.dimension), dtype=np.float32)
    return Background(tuple(id_ for id_, _ in there), np.asarray(rows, dtype=np.float32))
