"""Recall, memory, disk and speed of the embedded vector index against exact search with numpy.

    python -m benchmarks.index_recall [--n 100000] [--d 512] [--profile flat|graph] [--queries 200]

The vectors are made: clusters of about 100 on the unit sphere, cosine 0.5 to 0.8 within one, as embeddings of a
catalogue have look-alikes. Queries are clustered likewise and in no index. Times are medians, one query at a time, and
a ratio to `rows @ query` in float32 on as many threads as numpy takes (set OMP_NUM_THREADS=1 for one).
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import numpy as np

from phosphene.filters import Range
from phosphene.types import (
    Field,
    FieldKind,
    Float32,
    PixelSpec,
    PointId,
    RawEmbeddings,
    Sha256,
    Space,
    UnitEmbeddings,
)
from phosphene.vectors.base import Payload, VectorQuery
from phosphene.vectors.edge import EdgeIndex

_T = TypeVar("_T")

K = 10
REQUIRED_RECALL = 0.99
CHUNK = 4096
CLUSTER = 100
SHARES = {"none": None, "50 %": 50, "10 %": 10, "1 %": 1}  # of points with `share` below that number


def main() -> None:
    """Print the figures; exit with 1 where recall is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--profile", choices=["flat", "graph"], default="flat")
    parser.add_argument("--queries", type=int, default=200)
    arguments = parser.parse_args()
    space = Space("benchmark", arguments.d, Sha256("0" * 64), PixelSpec(224))
    stored, queries = clustered(space, arguments.n, seed=1), clustered(space, arguments.queries, seed=2)
    shares = np.random.default_rng(3).integers(0, 100, arguments.n)
    with tempfile.TemporaryDirectory(prefix="phosphene-benchmark-") as folder:
        recall = _measure(Path(folder) / "index", stored, queries.rows, shares, profile=arguments.profile)
    if recall < REQUIRED_RECALL:
        sys.exit(f"recall@{K} is {recall:.4f}, {REQUIRED_RECALL} is required")


def _measure(folder: Path, stored: UnitEmbeddings, queries: Float32, shares: np.ndarray, *, profile: str) -> float:
    count = len(stored)
    before, cpu = _anonymous_mb(), time.process_time()
    index = EdgeIndex.open(folder, stored.space, profile="graph" if profile == "graph" else "flat")
    index.declare([Field("share", FieldKind.INTEGER)])
    write_s = _timed(lambda: _fill(index, stored, shares))
    optimise_s = _timed(index.optimise)
    index.close()
    print(f"{count:,} vectors of {stored.space.dimension} numbers, profile {profile}")
    print(
        f"written in {write_s:.1f} s ({count / write_s:,.0f} a second, each durable), optimised in {optimise_s:.1f} s"
    )
    print(f"CPU of this process for both: {time.process_time() - cpu:.1f} s")
    index = EdgeIndex.open(folder, stored.space, profile="graph" if profile == "graph" else "flat")
    opened_s = _timed(lambda: index.query([VectorQuery(queries[0], K)]))
    bare_ms = float(np.median(_times_ms(lambda query: stored.rows @ query, list(queries))))
    print(f"first query {opened_s * 1e3:.1f} ms; bare numpy matmul p50 {bare_ms:.2f} ms")
    print("filter  recall@10  p50 ms  p95 ms  ratio to bare numpy")
    recalls = {}
    for name, below in SHARES.items():
        where = None if below is None else Range("share", lt=below)
        allowed = np.ones(count, dtype=bool) if below is None else shares < below
        asked = [VectorQuery(query, K, filter=where) for query in queries]
        recalls[name] = _recall(index, asked, stored.rows, allowed)
        times = _times_ms(lambda query: index.query([query]), asked)
        p50, p95 = np.percentile(times, [50, 95])
        print(f"{name:>6}  {recalls[name]:9.4f}  {p50:6.2f}  {p95:6.2f}  {p50 / bare_ms:5.2f}")
    per = 100_000 / count
    print(f"per 100,000 vectors: {(_anonymous_mb() - before) * per:.0f} MB of own memory, ", end="")
    print(f"{_mapped_mb(folder) * per:.0f} MB of mapped files resident, {_disk_mb(folder) * per:.0f} MB on disk")
    index.close()
    return min(recalls.values())


def clustered(space: Space, count: int, *, seed: int) -> UnitEmbeddings:
    """Make unit vectors in clusters of about CLUSTER; other seeds draw from the same clusters."""
    centres = np.random.default_rng(0).normal(size=(max(1, count // CLUSTER), space.dimension)).astype(np.float32)
    random = np.random.default_rng(seed)
    rows = centres[random.integers(0, len(centres), count)]
    spread = random.uniform(0.5, 1.0, size=(count, 1)).astype(np.float32)
    rows += spread * random.normal(size=rows.shape).astype(np.float32)
    return RawEmbeddings(space, rows).unit()


def _fill(index: EdgeIndex, stored: UnitEmbeddings, shares: np.ndarray) -> None:
    for start in range(0, len(stored), CHUNK):
        rows = stored.rows[start : start + CHUNK]
        ids = [PointId(UUID(int=start + number)) for number in range(len(rows))]
        payloads: list[Payload] = [
            {"tenant": "everyone", "share": int(share)} for share in shares[start : start + CHUNK]
        ]
        index.upsert(ids, UnitEmbeddings(stored.space, rows), payloads)


def _recall(index: EdgeIndex, asked: list[VectorQuery], rows: Float32, allowed: np.ndarray) -> float:
    found = 0
    for query, points in zip(asked, index.query(asked), strict=True):
        scores = np.where(allowed, rows @ query.vector, -np.inf)
        best = set(np.argpartition(-scores, K)[:K].tolist())
        found += len(best & {point.id.int for point in points})
    return found / (K * len(asked))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _times_ms(call: Callable[[_T], object], arguments: Iterable[_T]) -> list[float]:
    return [_timed(functools.partial(call, argument)) * 1e3 for argument in arguments]


def _anonymous_mb() -> float:
    return _status_mb("RssAnon")


def _mapped_mb(folder: Path) -> float:
    """Pages of the index's files that are in memory; the kernel takes them back when it needs room."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            ours = str(folder) in line
        elif ours and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total / 1024


def _status_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def _disk_mb(folder: Path) -> float:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 2**20


if __name__ == "__main__":
    main()
