"""Memory and time of `phosphene verify` by the size of the catalogue: it reads in pages, so memory should not grow.

    python -m benchmarks.verify_million [--assets 100000 1000000]

The catalogue is SQLite with a row and an embedding for each picture. The index and the blob store are stand-ins that
list what agrees with it from a file: Qdrant's own memory, which grows with the points, is not what is measured, and two
million files would take longer than all the rest. Each size is verified by a process of its own, which tells its
resident memory once the stores are open and the model is loaded, and at its highest.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import cast
from uuid import UUID

import numpy as np
from sqlalchemy import insert

from indexer.payload import payload_of
from indexer.verify import verify
from phosphene.assemble import CATALOGUE, Engine, open_engine
from phosphene.attributes import Attributes, PaletteColour
from phosphene.blobs import BlobStore, original_key, thumbnail_key
from phosphene.catalog.database import Database, now, sqlite_url
from phosphene.catalog.models import AssetRow, EmbeddingRow, TenantRow
from phosphene.catalog.records import AssetState
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, AssetId, Float32, PointId, Sha256, SpaceId, asset_id, point_id
from phosphene.vectors.base import Payload, StoredPoint, VectorIndex

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


class Stored:
    """What `verify` asks of an index and of a blob store, told from one file: nothing of it is kept in memory."""

    def __init__(self, path: Path) -> None:
        self.file = sqlite3.connect(path, check_same_thread=False)
        self._payload: Payload = {}

    def say(self, payload: Payload) -> None:
        """Give the payload that all points have, but for the id of their asset."""
        self._payload = payload

    def vectors(self, ids: Sequence[PointId]) -> dict[PointId, Float32]:
        """Give a vector for each of those that are there."""
        marks = ",".join("?" * len(ids))
        found = self.file.execute(f"SELECT id FROM points WHERE id IN ({marks})", [id_.bytes for id_ in ids])  # noqa: S608  marks
        return {PointId(UUID(bytes=row[0])): np.zeros(8, np.float32) for row in found}

    def scroll(self, *, after: PointId | None, limit: int) -> list[StoredPoint]:
        """List points in the order of their ids."""
        found = self.file.execute(
            "SELECT id, asset FROM points WHERE id > ? ORDER BY id LIMIT ?", [after.bytes if after else b"", limit]
        )
        return [
            StoredPoint(PointId(UUID(bytes=id_)), {**self._payload, "asset_id": str(UUID(bytes=asset))})
            for id_, asset in found
        ]

    def count(self) -> int:
        """Count all points."""
        return int(self.file.execute("SELECT count(*) FROM points").fetchone()[0])

    def exists(self, key: str) -> bool:
        """Say that there is a blob."""
        return bool(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """List originals and thumbnails."""
        key = {"originals": original_key, "thumbnails": thumbnail_key}.get(prefix)
        if key is not None:
            for (number,) in self.file.execute("SELECT number FROM points"):
                yield key(_hash(number))

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def main() -> None:
    """Print memory and time of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, nargs="+", default=[100_000, 1_000_000])
    for count in parser.parse_args().assets:
        folder = Path(tempfile.mkdtemp(prefix="phosphene-benchmark-"))
        try:
            began = time.perf_counter()
            _in_a_process(fill, folder, count)
            print(f"{count} assets were written in {time.perf_counter() - began:.0f} s", flush=True)
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


def _opened(folder: Path) -> tuple[Engine, Stored]:
    engine = open_engine(Settings(data=folder, threads=1, _env_file=None), command="benchmark")
    _ = engine.current.encoder
    stored = Stored(folder / "stored.sqlite")
    engine.current._index = cast("VectorIndex", stored)  # noqa: SLF001  a stand-in
    return engine, stored


def fill(folder: Path, count: int) -> None:
    """Write rows and points that agree."""
    engine, stored = _opened(folder)
    database = Database(sqlite_url(folder / CATALOGUE))
    with database.writing() as connection:
        connection.execute(insert(TenantRow), {"id": DEFAULT_TENANT, "created_at": now()})
    stored.file.execute("CREATE TABLE points (id BLOB PRIMARY KEY, asset BLOB, number INTEGER) WITHOUT ROWID")
    space = engine.current.space.id
    points: list[tuple[bytes, bytes, int]] = []
    for start in range(0, count, PAGE):
        hashes = [_hash(number) for number in range(start, min(count, start + PAGE))]
        ids = [asset_id(DEFAULT_TENANT, sha256) for sha256 in hashes]
        _write_rows(database, space, ids, hashes)
        points += [(point_id(id_, space).bytes, id_.bytes, start + place) for place, id_ in enumerate(ids)]
    with stored.file:
        stored.file.executemany("INSERT INTO points VALUES (?, ?, ?)", sorted(points))
    database.engine.dispose()
    stored.close()


def _hash(number: int) -> Sha256:
    return Sha256(hashlib.sha256(str(number).encode()).hexdigest())


_AT = datetime(2026, 1, 1, tzinfo=UTC)
_FACTS = {
    "tenant_id": DEFAULT_TENANT,
    "title": "A title",
    "metadata": {"category": "food", "year": 2005},
    "width": 640,
    "height": 480,
    "orientation": "landscape",
    "format": "jpeg",
    "bytes": 0,
    "phash": "0" * 16,
    "added_at": _AT,
    "state": AssetState.INDEXED,
    "attributes": Attributes((PaletteColour("red", "#c81e3c", 1.0),), None, (), False, False, 0.5).as_json(),  # noqa: FBT003  flags
}


def _write_rows(database: Database, space: SpaceId, ids: Sequence[AssetId], hashes: Sequence[Sha256]) -> None:
    assets = [{**_FACTS, "id": id_, "sha256": sha256} for id_, sha256 in zip(ids, hashes, strict=True)]
    embeddings = [{"asset_id": id_, "space_id": space, "norm": 1.0, "indexed_at": _AT} for id_ in ids]
    with database.writing() as connection:
        connection.execute(insert(AssetRow), assets)
        connection.execute(insert(EmbeddingRow), embeddings)


def measure(folder: Path) -> Seen:
    """Verify, and tell what it took."""
    engine, stored = _opened(folder)
    (first,) = engine.catalog.page_assets(tenant=None, after=None, limit=1)
    stored.say(payload_of(first, ()))
    engine.blobs = cast("BlobStore", stored)
    before, began = _memory_mb("VmRSS"), time.perf_counter()
    report = verify(engine=engine, repair=False)
    seconds = time.perf_counter() - began
    stored.close()
    differences = sum(report.counts.values())
    return Seen(before, _memory_mb("VmHWM"), seconds, report.assets, report.points, report.blobs, differences)


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024 / MB


if __name__ == "__main__":
    main()
