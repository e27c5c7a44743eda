"""What a text query costs beyond the two things that can't be left out: encoding the text and asking the index.

Fills an embedded data folder with N pictures' rows and vectors (random directions around 500 centres; their pixels
don't matter here), then asks each of many distinct texts twice in turn, no text cached: once barely (encode_texts, then
index.query) and once through run_search, which adds parsing, tenancy, rows and hits. Prints p50 and p95 of both in ms
and the ratios; the ratios are what can be compared between machines.

    python -m benchmarks.text_query [--pictures 100000] [--queries 400] [--model starter]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.payload import payload_of
from phosphene.assemble import Engine, open_engine
from phosphene.catalog.records import IngestState, NewAsset
from phosphene.filters import Equals
from phosphene.images import PictureInfo
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT, UnitEmbeddings, point_id, sha256_of
from phosphene.vectors.base import VectorQuery
from search_api.search import SearchQuery, run_search

BATCH = 1000
LIMIT = 24
THINGS = ("dog", "sailing ship", "birthday cake", "red flower", "trumpet", "coffee cup", "mountain", "bicycle")
PLACES = ("on a beach", "in a kitchen", "at night", "in winter", "under a tree", "on white ground", "in the city")


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one query, each way."""

    bare_ms: float
    search_ms: float


def fill(engine: Engine, pictures: int, rng: np.random.Generator) -> None:
    """Register and index made-up pictures in batches."""
    space = engine.encoder.space
    centres = rng.standard_normal((500, space.dimension))
    ingest = engine.catalog.start_ingest(DEFAULT_TENANT, ["benchmark"])
    for first in range(0, pictures, BATCH):
        numbers = range(first, min(first + BATCH, pictures))
        items = [NewAsset(info=_info(number), uri=f"{number}.png", title=f"picture {number}") for number in numbers]
        registered = engine.catalog.register(ingest, DEFAULT_TENANT, space.id, items)
        ids = [item.asset_id for item in registered]
        rows = centres[rng.integers(0, len(centres), len(ids))] + 0.6 * rng.standard_normal((len(ids), space.dimension))
        unit = UnitEmbeddings(space, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
        assets = engine.catalog.assets(DEFAULT_TENANT, ids)
        payloads = [
            payload_of(assets[asset_id], [f"{number}.png"]) for number, asset_id in zip(numbers, ids, strict=True)
        ]
        engine.index.upsert([point_id(asset_id, space.id) for asset_id in ids], unit, payloads)
        engine.catalog.mark_indexed(space.id, [(asset_id, 1.0) for asset_id in ids])
    engine.catalog.finish_ingest(ingest, IngestState.FINISHED)


def _info(number: int) -> PictureInfo:
    sha256 = sha256_of(str(number).encode())
    return PictureInfo(
        sha256=sha256, width=512, height=384, orientation="landscape", format="png", bytes=20_000, phash=sha256[:16]
    )


def measure(engine: Engine, texts: list[str]) -> list[Timing]:
    """Ask each text both ways, the first way changing from text to text."""
    tenant = Equals("tenant", DEFAULT_TENANT)
    timings = []
    for number, text in enumerate(texts):

        def bare(text: str = text) -> None:
            vector = engine.encoder.encode_texts([text]).unit().rows[0]
            engine.index.query([VectorQuery(vector=vector, limit=LIMIT, filter=tenant)])

        def search(text: str = text) -> None:
            run_search(SearchQuery(text=text, limit=LIMIT), engine=engine, tenant=DEFAULT_TENANT)

        if number % 2:
            search_ms, bare_ms = _ms(search), _ms(bare)
        else:
            bare_ms, search_ms = _ms(bare), _ms(search)
        timings.append(Timing(bare_ms, search_ms))
    return timings


def _ms(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    texts = [f"{thing} {place} number {number}" for number in range(50) for thing in THINGS for place in PLACES]
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(data=Path(folder), model=options.model, threads=1)
        with open_engine(settings, command="benchmark") as engine:
            engine.warm()
            fill(engine, options.pictures, rng)
            measure(engine, texts[: options.queries // 10])
            timings = measure(engine, texts[-options.queries :])
    bare = np.array([timing.bare_ms for timing in timings])
    search = np.array([timing.search_ms for timing in timings])
    print(f"{options.model}, {options.pictures:,} pictures, {len(timings)} distinct texts, 1 thread, top {LIMIT}")
    for name, quantile in (("p50", 50), ("p95", 95)):
        ours, theirs = np.percentile(search, quantile), np.percentile(bare, quantile)
        print(f"{name}: text query {ours:.2f} ms, bare {theirs:.2f} ms, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
