"""What the metrics of ranked lists mean, against their definitions and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from phosphene.evaluation.ranking import coverage, first_right, mean_interval, ndcg

CATALOGUE = 12
ORDERS = st.permutations(range(CATALOGUE))
GAINS = st.dictionaries(st.integers(0, CATALOGUE - 1), st.sampled_from([0.0, 1.0, 2.0, 3.5]), max_size=8)
DEPTHS = st.integers(1, CATALOGUE)
QUICK = settings(deadline=None)


@QUICK
@given(ORDERS, GAINS, DEPTHS)
def test_ndcg_is_that_of_scikit_learn(order: list[int], gains: dict[int, float], depth: int) -> None:
    truth = np.array([[gains.get(item, 0.0) for item in range(CATALOGUE)]])
    scores = np.empty((1, CATALOGUE))
    scores[0, order] = -np.arange(CATALOGUE)
    found = ndcg(order, gains, depth)
    assert found == pytest.approx(ndcg_score(truth, scores, k=depth))
    assert ndcg(order[:depth], gains, depth) == found
    assert 0 <= found <= 1 + 1e-12


@QUICK
@given(ORDERS, GAINS, DEPTHS)
def test_ranks_and_shares_are_what_counting_gives(order: list[int], gains: dict[int, float], depth: int) -> None:
    right = {item for item, gain in gains.items() if gain}
    places = [order.index(item) + 1 for item in right]
    assert first_right(order, gains) == (min(places) if places else None)
    among = sum(place <= depth for place in places)
    assert coverage(order, gains, depth) == (among / min(len(right), depth) if right else 0)


@QUICK
@given(ORDERS, GAINS, DEPTHS)
def test_no_order_beats_the_best_one(order: list[int], gains: dict[int, float], depth: int) -> None:
    best = sorted(range(CATALOGUE), key=lambda item: -gains.get(item, 0.0))
    right = any(gains.values())
    assert ndcg(best, gains, depth) == pytest.approx(float(right))
    assert coverage(best, gains, depth) == float(right)
    assert ndcg(order, gains, depth) <= ndcg(best, gains, depth) + 1e-12


@QUICK
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_an_interval_holds_its_mean_and_stays_among_the_values(values: list[float]) -> None:
    found = mean_interval(np.array(values))
    assert found.value == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= max(values) + 1e-9
    assert mean_interval(np.array(values)) == found  # the same each time


def test_an_interval_is_as_wide_as_theory_has_it() -> None:
    values = np.random.default_rng(0).random(400)
    found = mean_interval(values)
    error = 1.96 * values.std() / 20
    assert found.low == pytest.approx(found.value - error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + error, abs=0.15 * error)


def test_values_that_come_in_groups_tell_less() -> None:
    coins = (np.random.default_rng(0).random(40) < 0.5).astype(np.float64)
    flips, groups = np.repeat(coins, 25), np.repeat(np.arange(40), 25)
    alone, grouped = mean_interval(flips), mean_interval(flips, groups)
    assert alone.value == grouped.value
    assert grouped.high - grouped.low == pytest.approx(5 * (alone.high - alone.low), rel=0.3)  # sqrt(25)
    one = mean_interval(flips, np.zeros(1000, dtype=np.int64))
    assert one.low == one.value == one.high
