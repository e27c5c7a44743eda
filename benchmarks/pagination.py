"""Walks the best 10,000 hits page by page while pictures are added: what was repeated, what missed, what it cost.

    python -m benchmarks.pagination [--pictures 100000] [--dimension 512] [--limit 100]

Made vectors in the embedded index, in clusters as pictures come. Between any two pages some pictures are added, half of
them nearer to the question than all that was shown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from uuid import UUID, uuid4

import numpy as np

from phosphene.filters import tenant_filter
from phosphene.types import Float32, PixelSpec, PointId, RawEmbeddings, Sha256, Space, TenantId
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery
from phosphene.vectors.edge import EdgeIndex
from search_api import cursor as cursors
from search_api.cursor import Cursor
from search_api.listing import MAX_DEPTH, page_of

TENANT = TenantId("default")
HITS = 10_000
_CENTRES = 500


def made(count: int, space: Space, *, seed: int, near: Float32 | None = None) -> RawEmbeddings:
    """Make (count, d) vectors in clusters; with `near` (d,) the first half lies about it."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(_CENTRES, space.dimension))
    rows = centres[random.integers(0, _CENTRES, count)] + 0.7 * random.normal(size=(count, space.dimension))
    if near is not None:
        half = count // 2
        rows[:half] = near * np.sqrt(space.dimension) * 1.5 + 0.5 * random.normal(size=(half, space.dimension))
    return RawEmbeddings(space, rows.astype(np.float32))


def add(index: VectorIndex, ids: Sequence[PointId], embeddings: RawEmbeddings) -> None:
    """Write points of the tenant."""
    said = [{"tenant": TENANT, "asset_id": str(id_), "title": f"picture {id_}"} for id_ in ids]
    index.upsert(ids, embeddings.unit(), said)


@dataclass(frozen=True, slots=True)
class Walk:
    """What was shown, the best there were at first, seconds a page took, and how many pictures came in meanwhile."""

    shown: list[PointId]
    first_list: list[PointId]
    seconds: list[float]
    came_in: int

    @property
    def repeated(self) -> int:
        """How many were shown a second time."""
        return len(self.shown) - len(set(self.shown))

    @property
    def missed(self) -> int:
        """How many of the first list were never shown."""
        return len(set(self.first_list) - set(self.shown))


def walk(index: VectorIndex, vector: Float32, *, limit: int, added_between: int, hits: int = HITS) -> Walk:
    """Go through pages until all of the first list were passed, or the pages end."""

    def nearest(count: int) -> list[ScoredPoint]:
        return index.query([VectorQuery(vector, count, tenant_filter(TENANT, None))])[0]

    first_list = [point.id for point in nearest(hits)]
    done = Walk([], first_list, [], 0)
    before: Cursor | None = None
    came_in = 0
    while len(set(first_list) - set(done.shown)) and (before is None or before.seen < MAX_DEPTH):
        start = perf_counter()
        points, more = page_of(nearest, limit, before=before)
        done.seconds.append(perf_counter() - start)
        done.shown.extend(point.id for point in points)
        if not more:
            break
        before = cursors.decode(cursors.after(points, query="q", before=before).encode(), query="q")
        if added_between:
            fresh = made(added_between, index.space, seed=1000 + len(done.seconds), near=vector)
            add(index, [PointId(uuid4()) for _ in range(added_between)], fresh)
            came_in += added_between
    return replace(done, came_in=came_in)


def main() -> None:
    """Walk, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--added", type=int, default=8, help="between two pages")
    asked = parser.parse_args()
    space = Space("made", asked.dimension, Sha256("0" * 64), PixelSpec(32))
    with tempfile.TemporaryDirectory() as folder:
        index = EdgeIndex.open(Path(folder) / "index", space, profile="flat")
        for start in range(0, asked.pictures, 5000):
            count = min(5000, asked.pictures - start)
            add(index, [PointId(UUID(int=start + one + 1)) for one in range(count)], made(count, space, seed=start))
        vector = np.asarray(made(1, space, seed=1).unit().rows[0])
        done = walk(index, vector, limit=asked.limit, added_between=asked.added)
        index.close()
    print(f"{asked.pictures:,} pictures of {asked.dimension} numbers, {done.came_in:,} added on the way")
    print(f"{len(done.seconds)} pages showed {len(done.shown):,} hits; twice: {done.repeated}")
    print(f"of the first list of {len(done.first_list):,}: missed {done.missed}")
    times = [1000 * one for one in done.seconds]
    first = median(times[:3])
    for page in (1, 10, 25, 50, 75, 100):
        around = times[max(0, page - 3) : page + 2] if page > 1 else [first]
        if around:
            print(f"page {page:3}: {median(around):7.1f} ms, {median(around) / first:5.1f} times page 1")


if __name__ == "__main__":
    main()
