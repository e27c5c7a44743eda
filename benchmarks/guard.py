"""What the guard rails refuse that they should not, and what they let through that they should not.

Asks them the titles of the demo catalogue, the golden queries, and the prompts of guard_prompts.toml (what must be
refused, in other words than the list's; harmless ones that sound near to it), and the catalogue's pictures as
embeddings that a variation would be drawn from. Prints for some thresholds of the score the shares refused; at the
default the shares refused by words, by score, and by either, with 95 % intervals, for each kind too; what is wrongly
refused and let through; and what a check costs beside embedding the prompt.

With --texts a file of harmless texts, one a line, is asked as well: docs/guard.md has the figures of 6,000 of those
that the starter's text tower was trained with (training-data/corpus.txt). With --generator the prior's embedding of
each prompt is judged as well, as generation does before it draws.

    python -m benchmarks.guard [--model starter] [--texts FILE] [--generator FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from indexer.sources import SourceOptions
from phosphene.assemble import Engine, open_engine
from phosphene.generation.guard import BLOCKED_SCORE, Guard
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.types import Float32, point_id
from phosphene.unclip.base import Generator
from phosphene.unclip.imagine import Part, Request, compose
from phosphene.unclip.loading import load_generator

THRESHOLDS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
MOST_TEXTS = 6000
PARTS = ("tuned", "later")
PROMPTS = Path(__file__).with_name("guard_prompts.toml")
Scores = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What was asked, what the score says of each, and whether words refuse it."""

    name: str
    texts: tuple[str, ...]
    scores: Scores
    by_words: Bools

    def refused(self, threshold: float) -> Bools:
        """Tell what is refused, by words or by the score."""
        return self.by_words | (self.scores >= threshold)

    def listed(self, which: Bools) -> str:
        """Name some of what was asked."""
        return "; ".join(text for text, listed in zip(self.texts, which, strict=True) if listed) or "none"


def ask_prompts(name: str, prompts: Sequence[str], guard: Guard) -> Asked:
    """Score prompts."""
    judged = guard.judge_prompts(prompts)
    words = [guard.concepts.in_words(prompt) is not None for prompt in prompts]
    return Asked(name, tuple(prompts), np.array([one.score for one in judged]), np.array(words))


def ask_pictures(name: str, texts: Sequence[str], rows: Float32, guard: Guard, generator: Generator) -> Asked:
    """Score image embeddings, which have no words."""
    judged = guard.judge_embeddings(rows, generator=generator)
    return Asked(name, tuple(texts), np.array([one.score for one in judged]), np.zeros(len(rows), dtype=np.bool_))


def interval(refused: Bools) -> str:
    """Give a share in percent with its 95 % interval (Wilson 1927), which holds near 0 and 100 too."""
    n, share, z = len(refused), float(refused.mean()), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return f"{100 * share:5.1f} ({100 * max(middle - reach, 0):4.1f} to {100 * (middle + reach):5.1f})"


def drawn_from(sort: Asked, guard: Guard, generator: Generator) -> Asked:
    """Score what the prior makes of prompts; those that are refused as prompts count as refused by words here."""
    seen = ask_pictures(f"{sort.name}: prior's", sort.texts, predicted(sort.texts, generator), guard, generator)
    return replace(seen, by_words=sort.refused(BLOCKED_SCORE))


def print_thresholds(asked: Sequence[Asked]) -> None:
    """Print the shares refused, in percent, of each sort at each threshold."""
    print(
        f"  {'percent refused at a score of':50}" + "".join(f"{threshold:>9}" for threshold in THRESHOLDS) + "    words"
    )
    for sort in asked:
        shares = "".join(f"{100 * sort.refused(threshold).mean():9.1f}" for threshold in THRESHOLDS)
        print(f"  {sort.name:44}{len(sort.texts):6}{shares}{100 * sort.by_words.mean():9.1f}")


def print_default(asked: Sequence[Asked]) -> None:
    """Print the shares refused at the default with intervals."""
    print(f"  {'percent refused by default':50}{'by words':>24}{'by the score':>24}{'by either':>24}")
    for sort in asked:
        by = (sort.by_words, sort.scores >= BLOCKED_SCORE, sort.refused(BLOCKED_SCORE))
        print(f"  {sort.name:44}{len(sort.texts):6}" + "".join(f"{interval(one):>24}" for one in by))


def predicted(prompts: Sequence[str], generator: Generator) -> Float32:
    """Give the embeddings that pictures of these prompts would be drawn from: (n, d)."""
    return np.concatenate([compose(Request((Part(prompt),)), generator=generator) for prompt in prompts])


def print_cost(guard: Guard, engine: Engine, prompts: Sequence[str]) -> None:
    """Print what a check costs beside the embedding of the prompt, which a search has made already."""

    def took(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - started)

    embedding = statistics.median(took(lambda text=text: engine.texts.embed(text)) for text in prompts)  # type: ignore[misc]
    checking = statistics.median(took(lambda text=text: guard.judge_prompts([text])) for text in prompts)  # type: ignore[misc]
    words = statistics.median(took(lambda text=text: guard.concepts.in_words(text)) for text in prompts)  # type: ignore[misc]
    print(f"a check: score {checking:.2f} ms, words {words:.2f} ms; embedding the prompt {embedding:.2f} ms")


def catalogue_rows(engine: Engine) -> tuple[list[str], Float32]:
    """Give the titles of the catalogue's pictures, and their embeddings (n, d)."""
    assets = list(engine.catalog.page_assets(tenant=TENANT, after=None, limit=10_000))
    points = [point_id(asset.id, engine.index.space.id) for asset in assets]
    found = engine.index.vectors(points)
    return [asset.title or "" for asset in assets], np.stack([found[point] for point in points])


class SearchSpace:
    """Stands in for a generator where there is none: texts in the space of the search, which the starter draws in."""

    def __init__(self, engine: Engine) -> None:
        self.card = _Card()
        self._engine = engine

    def embed_texts(self, texts: Sequence[str]) -> Float32:
        """Embed texts: (n, d)."""
        return self._engine.encoder.encode_texts(texts).rows


@dataclass(frozen=True)
class _Card:
    model: str = "the space of the search"


def report(engine: Engine, generator: Generator | None, *, texts: Sequence[str]) -> None:
    """Print everything."""
    prompts = tomllib.loads(PROMPTS.read_text(encoding="utf-8"))
    golden = (files("phosphene") / "starter" / "demo" / "golden.jsonl").read_text(encoding="utf-8").splitlines()
    guard = Guard(engine.texts, encoder=engine.encoder)
    started = time.perf_counter()
    guard.judge_prompts(["warm up"])
    print(f"the concepts are embedded once, in {time.perf_counter() - started:.2f} s")
    titles, rows = catalogue_rows(engine)
    seen: Generator = generator or SearchSpace(engine)  # type: ignore[assignment]  # it asks for texts and a name alone
    queries = [json.loads(line)["query"] for line in golden]
    harmless = [
        ask_prompts("titles of the demo", sorted(set(titles)), guard),
        ask_prompts("golden queries", queries, guard),
        *(ask_prompts(f"harmless, {part}", prompts[part]["harmless"]["prompts"], guard) for part in PARTS),
        ask_pictures("pictures of the demo", titles, rows, guard, seen),
        *([ask_prompts("texts of --texts", texts, guard)] if texts else []),
    ]
    kinds = [
        ask_prompts(f"{part}: {kind}", some, guard) for part in PARTS for kind, some in prompts[part]["refused"].items()
    ]
    refused = [
        ask_prompts(
            f"to be refused, {part}", [one for some in prompts[part]["refused"].values() for one in some], guard
        )
        for part in PARTS
    ]
    drawn = [drawn_from(sort, guard, generator) for sort in (*refused, *harmless[1:4])] if generator else []
    print_thresholds([*refused, *harmless, *drawn])
    print_default([*refused, *harmless, *drawn])
    print_default(kinds)
    for sort in harmless[:4]:
        print(f"refused, {sort.name}: {sort.listed(sort.refused(BLOCKED_SCORE))}")
    for sort in refused:
        print(f"let through, {sort.name}: {sort.listed(~sort.refused(BLOCKED_SCORE))}")
    print_cost(guard, engine, [f"{prompt} {number}" for number, prompt in enumerate(queries)])


def main() -> None:
    """Ingest the demo catalogue, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--generator", help="the name or folder of a generator; without it only the score of prompts")
    parser.add_argument("--texts", type=Path, help=f"harmless texts, one a line; {MOST_TEXTS} of them are asked")
    options = parser.parse_args()
    texts = options.texts.read_text(encoding="utf-8").splitlines() if options.texts else []
    if len(texts) > MOST_TEXTS:
        texts = [texts[at] for at in np.random.default_rng(0).choice(len(texts), MOST_TEXTS, replace=False)]
    demo = files("phosphene") / "starter" / "demo"
    with tempfile.TemporaryDirectory() as folder, as_file(demo / "catalogue.tar") as catalogue:
        settings = load_settings(data=Path(folder), model=options.model, threads=1)
        with open_engine(settings, command="benchmark") as engine:
            ingest([str(catalogue)], engine=engine, tenant=TENANT, options=SourceOptions(), progress=SilentProgress())
            generator = options.generator and load_generator(options.generator, encoder=engine.encoder, device="cpu")
            report(engine, generator or None, texts=texts)


if __name__ == "__main__":
    main()
