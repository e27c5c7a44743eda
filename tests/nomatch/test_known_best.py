"""The decision in a made space whose best possible decision is known: benchmarks/match_known_best.py, but smaller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.match_known_best import SPACE, World, compare, fill
from phosphene.vectors.edge import EdgeIndex

PICTURES = 1200


@pytest.fixture(scope="module")
def world() -> World:
    return World(PICTURES, seed=3)


@pytest.fixture
def index(world: World, tmp_path: Path) -> Iterator[EdgeIndex]:
    opened = EdgeIndex.open(tmp_path / "made", SPACE, profile="flat")
    fill(opened, world.things)
    yield opened
    opened.close()


def test_it_comes_near_the_best_possible_decision(world: World, index: EdgeIndex) -> None:
    found = compare(world, index, fit=2500, test=2000)
    assert found.short.value < 0.045  # fewer pictures and questions than in the benchmark, which prints the real figure
    assert found.ours.value > found.cosine.value + 0.05
    assert found.best.value >= found.ours.value - 0.005


def test_the_best_possible_probabilities_are_true_ones(world: World) -> None:
    """Else the benchmark would compare with something that is not the best."""
    vectors, meant = world.questions(4000)
    tops = (vectors @ world.things.T).argmax(axis=1)
    said = np.array([world.best(vector, int(top)) for vector, top in zip(vectors, tops, strict=True)])
    right = tops == meant
    for part in np.array_split(np.argsort(said), 5):
        assert said[part].mean() == pytest.approx(right[part].mean(), abs=0.06)
