"""Whether the decision `match` tells right best hits from wrong ones, whether its promises hold, and what it costs.

Ingests the demo catalogue and asks it its own captions and pictures as `phosphene calibrate` does, in place and taken
out. Captions are dealt into five parts; a model fitted on four judges the fifth, so that every figure is of captions
that were not used to fit. What counts as right is said in phosphene/nomatch/rightness.py. Prints, with 95 % bootstrap
intervals over captions:

- AUROC and average precision of raw cosine, of the z-score rule, and of the decision without and with the pictures'
  words;
- predicted against observed in 10 bins, over five ways to deal the parts, the largest gap of the quantile bins, and how
  large that gap would be by chance alone if every probability were exact;
- the promised against the observed false-match rate;
- the same on the golden queries, which people wrote and judged: nothing is fitted on them;
- what the decision adds to a search in the same run: its share of the time of the rest.

    python -m benchmarks.match_decision [--model starter] [--rounds 6]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from zlib import crc32

import numpy as np

from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from indexer.sources import SourceOptions
from phosphene.assemble import Engine, open_engine
from phosphene.filters import Equals, Filter, tenant_filter
from phosphene.nomatch.asking import Examination
from phosphene.nomatch.background import sample_background
from phosphene.nomatch.calibration import FALSE_MATCH_RATE, Trials
from phosphene.nomatch.curves import (
    Interval,
    auroc,
    average_precision,
    bootstrap,
    reliability,
    threshold_for,
)
from phosphene.nomatch.decision import gather
from phosphene.nomatch.evidence import FEATURES, GROUPS, HEAD, Z_SCORE, Float64
from phosphene.nomatch.logistic import Bools, Integers, LogisticModel, cross_validated, sigmoid
from phosphene.nomatch.rightness import Described
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.types import AssetId
from phosphene.vectors.base import VectorQuery, asset_of
from search_api.search import SearchQuery, run_search

TOP = FEATURES.index("top")
WORDLESS = tuple(name for name in FEATURES if name not in GROUPS["words"])
PARTS = 5
DEALINGS = 5
DEEP = 256  # hits of a golden query among which its right ones are


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the decision says of questions whose captions it has not seen."""

    trials: Trials
    wordless: Float64
    decided: Float64
    called: Bools  # a match, by the threshold of what it was fitted on


def judge_unseen(trials: Trials, asked: Trials, *, dealing: int) -> Judged:
    """Fit on all parts but one of the captions of `trials`, judge what was `asked` about that one's; part by part."""
    wordless, decided = np.empty(len(asked)), np.empty(len(asked))
    called = np.empty(len(asked), dtype=np.bool_)
    for number in range(PARTS):
        fitting, unseen = _part(trials.groups, dealing) != number, _part(asked.groups, dealing) == number
        rows, right, groups = trials.evidence[fitting], trials.right[fitting], trials.groups[fitting]
        plain = cross_validated(rows, right, groups, features=WORDLESS)
        wordless[unseen] = plain.model.probabilities(asked.evidence[unseen])
        fitted = cross_validated(rows, right, groups, features=FEATURES)
        threshold = threshold_for(sigmoid(fitted.logits), right, false_match_rate=FALSE_MATCH_RATE)
        decided[unseen] = fitted.model.probabilities(asked.evidence[unseen])
        called[unseen] = decided[unseen] >= threshold
    return Judged(asked, wordless, decided, called)


def _part(groups: Integers, dealing: int) -> Integers:
    return np.array([crc32(f"{dealing} {group}".encode()) % PARTS for group in groups.tolist()])


def print_discrimination(
    evidence: Float64, right: Bools, groups: Integers, scores: Sequence[tuple[str, Float64]]
) -> None:
    """Print AUROC and average precision of each score, and what the last one gains over raw cosine."""
    cosine = evidence[:, TOP]
    for name, by in (("raw cosine", cosine), ("z-score rule", evidence[:, Z_SCORE]), *scores):
        area = bootstrap(lambda rows, by=by: auroc(by[rows], right[rows]), groups)  # type: ignore[misc]
        precision = bootstrap(lambda rows, by=by: average_precision(by[rows], right[rows]), groups)  # type: ignore[misc]
        print(f"  {name:26} AUROC {_told(area)}   average precision {_told(precision)}")
    best = scores[-1][1]
    gain = bootstrap(lambda rows: auroc(best[rows], right[rows]) - auroc(cosine[rows], right[rows]), groups)
    print(f"  gain over raw cosine       AUROC {_told(gain)}")


def print_holding(dealt: Sequence[Judged]) -> None:
    """Print reliability and the false-match rate, over several ways to deal the same questions."""
    trials = dealt[0].trials
    right, groups = np.tile(trials.right, len(dealt)), np.tile(trials.groups, len(dealt))
    decided = np.concatenate([one.decided for one in dealt])
    called = np.concatenate([one.called for one in dealt])
    print(f"  predicted / observed, ten bins of as many questions, dealt {len(dealt)} times:")
    bins = reliability(decided, right)
    print("   " + "  ".join(f"{100 * part.predicted:.1f}/{100 * part.observed:.1f}" for part in bins))
    print(f"  largest gap {_gap(decided, right):.1f} points; by chance alone up to {_gap_by_chance(dealt):.1f} (95 %)")
    each = ", ".join(f"{_gap(one.decided, one.trials.right):.1f}" for one in dealt)
    print(f"  of each dealing by itself: {each}")
    wrong = np.flatnonzero(~right)
    observed = bootstrap(lambda rows: float(called[wrong[rows]].mean()), groups[wrong])
    hits = np.flatnonzero(right)
    missed = bootstrap(lambda rows: float((~called[hits[rows]]).mean()), groups[hits])
    print(f"  false-match rate promised {FALSE_MATCH_RATE:.3f}, observed {_told(observed)}; missed {_told(missed)}")


def _gap(probabilities: Float64, right: Bools) -> float:
    return 100 * max(abs(part.predicted - part.observed) for part in reliability(probabilities, right))


def _gap_by_chance(dealt: Sequence[Judged], *, draws: int = 400) -> float:
    chance = np.random.default_rng(0)
    decided = [one.decided for one in dealt]
    true = np.mean(decided, axis=0)
    gaps = [
        _gap(np.concatenate(decided), np.tile(drawn, len(dealt)))
        for drawn in (chance.random(len(true)) < true for _ in range(draws))
    ]
    return float(np.quantile(gaps, 0.95))


def ask_golden(engine: Engine, golden: Sequence[tuple[str, frozenset[str]]]) -> Trials:
    """Ask queries that people judged, with the right pictures in place and with them and their lookalikes taken out."""
    assets = {asset.id: asset for asset in engine.catalog.page_assets(tenant=TENANT, after=None, limit=10_000)}
    names = {id_: _file_names(engine, id_) for id_ in assets}
    looks = {id_: Described.of(asset) for id_, asset in assets.items()}
    background = sample_background(TENANT, catalog=engine.catalog, index=engine.index)
    rows, right, groups = [], [], []
    for group, (query, relevant) in enumerate(golden):
        vector = engine.texts.embed(query).rows[0]
        points = engine.index.query([VectorQuery(vector, DEEP, tenant_filter(TENANT, None))])[0]
        good = {id_ for id_ in assets if names[id_] & relevant}
        phashes = [looks[id_].phash for id_ in good]
        out = frozenset(id_ for id_ in assets if id_ in good or looks[id_].looks_like(phashes))
        for gone in (frozenset[AssetId](), out):
            left = [point for point in points if asset_of(point) not in gone]
            row = gather(
                vector,
                left[:HEAD],
                background=background.without(gone),
                index=engine.index,
                words=engine.judge.words,
                share=1.0,
            )
            if row is not None:
                rows.append(row)
                right.append(asset_of(left[0]) in good)
                groups.append(group)
    return Trials(np.array(rows), np.array(right), np.array(groups))


def _file_names(engine: Engine, asset: AssetId) -> set[str]:
    return {
        uri.replace("#", "/").replace("::", "/").rpartition("/")[2]
        for uri in engine.catalog.locations_of(TENANT, asset)
    }


def print_cost(engine: Engine, queries: Sequence[str], rounds: int) -> None:
    """Print the decision's time over the time of the rest of the same search, each text asked once."""
    filters: tuple[tuple[str, Filter | None], ...] = (
        ("no filter", None),
        ("a filter", Equals("category", "animals")),
    )
    for name, asked in filters:
        shares = []
        for number in range(rounds):
            for query in queries:
                text = f"{query} {name} {number}"  # not cached
                timing = run_search(SearchQuery(text=text, filter=asked), engine=engine, tenant=TENANT).timing_ms
                shares.append((timing.match, timing.total - timing.match))
        ours, rest = np.median(shares, axis=0)
        print(f"  {name:10} median {ours:.2f} ms beside {rest:.2f} ms: {100 * ours / rest:.1f} %")


def _told(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def main() -> None:
    """Ingest, ask, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    demo = files("phosphene") / "starter" / "demo"
    golden = [json.loads(line) for line in (demo / "golden.jsonl").read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder, as_file(demo / "catalogue.tar") as catalogue:
        settings = load_settings(data=Path(folder), model=options.model, threads=1)
        with open_engine(settings, command="benchmark") as engine:
            source = [str(catalogue)]
            done = ingest(source, engine=engine, tenant=TENANT, options=SourceOptions(), progress=SilentProgress())
            print(f"{options.model} on the demo catalogue, {done.counts.added:,} pictures")
            report(engine, [(one["query"], frozenset(one["relevant"])) for one in golden], rounds=options.rounds)


def report(engine: Engine, golden: Sequence[tuple[str, frozenset[str]]], *, rounds: int) -> None:
    """Print everything about an engine's catalogue."""
    engine.warm()
    examination = Examination(TENANT, catalog=engine.catalog, index=engine.index, words=engine.judge.words)
    texts = examination.ask_texts()
    pictures = examination.ask_pictures()
    asked = (
        ("captions as texts", texts, texts),
        ("the same, no caption heard as a witness of its own", texts, examination.ask_texts(heard=0.0)),
        ("pictures as pictures", pictures, pictures),
    )
    for name, fitted_on, trials in asked:
        dealt = [judge_unseen(fitted_on, trials, dealing=dealing) for dealing in range(DEALINGS)]
        captions = len(np.unique(trials.groups))
        print(f"{name}: {len(trials):,} questions on {captions:,} captions, {trials.right.mean():.0%} right")
        scores = (("decision without words", dealt[0].wordless), ("decision", dealt[0].decided))
        print_discrimination(trials.evidence, trials.right, trials.groups, scores)
        print_holding(dealt)

    for outcome in engine.calibrate(TENANT):
        if outcome.calibration is None:
            print(f"not calibrated: {outcome.reason}")
    model = next(one.calibration.model for one in engine.judge.standing(TENANT))
    print_golden(ask_golden(engine, golden), model, texts)
    print("what the decision adds to a text search:")
    print_cost(engine, [query for query, _ in golden], rounds)


def print_golden(trials: Trials, model: LogisticModel, captions: Trials) -> None:
    """Print how a model fitted on captions judges the golden queries."""
    decided = model.probabilities(trials.evidence)
    print(f"golden queries: {len(trials)} questions, {trials.right.mean():.0%} right")
    print_discrimination(trials.evidence, trials.right, trials.groups, (("decision", decided),))
    fitted = cross_validated(captions.evidence, captions.right, captions.groups, features=FEATURES)
    threshold = threshold_for(sigmoid(fitted.logits), captions.right, false_match_rate=FALSE_MATCH_RATE)
    wrong = np.flatnonzero(~trials.right)
    observed = bootstrap(lambda rows: float((decided[wrong[rows]] >= threshold).mean()), trials.groups[wrong])
    print(f"  right on average: predicted {decided.mean():.3f}, observed {trials.right.mean():.3f}")
    print(f"  false-match rate promised {FALSE_MATCH_RATE:.3f}, observed {_told(observed)}")


if __name__ == "__main__":
    main()
