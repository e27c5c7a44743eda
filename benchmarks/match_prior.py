"""Whether the prior's embedding of a question tells more of its best hit than the decision knows already, and its cost.

Asks the demo catalogue its own captions as `phosphene calibrate` does. For each question the prior predicts what a
picture of the caption would look like; its cosine with the best hit, and where that stands above those of other hits (a
z-score), are two more witnesses. A logistic model weighs them beside the log odds of the decision; whatever judges a
caption was fitted on others. Prints AUROC without and with the prior, for the decision and for one that hears no words,
with 95 % bootstrap intervals over captions, and what a prediction takes over the rest of a search in the same run.

    python -m benchmarks.match_prior [--model starter]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.match_decision import WORDLESS
from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from phosphene.assemble import Engine, open_engine
from phosphene.nomatch.asking import Examination, Question
from phosphene.nomatch.background import Background
from phosphene.nomatch.curves import Interval, auroc, bootstrap
from phosphene.nomatch.evidence import FEATURES, Float64
from phosphene.nomatch.logistic import Bools, Integers, cross_validated, folds, weigh
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.types import PointId
from phosphene.vectors.base import ScoredPoint
from search_api.search import SearchQuery, run_search

TIMED = 40  # searches


@dataclass
class Asked:
    """Captions in the order of the rows of evidence, and the best hit of each."""

    captions: list[str] = field(default_factory=list)
    tops: list[PointId] = field(default_factory=list)


class Noting(Examination):
    """Notes what each row of evidence is of."""

    asked: Asked

    def evidence_of(self, question: Question, points: Sequence[ScoredPoint], background: Background) -> Float64 | None:
        """Note whose evidence it is, too."""
        found = super().evidence_of(question, points, background)
        if found is not None:
            self.asked.captions.append(question.caption or "")
            self.asked.tops.append(points[0].id)
        return found


def witnesses(asked: Asked, engine: Engine) -> Float64:
    """Give the cosine of what the prior predicts with the best hit, and its z-score among other best hits: (n, 2)."""
    with engine.answering() as space:
        expected = {text: space.predictor.predict(text).rows[0] for text in dict.fromkeys(asked.captions)}
    vectors = engine.index.vectors(list(set(asked.tops)))
    sample = np.stack(list(vectors.values())[:512])
    rows = []
    for caption, top in zip(asked.captions, asked.tops, strict=True):
        cosine, others = float(expected[caption] @ vectors[top]), sample @ expected[caption]
        rows.append((cosine, (cosine - float(others.mean())) / float(others.std())))
    return np.array(rows)


def stacked(columns: Float64, right: Bools, groups: Integers) -> Float64:
    """Weigh columns (n, k) on all folds but one, judge that one: log odds (n,)."""
    judged, fold = np.empty(len(right)), folds(groups, seed=1)
    scaled = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    for number in np.unique(fold):
        inside = fold == number
        weights, intercept = weigh(scaled[~inside], right[~inside], 1.0)
        judged[inside] = scaled[inside] @ weights + intercept
    return judged


def _told(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def report(engine: Engine) -> None:
    """Print everything about an engine's catalogue."""
    examination = Noting(TENANT, catalog=engine.catalog, index=engine.index, words=engine.judge.words)
    examination.asked = Asked()
    trials = examination.ask_texts()
    prior = witnesses(examination.asked, engine)
    right, groups = trials.right, trials.groups
    print(f"{len(trials):,} questions on {len(np.unique(groups)):,} captions")
    alone = bootstrap(lambda rows: auroc(prior[rows, 0], right[rows]), groups)
    print(f"  the prior's cosine alone          AUROC {_told(alone)}")
    for name, features in (("without words", WORDLESS), ("decision", FEATURES)):
        known = cross_validated(trials.evidence, right, groups, features=features).logits
        told = stacked(np.column_stack([known, prior]), right, groups)
        before = bootstrap(lambda rows, by=known: auroc(by[rows], right[rows]), groups)  # type: ignore[misc]
        after = bootstrap(lambda rows, by=told: auroc(by[rows], right[rows]), groups)  # type: ignore[misc]
        gain = bootstrap(
            lambda rows, a=told, b=known: auroc(a[rows], right[rows]) - auroc(b[rows], right[rows]),  # type: ignore[misc]
            groups,
        )
        print(f"  {name:14} {_told(before)}, with the prior {_told(after)}, gain {_told(gain)}")
    shares = []
    with engine.answering() as space:
        for number in range(TIMED):
            text = f"a thing with number {number}"  # not remembered
            search = run_search(SearchQuery(text=text), engine=engine, tenant=TENANT).timing_ms.total
            started = perf_counter()
            space.predictor.predict(text)
            shares.append((1000 * (perf_counter() - started), search))
    predicting, searching = np.median(shares, axis=0)
    print(
        f"  a prediction takes {predicting:.1f} ms beside a search of {searching:.1f} ms: {predicting / searching:.0%}"
    )


def main() -> None:
    """Ingest, ask, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    demo = files("phosphene") / "starter" / "demo" / "catalogue.tar"
    with tempfile.TemporaryDirectory() as folder, as_file(demo) as catalogue:
        settings = load_settings(data=Path(folder), model=options.model, threads=1)
        with open_engine(settings, command="benchmark") as engine:
            ingest([str(catalogue)], engine=engine, tenant=TENANT, progress=SilentProgress())
            engine.warm()
            report(engine)


if __name__ == "__main__":
    main()
