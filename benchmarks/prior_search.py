"""What `prior_search` finds that a text alone misses, what it spoils, what its hits are worth, and what it costs.

Ingests the demo catalogue, calibrates, and asks it the titles of its own pictures, which neither CLIP nor the prior was
trained on. A picture of that title is right. Prints, with 95 % intervals (Wilson 1927):

- of the captions whose right pictures the text misses among the first 10, how many prior_search finds there (rescued);
  of those where the text has one, how many lose it (spoiled), and how many right first hits are won and lost. A text
  that is a match is not searched again, so nothing of it changes;
- the same if every caption were searched again, and with the prior's embedding alone;
- what the calibrated decision would say of the prior's best hit, judged by the text, where it calls the text's own best
  hit no match: how often it would then call a match what is wrong, with right pictures in place and taken out;
- the time of an unmatched search with the prior as a ratio to the plain one in the same run, each text asked once.

    python -m benchmarks.prior_search [--model starter] [--generator starter] [--captions N]
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from indexer.sources import SourceOptions
from phosphene.assemble import Engine, open_engine
from phosphene.filters import tenant_filter
from phosphene.generation.retrieve import CANDIDATES, STEPS, TOWARDS_PRIOR, towards
from phosphene.nomatch.background import Background, sample_background
from phosphene.nomatch.calibration import Calibration
from phosphene.nomatch.decision import gather
from phosphene.nomatch.evidence import HEAD
from phosphene.nomatch.rightness import Described
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.types import AssetId, Float32, Modality
from phosphene.vectors.base import ScoredPoint, VectorQuery, asset_of
from search_api.search import SearchQuery, run_search

TOP = 10
MOST_USES = 5  # pictures that share a title; with more it says little
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Caption:
    """A title, and the pictures that carry it."""

    text: str
    right: frozenset[AssetId]


def captions_of(engine: Engine, most: int | None) -> list[Caption]:
    """Give the titles of the catalogue that say something, in a shuffled order that is always the same."""
    carried: dict[str, set[AssetId]] = defaultdict(set)
    for asset in engine.catalog.page_assets(tenant=TENANT, after=None, limit=10_000):
        if asset.title is not None:
            carried[asset.title.casefold()].add(asset.id)
    said = [
        Caption(title, frozenset(right))
        for title, right in sorted(carried.items())
        if len(right) <= MOST_USES and re.search("[a-z]", title)
    ]
    order = np.random.default_rng(0).permutation(len(said))
    return [said[at] for at in order[:most]]


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The place of the best right picture for each caption, 0 is the first."""

    text: NDArray[np.int64]
    mixed: NDArray[np.int64]
    prior: NDArray[np.int64]
    matched: Bools  # by the text itself


def percent(part: int, whole: int) -> str:
    """Give a share in percent with its interval."""
    if whole == 0:
        return "none"
    share, z = part / whole, 1.96
    middle = (share + z * z / (2 * whole)) / (1 + z * z / whole)
    reach = z / (1 + z * z / whole) * float(np.sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole)))
    low, high = max(middle - reach, 0.0), min(middle + reach, 1.0)
    return f"{part} of {whole}: {100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def print_changes(name: str, before: NDArray[np.int64], after: NDArray[np.int64]) -> None:
    """Print what one way of searching finds that another misses, and the other way round."""
    print(f"{name}: right among the first {TOP}: {percent(int((after < TOP).sum()), len(after))}")
    for first, what in ((TOP, f"among the first {TOP}"), (1, "first")):
        missed = before >= first
        rescued, spoiled = int((missed & (after < first)).sum()), int((~missed & (after >= first)).sum())
        print(
            f"  {what}: rescued {percent(rescued, int(missed.sum()))}; spoiled {percent(spoiled, int((~missed).sum()))}"
        )


def place(points: Sequence[ScoredPoint], right: frozenset[AssetId]) -> int:
    """Give the place of the best right picture."""
    return next(at for at, point in enumerate(points) if asset_of(point) in right)


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """All pictures in the order of a text, of what the prior makes of it, and of the prior alone."""

    text: list[ScoredPoint]
    mixed: list[ScoredPoint]
    prior: list[ScoredPoint]
    vector: Float32


def look(engine: Engine, caption: str, pictures: int) -> Looked:
    """Search the whole catalogue in three ways."""
    text, predicted = engine.texts.embed(caption), engine.predictor.predict(caption)
    rows = (text.rows[0], towards(text, predicted).rows[0], predicted.rows[0])
    by_text, mixed, prior = engine.index.query(
        [VectorQuery(row, pictures, tenant_filter(TENANT, None)) for row in rows]
    )
    return Looked(by_text, mixed, prior, text.rows[0])


@dataclass(frozen=True, slots=True)
class Second:
    """The calibrated decision on a question: of the text's best hit, and of the prior's best hit by the same text."""

    own: bool
    prior: bool
    right: bool  # the prior's best hit


class SecondLook:
    """Judges the prior's hits by the text, as if it were the text that had found them."""

    def __init__(self, engine: Engine, calibration: Calibration) -> None:
        self._engine, self._calibration = engine, calibration
        self._background = sample_background(TENANT, catalog=engine.catalog, index=engine.index)
        assets = engine.catalog.page_assets(tenant=TENANT, after=None, limit=10_000)
        self._looks = {asset.id: Described.of(asset) for asset in assets}

    def judge(self, looked: Looked, caption: Caption) -> tuple[Second | None, Second | None]:
        """Judge with right pictures in place, and with them and those that look like them taken out."""
        phashes = [self._looks[id_].phash for id_ in caption.right]
        out = frozenset(id_ for id_, one in self._looks.items() if id_ in caption.right or one.looks_like(phashes))
        return self._one(looked, caption, frozenset()), self._one(looked, caption, out)

    def _one(self, looked: Looked, caption: Caption, gone: frozenset[AssetId]) -> Second | None:
        own = [point for point in looked.text if asset_of(point) not in gone]
        scores = {point.id: point.score for point in own}
        found = [replace(point, score=scores[point.id]) for point in looked.mixed if point.id in scores][:HEAD]
        background = self._background.without(gone)
        by_text = self._called(looked.vector, own[:HEAD], background, caption)
        if by_text is None:
            return None
        # Evidence takes hits best first: the prior's first ten in the order of the text, its first one at the top.
        ordered = [found[0], *sorted(found[1:], key=lambda point: -point.score)]
        again = self._called(looked.vector, ordered, background, caption)
        return Second(by_text, bool(again), asset_of(found[0]) in caption.right)

    def _called(
        self, vector: Float32, points: list[ScoredPoint], background: Background, caption: Caption
    ) -> bool | None:
        found = gather(
            vector,
            points,
            background=background,
            index=self._engine.index,
            words=self._engine.judge.words,
            share=1.0,
            hidden=caption.text,  # the caption itself is not heard where hits carry it: it would be the answer
        )
        return None if found is None else self._calibration.probability(found) >= self._calibration.threshold


def print_second_look(name: str, looks: Sequence[Second]) -> None:
    """Print what would be called a match if the prior's best hit were judged too."""
    unmatched = [one for one in looks if not one.own]
    called = [one for one in unmatched if one.prior]
    print(
        f"  {name}: of unmatched, the prior's best hit would be called a match {percent(len(called), len(unmatched))}"
    )
    print(f"    and be right {percent(sum(one.right for one in called), len(called))}")


def print_cost(engine: Engine, captions: Sequence[Caption]) -> None:
    """Print the time of an unmatched search with the prior over that without, both uncached."""
    spent: dict[bool, list[float]] = {False: [], True: []}
    for number, caption in enumerate(captions):
        ways = (False, True) if number % 2 else (True, False)
        answers = []
        for prior in ways:
            query = SearchQuery(text=f"{caption.text} {number} {prior}", prior_search=prior, limit=TOP)
            started = perf_counter()
            answers.append((prior, run_search(query, engine=engine, tenant=TENANT), perf_counter() - started))
        if not any(answer.match.matched for _, answer, _ in answers):
            for prior, _, seconds in answers:
                spent[prior].append(1000 * seconds)
    plain, searched = float(np.median(spent[False])), float(np.median(spent[True]))
    print(f"an unmatched search: {plain:.1f} ms, with the prior {searched:.1f} ms: ratio {searched / plain:.1f}")


def main() -> None:
    """Ingest, calibrate, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument(
        "--generator", default="starter", help="the name or folder of a generator in that model's space"
    )
    parser.add_argument("--captions", type=int, help="so many of them; all if not given")
    options = parser.parse_args()
    demo = files("phosphene") / "starter" / "demo"
    with tempfile.TemporaryDirectory() as folder, as_file(demo / "catalogue.tar") as catalogue:
        settings = load_settings(data=Path(folder), model=options.model, generator=options.generator, threads=1)
        with open_engine(settings, command="benchmark") as engine:
            ingest([str(catalogue)], engine=engine, tenant=TENANT, options=SourceOptions(), progress=SilentProgress())
            engine.warm()
            engine.calibrate(TENANT)
            report(engine, captions_of(engine, options.captions))


def report(engine: Engine, captions: Sequence[Caption]) -> None:
    """Print everything."""
    pictures = len(list(engine.catalog.page_assets(tenant=TENANT, after=None, limit=10_000)))
    standing = engine.judge.standing(TENANT)
    calibration = next(one.calibration for one in standing if one.calibration.modality is Modality.TEXT)
    second = SecondLook(engine, calibration)
    print(f"{len(captions)} captions, {pictures} pictures")
    print(f"the prior: mean of {CANDIDATES} candidates of {STEPS} steps, {TOWARDS_PRIOR} of the way from the text")
    places: list[tuple[int, int, int]] = []
    matched, in_place, taken_out = [], [], []
    for caption in captions:
        looked = look(engine, caption.text, pictures)
        places.append(
            (place(looked.text, caption.right), place(looked.mixed, caption.right), place(looked.prior, caption.right))
        )
        query = SearchQuery(text=caption.text, limit=TOP)
        matched.append(run_search(query, engine=engine, tenant=TENANT).match.matched)
        with_all, without = second.judge(looked, caption)
        in_place += [with_all] if with_all is not None else []
        taken_out += [without] if without is not None else []
    text, mixed, prior = np.array(places).T
    ranks = Ranks(text, mixed, prior, np.array(matched))
    print(f"the text alone: right among the first {TOP}: {percent(int((text < TOP).sum()), len(text))}")
    print(f"the text is a match, and not searched again: {percent(sum(matched), len(matched))}")
    print_changes("prior_search", ranks.text, np.where(ranks.matched, ranks.text, ranks.mixed))
    print_changes("prior_search of every caption", ranks.text, ranks.mixed)
    print_changes("the prior alone of every caption", ranks.text, ranks.prior)
    uses = Counter(len(caption.right) for caption in captions)
    print(f"captions by pictures that carry them: {dict(sorted(uses.items()))}")
    print("the prior's best hit, judged by the text")
    print_second_look("right ones in place", in_place)
    print_second_look("right ones taken out", taken_out)
    print_cost(engine, captions[:200])


if __name__ == "__main__":
    main()
