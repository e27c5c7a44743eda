"""What is listed is what a comparison with every point gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.filters import Equals
from phosphene.types import Float32, PointId
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery
from search_api.aim import MOST_FETCHED, Aim, Barrier, Scale, Scoring, words_in

DIMENSION = 4
WITHIN = Equals("tenant", "t")
WORDS = ("dog", "cat", "red car", "cars", "bus")


@dataclass
class ListedIndex:
    """Stands in for an index: rows (n, d) that are compared one and all."""

    rows: Float32
    titles: list[str]

    def points(self, vector: Float32) -> list[ScoredPoint]:
        scores = [float(score) for score in self.rows @ vector]
        return [ScoredPoint(name(at), score, {"title": self.titles[at]}) for at, score in enumerate(scores)]

    def query(self, queries: list[VectorQuery]) -> list[list[ScoredPoint]]:
        ranked = [sorted(self.points(one.vector), key=lambda point: (-point.score, point.id)) for one in queries]
        return [points[: one.limit] for one, points in zip(queries, ranked, strict=True)]

    def vectors(self, ids: list[PointId]) -> dict[PointId, Float32]:
        return {id_: self.rows[id_.int] for id_ in ids}


def name(at: int) -> PointId:
    return PointId(UUID(int=at))


def unit_rows(random: np.random.Generator, count: int) -> Float32:
    rows = random.normal(size=(count, DIMENSION))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 30),
    sizes=st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 2)),
    limit=st.integers(1, 12),
)
def test_a_list_is_the_best_of_all_points_that_nothing_keeps_out(
    seed: int, count: int, sizes: tuple[int, int, int], limit: int
) -> None:
    wanted, unwanted, barred = sizes
    random = np.random.default_rng(seed)
    index = ListedIndex(unit_rows(random, count), [str(random.choice(WORDS)) for _ in range(count)])
    best = Scoring(unit_rows(random, wanted), random.uniform(0.2, 1, wanted), random.uniform(-0.3, 0.3, wanted))
    rivals = Scoring(unit_rows(random, unwanted), np.ones(unwanted), np.zeros(unwanted)) if unwanted else None
    barriers = tuple(Barrier(row, 0.6, (words_in("red car"),)) for row in unit_rows(random, barred))
    left_out = frozenset(name(at) for at in range(0, count, 7))

    found = Aim(best, barriers, rivals).nearest(
        limit, within=WITHIN, left_out=left_out, index=cast("VectorIndex", index)
    )

    # One row alone is ranked by its cosine as the index gives it.
    scores = best.scores(index.rows).max(axis=1) if wanted > 1 else index.rows @ best.rows[0]
    kept = [
        at
        for at in range(count)
        if name(at) not in left_out
        and not any(index.rows[at] @ one.vector >= one.limit for one in barriers)
        and not (barriers and index.titles[at] == "red car")
        and not (rivals and rivals.scores(index.rows[at : at + 1]).max() >= best.scores(index.rows[at : at + 1]).max())
    ]
    expected = sorted(kept, key=lambda at: (-scores[at], at))[:limit]
    np.testing.assert_allclose([point.score for point in found], [scores[at] for at in expected], atol=1e-5)
    assert [point.id for point in found] == [name(at) for at in expected]


def test_a_page_deep_down_of_many_examples_fetches_no_more_than_one_of_a_single_direction() -> None:
    fetched: list[int] = []

    class Counting(ListedIndex):
        def query(self, queries: list[VectorQuery]) -> list[list[ScoredPoint]]:
            fetched.append(sum(query.limit for query in queries))
            return super().query(queries)

    random = np.random.default_rng(0)
    index = Counting(unit_rows(random, 3000), ["dog"] * 3000)
    best = Scoring(unit_rows(random, 16), np.ones(16), np.zeros(16))
    found = Aim(best).nearest(20_001, within=WITHIN, left_out=frozenset(), index=cast("VectorIndex", index))
    assert fetched == [MOST_FETCHED]
    scores = np.sort(best.scores(index.rows).max(axis=1))[::-1]
    np.testing.assert_allclose([point.score for point in found], scores[: len(found)], atol=1e-5)
    assert len(found) == MOST_FETCHED // 16


def test_a_scale_is_that_of_the_background_and_says_nothing_of_a_few_pictures() -> None:
    rows = unit_rows(np.random.default_rng(0), 200)
    cosines = rows @ rows[0]
    scale = Scale.of(rows[0], rows)
    assert (scale.mean, scale.spread) == pytest.approx((cosines.mean(), cosines.std()), rel=1e-3)
    assert Scale.of(rows[0], rows[:3]) == Scale(0.0, 1.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dogs", "dog"),
        ("cherries", "Cherry"),
        ("boxes", "box"),
        ("buses", "bus"),
        ("glass", "glass"),
        ("Red cars", "cars red"),
    ],
)
def test_words_are_the_same_in_the_plural(one: str, other: str) -> None:
    assert words_in(one) == words_in(other)
