"""How questions of several parts are balanced, how well what is excluded is taken out, and whether templates help.

Ingests the demo catalogue, or takes a folder that has it.

    python -m benchmarks.composed [--data FOLDER]

Spreads: the standard deviation of the cosines of a picture, and of a golden question, with the background; and the
length of the mean of all pictures and of all questions, which is what the embeddings of one modality share.

Balance: a picture of the catalogue and a golden question, each of weight 1, asked together. How many of the first ten
hits are among the ten that each finds alone, added up as they are and balanced.

Exclusion: each golden question is excluded in turn, and its right pictures are those to be taken out. `lost` is the
share of right pictures of another question (among its first 50), none of which show the excluded thing.

Templates: the area under the ROC curve of the score, right pictures of a golden question against all others, mean over
questions; with the words alone, each in a sentence, and with the mean of all these.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.hybrid_search import opened
from phosphene.assemble import Engine
from phosphene.evaluation.golden import look_up, read_golden
from phosphene.nomatch.curves import auroc
from phosphene.types import DEFAULT_TENANT, point_id
from phosphene.vectors.base import Payload
from search_api.aim import Scale, words_said
from search_api.exclusion import DISTANCE, named_by

GOLDEN = Path(__file__).parents[1] / "phosphene" / "starter" / "demo" / "golden.jsonl"
PAIRS = 3000
TEMPLATES = ("a picture of {}", "a photo of {}", "a drawing of {}", "an icon of {}", "{} clip art", "{} on white")

Rows = NDArray[np.float32]
Flags = NDArray[np.bool_]
Scores = NDArray[np.floating]
Rule = Callable[[Flags, Scores], Flags]  # named by words, z-scores -> taken out


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder that has the demo catalogue")
    with opened(parser.parse_args().data) as engine:
        report(engine)


def report(engine: Engine) -> None:
    """Print everything about an engine's catalogue."""
    with engine.answering() as space:
        assets = list(engine.catalog.page_assets(tenant=DEFAULT_TENANT, after=None, limit=5000))
        points = {point_id(asset.id, space.space.id): asset for asset in assets}
        vectors = space.index.vectors(list(points))
        known = [(asset, vectors[point]) for point, asset in points.items() if point in vectors]
        rows = np.stack([vector for _, vector in known])
        place = {asset.id: at for at, (asset, _) in enumerate(known)}
        said = [_payload(asset.title, asset.metadata.get("keywords")) for asset, _ in known]
        golden = look_up(
            read_golden(GOLDEN),
            tenant=DEFAULT_TENANT,
            named=lambda names: engine.catalog.assets_named(DEFAULT_TENANT, names),
        )
        background = space.judge.background(DEFAULT_TENANT).rows

        def embedded(text: str) -> Rows:
            return np.asarray(space.texts.embed(text).rows[0])

        questions = [
            (one.text, embedded(one.text), np.isin(np.arange(len(rows)), [place[i] for i in one.gains]))
            for one in golden
            if one.gains
        ]
        _spreads(rows, background, [vector for _, vector, _ in questions])
        _balance(rows, background, [vector for _, vector, _ in questions])
        _exclusion(rows, background, said, [one for one in questions if one[2].sum() > 1])
        _templates(rows, questions, embedded)


def _payload(title: str | None, keywords: object) -> Payload:
    listed = [word for word in keywords if isinstance(word, str)] if isinstance(keywords, list) else []
    return {"title": title, "keywords": listed}


def _spreads(rows: Rows, background: Rows, texts: list[Rows]) -> None:
    for name, vectors in (("a picture", list(rows)), ("a text", texts)):
        spread = np.mean([Scale.of(vector, background).spread for vector in vectors])
        shared = float(np.linalg.norm(np.mean(vectors, axis=0)))
        print(f"the cosines of {name} spread by {spread:.3f}; the mean of all has length {shared:.2f}")


def _balance(rows: Rows, background: Rows, texts: list[Rows]) -> None:
    random = np.random.default_rng(0)
    shares: dict[str, list[tuple[int, int]]] = {"added up as they are": [], "balanced": []}
    for _ in range(PAIRS):
        asset, text = int(random.integers(len(rows))), texts[random.integers(len(texts))]
        picture = rows[asset]
        spreads = Scale.of(picture, background).spread, Scale.of(text, background).spread
        alone = [set(_first(rows, one, 11, asset)) for one in (picture, text)]
        for name, (a, b) in (("added up as they are", (1.0, 1.0)), ("balanced", spreads)):
            found = set(_first(rows, picture / a + text / b, 11, asset))
            shares[name].append((len(found & alone[0]), len(found & alone[1])))
    for name, counts in shares.items():
        picture_share, text_share = np.mean(counts, axis=0)
        print(f"{name}: of ten hits {picture_share:.1f} are the picture's, {text_share:.1f} the text's")


def _first(rows: Rows, vector: Rows, count: int, but: int) -> list[int]:
    return [int(at) for at in np.argsort(-(rows @ vector), kind="stable")[:count] if at != but][:10]


def _exclusion(rows: Rows, background: Rows, said: list[Payload], questions: list[tuple[str, Rows, Flags]]) -> None:
    words = [words_said(payload) for payload in said]
    evidence = []
    for text, vector, right in questions:
        scale = Scale.of(vector, background)
        named = np.array([any(one <= carried for one in named_by(text)) for carried in words])
        evidence.append((named, (rows @ vector - scale.mean) / scale.spread, right, vector))
    rules: dict[str, Rule] = {
        "by words alone": lambda named, _: named,
        "by the score alone": lambda _, z: z >= DISTANCE,
        "by both": lambda named, z: named | (z >= DISTANCE),
    }
    for name, rule in rules.items():
        out = [(rule(named, z), right) for named, z, right, _ in evidence]
        found = np.mean([(taken & right).sum() / right.sum() for taken, right in out])
        wrongly = np.mean([(taken & ~right).sum() / (~right).sum() for taken, right in out])
        lost = [
            taken[_right_among(rows, vector, right, 50)].mean()
            for _, _, right, vector in evidence
            for taken, shown in out
            if not (shown & right).any() and len(_right_among(rows, vector, right, 50))
        ]
        print(
            f"{name}: takes out {found:.1%} of what shows it, {wrongly:.1%} of what does not; lost {np.mean(lost):.1%}"
        )
    for weight in (0.25, 0.5, 1.0):
        lost, left = [], []
        for _, _, right, vector in evidence:
            before = np.argsort(-(rows @ vector))[:10]
            for _, _, shown, other in evidence:
                if other is vector:
                    continue
                after = np.argsort(-(rows @ (vector - weight * other)))[:10]
                if (shown & right).any():
                    left.append(shown[after].sum() / max(shown[before].sum(), 1))
                elif right[before].any():
                    lost.append(1 - right[after].sum() / right[before].sum())
        print(
            f"subtracted with {weight}: {np.mean(left):.0%} of what shows it stays among ten; lost {np.mean(lost):.1%}"
        )


def _templates(rows: Rows, questions: Sequence[tuple[str, Rows, Flags]], embedded: Callable[[str], Rows]) -> None:
    def area(vectors: Sequence[Rows]) -> float:
        pairs = zip(vectors, questions, strict=True)
        return float(np.mean([auroc((rows @ one).astype(np.float64), right) for one, (_, _, right) in pairs]))

    print(f"the words alone: AUROC {area([vector for _, vector, _ in questions]):.3f}")
    dressed = {
        template: [embedded(template.format(text)) for text, _, _ in questions] for template in ("{}", *TEMPLATES)
    }
    for template in TEMPLATES:
        print(f"{template}: AUROC {area(dressed[template]):.3f}")
    for name, some in (("the words and all of these", dressed), ("all of these", dict.fromkeys(TEMPLATES))):
        mean = [np.mean([dressed[template][at] for template in some], axis=0) for at in range(len(questions))]
        print(f"the mean of {name}: AUROC {area(mean):.3f}")


def _right_among(rows: Rows, vector: Rows, right: Flags, count: int) -> NDArray[np.int64]:
    ranked = np.argsort(-(rows @ vector))[:count]
    return np.asarray(ranked[right[ranked]])


if __name__ == "__main__":
    main()
