"""What the figures of a calibration mean, against their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.nomatch.curves import (
    auroc,
    average_precision,
    bootstrap,
    reliability,
    roc,
    threshold_for,
)
from phosphene.nomatch.evidence import Float64
from phosphene.nomatch.logistic import Bools

SCORED = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=40)


def _arrays(scored: list[tuple[float, bool]]) -> tuple[Float64, Bools]:
    return np.array([score for score, _ in scored]), np.array([right for _, right in scored])


@settings(deadline=None)
@given(SCORED)
def test_auroc_is_the_chance_that_a_right_one_scores_above_a_wrong_one(scored: list[tuple[float, bool]]) -> None:
    scores, right = _arrays(scored)
    pairs = [(a > b) + (a == b) / 2 for a in scores[right] for b in scores[~right]]
    found = auroc(scores, right)
    if pairs:
        assert found == pytest.approx(np.mean(pairs))
        assert auroc(-scores, right) == pytest.approx(1 - found)
        assert auroc(np.exp(3 * scores), right) == pytest.approx(found)
    else:
        assert np.isnan(found)


@settings(deadline=None)
@given(SCORED)
def test_average_precision_is_the_precision_at_each_right_one(scored: list[tuple[float, bool]]) -> None:
    scores, right = _arrays(scored)
    precisions = [right[scores >= score].mean() for score in scores[right]]
    if precisions:
        assert average_precision(scores, right) == pytest.approx(np.mean(precisions))
    else:
        assert np.isnan(average_precision(scores, right))


@settings(deadline=None)
@given(SCORED, st.floats(0.01, 0.99))
def test_a_threshold_keeps_its_promise_and_is_the_lowest_that_does(
    scored: list[tuple[float, bool]], promised: float
) -> None:
    scores, right = _arrays(scored)
    wrong = scores[~right]
    threshold = threshold_for(scores, right, false_match_rate=promised)
    if len(wrong):
        assert (wrong >= threshold).mean() <= promised
    lower = scores[scores < threshold]
    if len(lower):
        assert (wrong >= lower.max()).mean() > promised


@settings(deadline=None)
@given(SCORED)
def test_reliability_counts_every_question_once(scored: list[tuple[float, bool]]) -> None:
    scores, right = _arrays(scored)
    bins = reliability(scores, right)
    assert sum(part.questions for part in bins) == len(scores)
    assert sum(part.observed * part.questions for part in bins) == pytest.approx(right.sum())
    predicted = [part.predicted for part in bins]
    assert predicted == pytest.approx(sorted(predicted), rel=1e-12)  # means of equal numbers differ in the last digit


@settings(deadline=None)
@given(SCORED)
def test_a_roc_curve_only_rises(scored: list[tuple[float, bool]]) -> None:
    points = roc(*_arrays(scored))
    for one, other in pairwise(points):
        assert one.threshold > other.threshold
        assert one.false_match_rate <= other.false_match_rate
        assert one.true_match_rate <= other.true_match_rate


def test_an_interval_is_wider_where_questions_come_in_groups() -> None:
    chance = np.random.default_rng(0)
    coins = chance.random(40) < 0.5
    flips = np.repeat(coins, 25)
    alone = bootstrap(lambda rows: float(flips[rows].mean()), np.arange(1000))
    grouped = bootstrap(lambda rows: float(flips[rows].mean()), np.repeat(np.arange(40), 25))
    assert alone.low < alone.value < alone.high
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)
