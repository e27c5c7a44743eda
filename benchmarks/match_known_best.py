"""How near the decision comes to the best possible one, in a made space where that is known.

A world of 300 clusters on the sphere, half of them loose and half of look-alikes: things are drawn around the centres
(von Mises-Fisher). Half of what people ask for is in the catalogue, half is not. A question is drawn around a thing,
every second one precisely and the others vaguely, and nobody is told which. So the posterior probability that the top
hit is what was meant is known exactly:

    P(top | q) = sum_k C(k) exp(k q.top) / N  /  sum_k C(k) ( sum_i exp(k q.x_i) / N + E_x exp(k q.x) )

with k over the two precisions, x_i the N pictures, C(k) the constant that makes the density average to 1 over the
sphere, and, for a thing x that is not in the catalogue, E_x exp(k q.x) = mean over clusters of C(m) / C(|m c + k q|), m
being the concentration of a cluster around its centre c.

No decision that sees only question and catalogue can do better. Ours is fitted on questions of the same world and
never told of clusters or precisions. Prints AUROC of both on unseen questions, with bootstrap intervals.

    python -m benchmarks.match_known_best [--worlds 3] [--pictures 2000] [--fit 6000] [--test 4000]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import UUID

import numpy as np

from phosphene.nomatch.background import SIZE, Background
from phosphene.nomatch.calibration import Trials, fit_calibration
from phosphene.nomatch.curves import Interval, auroc, bootstrap
from phosphene.nomatch.decision import gather
from phosphene.nomatch.evidence import FEATURES, Float64
from phosphene.nomatch.logistic import Integers
from phosphene.nomatch.words import WordEmbeddings
from phosphene.types import (
    AssetId,
    Modality,
    Pixels,
    PixelSpec,
    PointId,
    RawEmbeddings,
    Sha256,
    Space,
    UnitEmbeddings,
)
from phosphene.vectors.base import VectorIndex, VectorQuery, asset_of
from phosphene.vectors.edge import EdgeIndex

DIMENSION = 48
CLUSTERS = 300
CLUSTERING = (20.0, 600.0)  # concentration of things around their centre: loose clusters, and look-alikes
PRECISION = (40.0, 200.0)  # concentration of questions around what they mean
SPACE = Space("made", DIMENSION, Sha256("0" * 64), PixelSpec(size=32))


class Wordless:
    """Stands where an encoder is asked for: this world has no words."""

    space = SPACE
    logit_scale = 1.0

    def encode_texts(self, texts: object) -> RawEmbeddings:
        """Never called."""
        raise NotImplementedError

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        """Never called."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Evidence on questions with known answers, and the best possible probability for each."""

    trials: Trials
    best: Float64  # (n,)


@dataclass(frozen=True, slots=True)
class Compared:
    """AUROC of the top cosine, of our decision and of the best possible one, and what ours falls short."""

    cosine: Interval
    ours: Interval
    best: Interval
    short: Interval


class World:
    """The made space and a catalogue in it."""

    def __init__(self, pictures: int, *, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._centres = _unit(self._random.standard_normal((CLUSTERS, DIMENSION)))
        self.things = self._draw_things(pictures)
        self._clustering = np.where(np.arange(CLUSTERS) % 2 == 0, *CLUSTERING)

    def questions(self, count: int) -> tuple[Float64, Integers]:
        """Draw questions (n, d) and which picture each means (n,), -1 for one that the catalogue lacks."""
        meant = self._random.integers(0, len(self.things), count)
        meant[count // 2 :] = -1
        things = np.where((meant >= 0)[:, None], self.things[meant], self._draw_things(count))
        precise = self._random.random(count) < 0.5
        vectors = np.where(precise[:, None], self._around(things, PRECISION[1]), self._around(things, PRECISION[0]))
        return vectors, meant

    def best(self, vector: Float64, top: int) -> float:
        """Give the posterior probability that the top hit is what a question means."""
        there, centres = self.things @ vector, self._centres @ vector
        meant = everything = 0.0
        for precision in PRECISION:
            present = np.exp(_log_constant(np.array(precision)) + precision * there)
            length = np.sqrt(self._clustering**2 + precision**2 + 2 * self._clustering * precision * centres)
            absent = np.exp(
                _log_constant(np.array(precision)) + _log_constant(self._clustering) - _log_constant(length)
            )
            meant += present[top] / len(present)
            everything += present.mean() + absent.mean()
        return float(meant / everything)

    def _draw_things(self, count: int) -> Float64:
        cluster = self._random.integers(0, CLUSTERS, count)
        centres = self._centres[cluster]
        loose, alike = (self._around(centres, concentration) for concentration in CLUSTERING)
        return np.where((cluster % 2 == 0)[:, None], loose, alike)

    def _around(self, centres: Float64, concentration: float) -> Float64:
        """Draw from the von Mises-Fisher distribution around each row (Wood 1994)."""
        count, rest = len(centres), DIMENSION - 1
        b = rest / (2 * concentration + np.sqrt(4 * concentration**2 + rest**2))
        x = (1 - b) / (1 + b)
        offset = concentration * x + rest * np.log(1 - x * x)
        along = np.empty(count)
        wanted = np.arange(count)
        while len(wanted):
            beta = self._random.beta(rest / 2, rest / 2, len(wanted))
            tried = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
            keep = concentration * tried + rest * np.log(1 - x * tried) - offset >= np.log(
                self._random.random(len(wanted))
            )
            along[wanted[keep]] = tried[keep]
            wanted = wanted[~keep]
        aside = self._random.standard_normal((count, DIMENSION))
        aside -= (aside * centres).sum(axis=1, keepdims=True) * centres
        return along[:, None] * centres + np.sqrt(1 - along**2)[:, None] * _unit(aside)


def compare(world: World, index: VectorIndex, *, fit: int, test: int) -> Compared:
    """Fit on some questions of the world, and judge others."""
    learned = fit_calibration(
        ask(world, index, fit).trials,
        space_id=SPACE.id,
        modality=Modality.IMAGE,
        assets=len(world.things),
        made_at=datetime.now(UTC),
        false_match_rate=0.1,
    )
    asked = ask(world, index, test)
    right, groups = asked.trials.right, asked.trials.groups
    ours = learned.model.probabilities(asked.trials.evidence)
    cosine = asked.trials.evidence[:, FEATURES.index("top")]
    return Compared(
        cosine=bootstrap(lambda rows: auroc(cosine[rows], right[rows]), groups),
        ours=bootstrap(lambda rows: auroc(ours[rows], right[rows]), groups),
        best=bootstrap(lambda rows: auroc(asked.best[rows], right[rows]), groups),
        short=bootstrap(lambda rows: auroc(asked.best[rows], right[rows]) - auroc(ours[rows], right[rows]), groups),
    )


def ask(world: World, index: VectorIndex, count: int) -> Asked:
    """Ask the index, and collect the evidence as a search does."""
    vectors, meant = world.questions(count)
    background = Background(tuple(_asset(at) for at in range(SIZE)), world.things[:SIZE].astype(np.float32))
    words = WordEmbeddings(Wordless())
    rows, right, best = [], [], []
    for vector, thing in zip(vectors, meant, strict=True):
        single = np.asarray(vector, dtype=np.float32)
        points = index.query([VectorQuery(single, 10)])[0]
        row = gather(single, points, background=background, index=index, words=words, share=1.0)
        if row is None:
            raise RuntimeError("the background is too small")
        top = asset_of(points[0]).int
        rows.append(row)
        right.append(top == thing)
        best.append(world.best(vector, top))
    return Asked(Trials(np.array(rows), np.array(right), np.arange(count)), np.array(best))


def fill(index: VectorIndex, things: Float64) -> None:
    """Put the world's pictures into an index."""
    for first in range(0, len(things), 256):
        part = range(first, min(first + 256, len(things)))
        unit = UnitEmbeddings(SPACE, things[part.start : part.stop].astype(np.float32))
        payloads = [{"tenant": "made", "asset_id": str(_asset(number))} for number in part]
        index.upsert([PointId(UUID(int=number)) for number in part], unit, payloads)


def _asset(number: int) -> AssetId:
    return AssetId(UUID(int=number))


def _unit(rows: Float64) -> Float64:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@cache
def _constants() -> tuple[Float64, Float64]:
    """Tabulate log C(k): minus the logarithm of what exp(k * cosine) averages to over the sphere."""
    concentrations = np.linspace(0, max(CLUSTERING) + max(PRECISION), 4001)
    cosine = np.linspace(-1, 1, 20_001)[1:-1]
    weight = np.exp((DIMENSION - 3) / 2 * np.log1p(-(cosine**2)))
    averages = [float((weight * np.exp(k * (cosine - 1))).sum() / weight.sum()) for k in concentrations]
    return concentrations, -(concentrations + np.log(averages))


def _log_constant(concentration: Float64) -> Float64:
    return np.asarray(np.interp(concentration, *_constants()), dtype=np.float64)


def main() -> None:
    """Make the world, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--worlds", type=int, default=3, help="each made by another seed")
    parser.add_argument("--fit", type=int, default=6000, help="as many as a calibration asks at most")
    parser.add_argument("--test", type=int, default=4000)
    options = parser.parse_args()
    print(f"{options.pictures:,} pictures, {options.test:,} unseen questions, half of them unanswerable, in each world")
    short = [run(World(options.pictures, seed=seed), options.fit, options.test) for seed in range(options.worlds)]
    print(f"short of the best on average over {options.worlds} worlds: {np.mean(short):.3f}")


def run(world: World, fit: int, test: int) -> float:
    """Compare in one world, print, and give what ours falls short."""
    with tempfile.TemporaryDirectory() as folder:
        index = EdgeIndex.open(Path(folder) / "made", SPACE, profile="flat")
        fill(index, world.things)
        found = compare(world, index, fit=fit, test=test)
        index.close()
    for name, interval in (
        ("best possible decision", found.best),
        ("calibrated decision", found.ours),
        ("raw cosine", found.cosine),
        ("short of the best", found.short),
    ):
        print(f"AUROC  {name:24} {interval.value:.3f}  ({interval.low:.3f} to {interval.high:.3f})")
    return found.short.value


if __name__ == "__main__":
    main()
