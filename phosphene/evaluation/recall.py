"""Index recall: how much of what an exact comparison finds the index finds too, on the data it holds.

A graph or short codes may miss neighbours, more so under filters (qdrant#7147), and no test on made data shows what
they miss on yours. So stored pictures are asked for their neighbours twice, by the index and exactly, without a filter
and under filters that leave about 50 %, 10 % and 1 % of the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Self
from uuid import UUID

import numpy as np

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import Asset
from phosphene.errors import InvalidInput
from phosphene.evaluation.ranking import mean_interval
from phosphene.filters import Filter, Range, tenant_filter
from phosphene.nomatch.curves import Interval
from phosphene.types import AssetId, Float32, PointId, TenantId, UnitEmbeddings, point_id
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery

SHARES = (0.5, 0.1, 0.01)
SIZE = "bytes"  # of a picture's file: every point has it, it has an index, and its values spread wide

_SAMPLE = 2000  # pictures whose sizes tell where to cut
_RUN = 8  # neighbouring ids that are taken with one select
_PAGE = 1000
_TIE = 1e-6  # cosines nearer than this are equal: float32 sums differ with their order


@dataclass(frozen=True, slots=True, eq=False)
class Probes:
    """What is asked: rows (n, d) float32 of length 1, and the stored point that each is of, which is no answer."""

    rows: Float32
    itself: tuple[PointId | None, ...]

    def __len__(self) -> int:
        return len(self.itself)

    @classmethod
    def of(cls, embeddings: UnitEmbeddings) -> Self:
        """Ask with embeddings that the index does not hold, such as those of texts."""
        return cls(embeddings.rows, (None,) * len(embeddings))

    @classmethod
    def stored(cls, index: VectorIndex, count: int, *, catalog: Catalog, tenant: TenantId, seed: int = 0) -> Self:
        """Ask with `count` of a tenant's pictures that the index holds, or as many as there are, drawn by chance."""
        assets = sample_assets(catalog, count, tenant=tenant, seed=seed)
        ids = [point_id(asset.id, index.space.id) for asset in assets]
        found = index.vectors(ids)
        there = tuple(id_ for id_ in ids if id_ in found)
        rows = np.stack([found[id_] for id_ in there]) if there else np.empty((0, index.space.dimension))
        return cls(np.asarray(rows, dtype=np.float32), there)


@dataclass(frozen=True, slots=True)
class RecallUnder:
    """Recall under one condition."""

    condition: str
    points: int  # that the condition leaves
    recall: Interval  # mean share of the k nearest that the index finds, 0..1
    worst: float  # of all questions
    index_ms: float  # a question, mean, when asked many at a time
    exact_ms: float


@dataclass(frozen=True, slots=True)
class RecallReport:
    """Recall of an index on what it holds."""

    k: int
    questions: int
    points: int
    conditions: tuple[RecallUnder, ...]


def index_recall(
    index: VectorIndex,
    probes: Probes,
    *,
    k: int = 10,
    conditions: Mapping[str, Filter | None] | None = None,
) -> RecallReport:
    """Ask each probe for its k nearest, by the index and exactly, under each condition; `conditions_of` makes some.

    Raises InvalidInput where there is nothing to ask.
    """
    if not len(probes) or k < 1:
        raise InvalidInput(f"index recall needs questions and neighbours, not {len(probes)} and {k}")
    asked = {"no filter": None} if conditions is None else conditions
    under = tuple(_under(index, probes, k, name, condition) for name, condition in asked.items())
    return RecallReport(k, len(probes), index.count(), under)


def _under(index: VectorIndex, probes: Probes, k: int, name: str, condition: Filter | None) -> RecallUnder:
    queries = [VectorQuery(row, k + 1, condition) for row in probes.rows]
    start = perf_counter()
    found = index.query(queries)
    between = perf_counter()
    # Twice as deep, to see which others are as near as the last that counts.
    exact = index.query([replace(query, limit=2 * k + 1, exact=True) for query in queries])
    end = perf_counter()
    shares = np.array(
        [
            share_found(_others(some, itself)[:k], _others(true, itself), k)
            for some, true, itself in zip(found, exact, probes.itself, strict=True)
        ]
    )
    return RecallUnder(
        condition=name,
        points=index.count(condition),
        recall=mean_interval(shares),
        worst=float(shares.min()),
        index_ms=1000 * (between - start) / len(probes),
        exact_ms=1000 * (end - between) / len(probes),
    )


def share_found(found: Sequence[ScoredPoint], exact: Sequence[ScoredPoint], k: int) -> float:
    """Give the share of the k nearest that was found; of several that are equally near, any will do.

    `exact` goes deeper than k, best first. 1 where there is nothing to be found.
    """
    nearest = exact[:k]
    if not nearest:
        return 1.0
    as_near = {point.id for point in exact if point.score >= nearest[-1].score - _TIE}
    return min(sum(point.id in as_near for point in found), len(nearest)) / len(nearest)


def _others(points: Sequence[ScoredPoint], itself: PointId | None) -> list[ScoredPoint]:
    return [point for point in points if point.id != itself]


def conditions_of(
    catalog: Catalog, *, tenant: TenantId, shares: Sequence[float] = SHARES, seed: int = 0
) -> dict[str, Filter | None]:
    """Make filters that leave about these shares of a tenant's pictures: those with the smallest files.

    What they leave of a small catalogue can be more, where many files are of one size.
    """
    sizes = [asset.bytes for asset in sample_assets(catalog, _SAMPLE, tenant=tenant, seed=seed)]
    conditions: dict[str, Filter | None] = {"no filter": tenant_filter(tenant, None)}
    for share in shares:
        if sizes:
            largest = int(np.quantile(sizes, share, method="inverted_cdf"))
            conditions[f"{100 * share:g} %"] = tenant_filter(tenant, Range(SIZE, lte=largest))
    return conditions


def sample_assets(catalog: Catalog, count: int, *, tenant: TenantId, seed: int = 0) -> list[Asset]:
    """Draw pictures of a tenant by chance, in a time that does not grow with the catalogue.

    Ids are hashes of contents: those that follow a random number are a fair sample.
    """
    random = np.random.default_rng(seed)
    if catalog.count_assets(tenant) <= 2 * count:
        everything = _all_assets(catalog, tenant)
        return [everything[at] for at in random.permutation(len(everything))[:count]]
    drawn: dict[AssetId, Asset] = {}
    while len(drawn) < count:
        after = AssetId(UUID(bytes=random.bytes(16)))
        run = catalog.page_assets(tenant=tenant, after=after, limit=_RUN)
        drawn |= {asset.id: asset for asset in run or catalog.page_assets(tenant=tenant, after=None, limit=_RUN)}
    return list(drawn.values())[:count]


def _all_assets(catalog: Catalog, tenant: TenantId) -> list[Asset]:
    assets: list[Asset] = []
    while page := catalog.page_assets(tenant=tenant, after=assets[-1].id if assets else None, limit=_PAGE):
        assets += page
    return assets
