"""What comparing a new picture with a large catalogue costs, over embedding it.

Some pictures of the demo catalogue are ingested and compared. Then the catalogue is filled with made ones, in SQL and
in the index: their looks are means of two real ones, their vectors lie between two real ones, so buckets and neighbours
are as full as with pictures. Last, new pictures are ingested and compared as a sweep does it, before and after filling
up. Prints the time of comparing one of them over that of ingesting it (decoding, embedding, point and rows), both in
the same process, so that a busy machine slows both.

    python -m benchmarks.duplicates_rate [--pictures 100000] [--new 128]
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import insert, update

from indexer.duplicates import RULE, compare_waiting
from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from phosphene.assemble import CATALOGUE, Engine, open_engine
from phosphene.catalog.database import Database, now, sqlite_url
from phosphene.catalog.models import AssetRow, EmbeddingRow, LookRow
from phosphene.catalog.records import AssetState
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.types import AssetId, Float32, Sha256, UnitEmbeddings, asset_id, point_id

PAGE = 2000
BASE = 200  # real pictures that the made ones are mixed from


def pictures(catalogue: Path, folder: Path, *, count: int) -> tuple[Path, list[Path]]:
    """Write BASE pictures, and in two folders `count` others each, a little smaller than they are."""
    real, new = folder / "real", [folder / "before", folder / "after"]
    for path in (real, *new):
        path.mkdir()
    with tarfile.open(catalogue) as archive:
        names = sorted(name for name in archive.getnames() if not name.endswith(".json"))
        for number, name in enumerate(names[: BASE + 2 * count]):
            member = archive.extractfile(name)
            if member is None:
                raise FileNotFoundError(name)
            image = Image.open(member).convert("RGB")
            where = real if number < BASE else new[number % 2]
            image.resize((max(1, image.width * 4 // 5), max(1, image.height * 4 // 5))).save(where / f"{number}.png")
    return real, new


def fill(engine: Engine, folder: Path, count: int) -> None:
    """Add made pictures that were compared already."""
    chance = np.random.default_rng(5)
    ids = [asset.id for asset in engine.catalog.page_assets(tenant=TENANT, after=None, limit=BASE)]
    looks = np.stack(
        [np.frombuffer(one, np.uint8) for one in engine.catalog.duplicates.looks(TENANT, ids).values()]
    ).astype(np.uint16)
    space = engine.current.space
    rows = np.stack(list(engine.index.vectors([point_id(id_, space.id) for id_ in ids]).values()))
    database = Database(sqlite_url(folder / CATALOGUE))
    for start in range(0, count, PAGE):
        hashes = [Sha256(f"{number:064x}") for number in range(start, min(start + PAGE, count))]
        made = [asset_id(TENANT, one) for one in hashes]
        one, other = chance.integers(0, len(looks), (2, len(made)))
        _write(database, made, hashes, engine)
        mixed = ((looks[one] + looks[other]) // 2).astype(np.uint8)
        engine.catalog.duplicates.put_looks(
            TENANT, {id_: look.tobytes() for id_, look in zip(made, mixed, strict=True)}
        )
        engine.index.upsert(
            [point_id(id_, space.id) for id_ in made],
            UnitEmbeddings(space, _between(rows[one], rows[other], chance)),
            [{"tenant": TENANT, "asset_id": str(id_)} for id_ in made],
        )
    with database.writing() as connection:
        connection.execute(update(LookRow).where(LookRow.rule.is_(None)).values(rule=RULE))
    database.close()


def _between(one: Float32, other: Float32, chance: np.random.Generator) -> Float32:
    mixed = one + other + 0.3 * chance.standard_normal(one.shape, dtype=np.float32) / np.sqrt(one.shape[1])
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), dtype=np.float32)


def _write(database: Database, made: Sequence[AssetId], hashes: Sequence[Sha256], engine: Engine) -> None:
    at = now()
    fixed: dict[str, object] = {
        "tenant_id": TENANT,
        "title": None,
        "metadata": {},
        "width": 512,
        "height": 512,
        "format": "png",
    }
    fixed |= {"orientation": "square", "bytes": 1, "phash": "0" * 16, "added_at": at, "state": AssetState.INDEXED}
    space = engine.current.space.id
    with database.writing() as connection:
        connection.execute(
            insert(AssetRow),
            [{"id": id_, "sha256": one, **fixed} for id_, one in zip(made, hashes, strict=True)],
        )
        connection.execute(
            insert(EmbeddingRow), [{"asset_id": id_, "space_id": space, "norm": 1.0, "indexed_at": at} for id_ in made]
        )


def measure(engine: Engine, folder: Path) -> tuple[float, float]:
    """Ingest pictures and compare them; give the milliseconds for one of them, of either."""
    began = time.perf_counter()
    done = ingest([str(folder)], engine=engine, tenant=TENANT, progress=SilentProgress())
    ingested = time.perf_counter()
    compared = compare_waiting(engine=engine, tenant=TENANT)
    ended = time.perf_counter()
    if not done.counts.added == compared > 0:
        raise ValueError(f"{done.counts.added} pictures were added, and {compared} compared")
    return (ingested - began) / compared * 1000, (ended - ingested) / compared * 1000


def main() -> None:
    """Print both times, and their ratio, at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=128)
    asked = parser.parse_args()
    shipped = files("phosphene") / "starter" / "demo" / "catalogue.tar"
    with tempfile.TemporaryDirectory() as made, as_file(shipped) as catalogue:
        data = Path(made) / "data"
        real, (before, after) = pictures(catalogue, Path(made), count=asked.new)
        with open_engine(load_settings(data=data), command="benchmark") as engine:
            ingest([str(real)], engine=engine, tenant=TENANT, progress=SilentProgress())
            compare_waiting(engine=engine, tenant=TENANT)
            _say(engine, before)
            began = time.perf_counter()
            fill(engine, data, asked.pictures)
            print(f"{asked.pictures:,} made pictures were added in {time.perf_counter() - began:.0f} s", flush=True)
            _say(engine, after)


def _say(engine: Engine, folder: Path) -> None:
    total = engine.catalog.count_assets(TENANT)
    embedding, comparing = measure(engine, folder)
    print(
        f"{total:,} pictures: ingesting one takes {embedding:.1f} ms, comparing it {comparing:.1f} ms: "
        f"{comparing / embedding:.2f} of it",
        flush=True,
    )


if __name__ == "__main__":
    main()
