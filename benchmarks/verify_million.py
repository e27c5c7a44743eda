"""Memory and time of `phosphene verify` by the size of the catalogue: it reads in pages, so memory should not grow.

    python -m benchmarks.verify_million [--assets 100000 1000000]

The catalogue is SQLite with a row and an embedding for each picture, originals and thumbnails are empty files, and the
index is a stand-in that lists the same payloads from a file: Qdrant's own memory, which grows with the points, is not
what is measured. Each size is verified by a process of its own, which tells its resident memory once the
stores are open and the model is loaded, and at its highest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import cast
from uuid import UUID

import numpy as np
from sqlalchemy import insert

from indexer.payload import payload_of
from indexer.verify import verify
from phosphene.assemble import CATALOGUE, Engine, open_engine
from phosphene.blobs import original_key, thumbnail_key
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.database import Database, now, sqlite_url
from phosphene.catalog.models import AssetRow, EmbeddingRow, TenantRow
from phosphene.catalog.records import AssetState
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, AssetId, Float32, PointId, Sha256, SpaceId, asset_id, point_id
from phosphene.vectors.base import StoredPoint, VectorIndex

PAGE = 5000
MB = 2**20


@dataclass(frozen=True, slots=True)
class Seen:
    """What the verifying process saw of itself."""

    before_mb: float
    peak_mb: float
    seconds: float
    assets: int
    points: int
    blobs: int
    differences: int


class PointsOnDisk:
    """What `verify` asks of an index, from a file."""

    def __init__(self, path: Path) -> None:
        self._points = sqlite3.connect(path, check_same_thread=False)
        self._points.execute("CREATE TABLE IF NOT EXISTS points (id BLOB PRIMARY KEY, payload TEXT) WITHOUT ROWID")

    def write(self, points: Sequence[StoredPoint]) -> None:
        """Add points."""
        rows = sorted((point.id.bytes, json.dumps(point.payload)) for point in points)
        with self._points:
            self._points.executemany("INSERT INTO points VALUES (?, ?)", rows)

    def vectors(self, ids: Sequence[PointId]) -> dict[PointId, Float32]:
        """Give a vector for each of those that are there."""
        marks = ",".join("?" * len(ids))
        found = self._points.execute(f"SELECT id FROM points WHERE id IN ({marks})", [id_.bytes for id_ in ids])  # noqa: S608  marks
        return {PointId(UUID(bytes=row[0])): np.zeros(8, np.float32) for row in found}

    def scroll(self, *, after: PointId | None, limit: int) -> list[StoredPoint]:
        """List points in the order of their ids."""
        found = self._points.execute(
            "SELECT id, payload FROM points WHERE id > ? ORDER BY id LIMIT ?", [after.bytes if after else b"", limit]
        )
        return [StoredPoint(PointId(UUID(bytes=id_)), json.loads(payload)) for id_, payload in found]

    def count(self) -> int:
        """Count all."""
        return int(self._points.execute("SELECT count(*) FROM points").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._points.close()


def main() -> None:
    """Print memory and time of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, nargs="+", default=[100_000, 1_000_000])
    for count in parser.parse_args().assets:
        folder = Path(tempfile.mkdtemp(prefix="phosphene-benchmark-"))
        try:
            began = time.perf_counter()
            _in_a_process(fill, folder, count)
            print(f"{count} assets written in {time.perf_counter() - began:.0f} s", flush=True)
            seen = cast("Seen", _in_a_process(measure, folder))
        finally:
            shutil.rmtree(folder)
        print(
            f"{count} assets: verify compared {seen.assets} rows, {seen.points} points and {seen.blobs} blobs in "
            f"{seen.seconds:.0f} s, found {seen.differences} differences; resident {seen.before_mb:.0f} MB before, "
            f"{seen.peak_mb:.0f} MB at most: {seen.peak_mb - seen.before_mb:.0f} MB more",
            flush=True,
        )


def _in_a_process(function: object, *arguments: object) -> object:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()  # type: ignore[arg-type]  # one of those below


def _opened(folder: Path) -> Engine:
    engine = open_engine(Settings(data=folder, threads=1, _env_file=None), command="benchmark")
    _ = engine.current.encoder
    engine.current._index = cast("VectorIndex", PointsOnDisk(folder / "points.sqlite"))  # noqa: SLF001  a stand-in
    return engine


def fill(folder: Path, count: int) -> None:
    """Write catalogue, points and blobs that agree."""
    engine = _opened(folder)
    database = Database(sqlite_url(folder / CATALOGUE))
    with database.writing() as connection:
        connection.execute(insert(TenantRow), {"id": DEFAULT_TENANT, "created_at": now()})
    space = engine.current.space.id
    blobs = folder / "blobs"
    for hashes in _hashes(count):
        _write_rows(database, space, hashes)
        for sha256 in hashes:
            for key in (original_key(sha256), thumbnail_key(sha256)):
                path = blobs / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    _write_points(engine.catalog, cast("PointsOnDisk", engine.index), space)
    database.engine.dispose()
    engine.close()


def _hashes(count: int) -> Iterator[list[Sha256]]:
    for start in range(0, count, PAGE):
        yield [
            Sha256(hashlib.sha256(str(number).encode()).hexdigest())
            for number in range(start, min(count, start + PAGE))
        ]


def _write_rows(database: Database, space: SpaceId, hashes: Sequence[Sha256]) -> None:
    at = now()
    described = {
        "metadata": {"category": "food", "year": 2005},
        "width": 640,
        "height": 480,
        "bytes": 0,
        "added_at": at,
    }
    facts = {"orientation": "landscape", "format": "jpeg", "phash": "0" * 16, "state": AssetState.INDEXED}
    ids = [asset_id(DEFAULT_TENANT, sha256) for sha256 in hashes]
    with database.writing() as connection:
        connection.execute(
            insert(AssetRow),
            [
                {"id": id_, "tenant_id": DEFAULT_TENANT, "sha256": sha256, "title": "A title", **described, **facts}
                for id_, sha256 in zip(ids, hashes, strict=True)
            ],
        )
        connection.execute(
            insert(EmbeddingRow), [{"asset_id": id_, "space_id": space, "norm": 1.0, "indexed_at": at} for id_ in ids]
        )


def _write_points(catalog: Catalog, points: PointsOnDisk, space: SpaceId) -> None:
    after: AssetId | None = None
    while page := catalog.page_assets(tenant=None, after=after, limit=PAGE):
        points.write([StoredPoint(point_id(asset.id, space), payload_of(asset, ())) for asset in page])
        after = page[-1].id


def measure(folder: Path) -> Seen:
    """Verify, and tell what it took."""
    engine = _opened(folder)
    before, began = _memory_mb("VmRSS"), time.perf_counter()
    report = verify(engine=engine, repair=False)
    seconds = time.perf_counter() - began
    engine.close()
    differences = sum(report.counts.values())
    return Seen(before, _memory_mb("VmHWM"), seconds, report.assets, report.points, report.blobs, differences)


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024 / MB


if __name__ == "__main__":
    main()
