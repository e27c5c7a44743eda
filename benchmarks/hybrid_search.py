"""What looking words up beside the picture is worth, and what it costs.

Ingests the demo catalogue and asks its golden queries three ways: by picture and words (each way of fusing them), by
the picture alone, by words alone. Prints nDCG@10 with 95 % bootstrap intervals, the paired differences with theirs, and
how long a search takes, as a ratio to one by the picture alone in the same run: each way in turn for each text, with
the text embedded before, so that the ratio is not flattered by what all of them do.

Then the same for codes: names of files as people write them (IMG_2041, img-2041), a right picture first.

    python -m benchmarks.hybrid_search [--data FOLDER] [--golden FILE] [--rounds N]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter

import numpy as np

from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from phosphene.assemble import Engine, open_engine
from phosphene.evaluation.golden import JudgedQuery, look_up, read_golden
from phosphene.evaluation.ranking import mean_interval, ndcg
from phosphene.nomatch.curves import Interval
from phosphene.nomatch.evidence import Float64
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.types import AssetId
from phosphene.words.fusion import Blend, Fusion, Mode
from phosphene.words.said import file_stem
from search_api.search import SearchQuery, run_search

TOP = 10
CODES = 200  # files whose names are asked
WAYS = {
    "hybrid, rrf": Blend(Mode.HYBRID),
    "hybrid, weighted": Blend(Mode.HYBRID, Fusion.WEIGHTED),
    "picture": Blend(Mode.PICTURE),
    "words": Blend(Mode.WORDS),
}
BEST, PICTURE, WORDS = "hybrid, rrf", "picture", "words"


@dataclass(frozen=True, slots=True)
class Measured:
    """nDCG@10 of each golden query, (n,) for each way, and the milliseconds that a search took, (rounds x n,)."""

    quality: dict[str, Float64]
    spent_ms: dict[str, Float64]


def measure(queries: Sequence[JudgedQuery], engine: Engine, *, rounds: int) -> Measured:
    """Ask each query each way."""
    found = {name: [found_by(query.text, blend, engine) for query in queries] for name, blend in WAYS.items()}
    quality = {
        name: np.array([ndcg(ids, query.all_gains, TOP) for ids, query in zip(lists, queries, strict=True)])
        for name, lists in found.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(rounds * len(queries)):
        query = queries[number % len(queries)]
        names = list(WAYS)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            spent[name].append(_ms(query.text, WAYS[name], engine))
    return Measured(quality, {name: np.array(times) for name, times in spent.items()})


def found_by(text: str, blend: Blend, engine: Engine) -> list[AssetId]:
    """Search, and give the first TOP."""
    answer = run_search(SearchQuery(text=text, limit=TOP, blend=blend), engine=engine, tenant=TENANT)
    return [hit.asset.id for hit in answer.hits]


def difference(one: Float64, other: Float64) -> Interval:
    """Give the mean of paired differences (n,) with its interval."""
    return mean_interval(one - other)


def codes_found(engine: Engine, blend: Blend) -> Float64:
    """Ask for files by their names, as a person would: whether one of that name comes first, (n,) of 0 and 1."""
    rows = []
    for asset in engine.catalog.page_assets(tenant=TENANT, after=None, limit=CODES):
        stem = file_stem(engine.catalog.locations_of(TENANT, asset.id)[0])
        first = found_by(stem.upper().replace("-", "_"), blend, engine)[:1]
        rows.append(first == [asset.id])
    return np.array(rows, dtype=np.float64)


@contextmanager
def opened(data: Path | None) -> Iterator[Engine]:
    """Open a folder that has the demo catalogue, or a new one that it is put in."""
    if data is not None:
        with open_engine(load_settings(data=data, threads=1), command="benchmark") as engine:
            yield engine
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        as_file(files("phosphene.starter.demo") / "catalogue.tar") as tar,
        open_engine(load_settings(data=Path(folder), threads=1), command="benchmark") as engine,
    ):
        ingest([str(tar)], engine=engine, tenant=TENANT, progress=SilentProgress())
        yield engine


def _ms(text: str, blend: Blend, engine: Engine) -> float:
    started = perf_counter()
    found_by(text, blend, engine)
    return (perf_counter() - started) * 1000


def _shown(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.3f} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def main() -> None:
    """Ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder that has the demo catalogue")
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with opened(options.data) as engine, as_file(files("phosphene.starter.demo") / "golden.jsonl") as bundled:
        engine.warm()
        queries = look_up(
            read_golden(options.golden or bundled),
            tenant=TENANT,
            named=lambda names: engine.catalog.assets_named(TENANT, names),
        )
        measured = measure(queries, engine, rounds=options.rounds)
        print(
            f"{engine.current.model}, {engine.index.count():,} pictures, {len(queries)} golden queries; 95 % intervals"
        )
        for name, quality in measured.quality.items():
            print(f"nDCG@10 {name:22} {_shown(mean_interval(quality))}")
        for other in (PICTURE, WORDS):
            gain = difference(measured.quality[BEST], measured.quality[other])
            print(f"hybrid over {other}: {_shown(gain, '+')}")
        usual = measured.spent_ms[PICTURE]
        for name, spent in measured.spent_ms.items():
            p50, p95 = (np.percentile(spent, q) / np.percentile(usual, q) for q in (50, 95))
            print(f"time of a search over that by the picture, {name}: p50 {p50:.2f}, p95 {p95:.2f}")
        for name in (BEST, PICTURE, WORDS):
            first = mean_interval(codes_found(engine, WAYS[name]))
            print(f"the right picture first, asked for by the name of its file: {name:22} {_shown(first)}")


if __name__ == "__main__":
    main()
