"""Recall of each kind of codes against exact search, by oversampling: what the codes alone lose, with no graph.

    python -m benchmarks.code_recall [--n 50000] [--d 512] [--queries 200]

The profiles of phosphene/vectors/profiles.py choose by this. The engine is Qdrant's own, in this process; vectors are
made as in benchmarks/index_recall.py, or read from a .npy file of unit rows (--vectors), of which the last are asked.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from uuid import UUID

import numpy as np
import qdrant_edge as engine

from benchmarks.index_recall import clustered
from phosphene.types import Float32, PixelSpec, Sha256, Space

K = 10
CHUNK = 256
OVERSAMPLING = (1, 2, 4, 8, 16)
Codes = engine.ScalarQuantizationConfig | engine.TurboQuantQuantizationConfig | engine.BinaryQuantizationConfig
CODES: dict[str, Codes] = {
    "int8": engine.ScalarQuantizationConfig(engine.ScalarType.Int8),
    "turbo4": engine.TurboQuantQuantizationConfig(bits=engine.TurboQuantBitSize.Bits4),
    "turbo2": engine.TurboQuantQuantizationConfig(bits=engine.TurboQuantBitSize.Bits2),
    "turbo1": engine.TurboQuantQuantizationConfig(bits=engine.TurboQuantBitSize.Bits1),
    "binary": engine.BinaryQuantizationConfig(),
}


def main() -> None:
    """Print a table: a row for each kind of codes, a column for each oversampling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--vectors", type=Path)
    arguments = parser.parse_args()
    if arguments.vectors is not None:
        rows = np.load(arguments.vectors).astype(np.float32)
        stored, queries = rows[: -arguments.queries], rows[-arguments.queries :]
    else:
        space = Space("benchmark", arguments.d, Sha256("0" * 64), PixelSpec(224))
        stored = clustered(space, arguments.n, seed=1).rows
        queries = clustered(space, arguments.queries, seed=2).rows
    nearest = [set(np.argpartition(-(stored @ query), K)[:K].tolist()) for query in queries]
    print(f"{len(stored):,} vectors of {stored.shape[1]} numbers, recall@{K} of {len(queries)} questions")
    print("codes  " + "".join(f"  x{times:<4}" for times in OVERSAMPLING))
    for name, codes in CODES.items():
        with tempfile.TemporaryDirectory(prefix="phosphene-benchmark-") as folder:
            shard = _filled(Path(folder) / "shard", stored, codes)
            found = [_recall(shard, queries, nearest, times) for times in OVERSAMPLING]
            shard.close()
        print(f"{name:6} " + "".join(f"  {recall:.3f}" for recall in found), flush=True)


def _filled(folder: Path, rows: Float32, codes: Codes) -> engine.EdgeShard:
    folder.mkdir()
    config = engine.EdgeConfig(
        vectors=engine.EdgeVectorParams(rows.shape[1], engine.Distance.Cosine),
        hnsw_config=engine.HnswIndexConfig(m=0, ef_construct=128, full_scan_threshold=10_000),
        quantization_config=codes,
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
    )
    shard = engine.EdgeShard.create(str(folder), config)
    for start in range(0, len(rows), CHUNK):
        part = [
            engine.Point(UUID(int=start + number), row.tolist(), {})
            for number, row in enumerate(rows[start : start + CHUNK])
        ]
        shard.update(engine.UpdateOperation.upsert_points(part))
    shard.optimize()
    return shard


def _recall(shard: engine.EdgeShard, queries: Float32, nearest: list[set[int]], oversampling: int) -> float:
    quantization = engine.QuantizationSearchParams(rescore=True, oversampling=float(oversampling))
    params = engine.SearchParams(quantization=quantization)
    found = 0
    for query, best in zip(queries, nearest, strict=True):
        asked = engine.Query.Nearest(query.tolist())
        points = shard.query(engine.QueryRequest(limit=K, query=asked, params=params))
        found += len(best & {UUID(str(point.id)).int for point in points})
    return found / (K * len(queries))


if __name__ == "__main__":
    main()
