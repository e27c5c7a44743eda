"""Fitting: what it finds out, what it promises, and how it is stored."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.errors import Cancelled, DamagedData, InvalidInput
from phosphene.nomatch.calibration import LEAST, Calibration, Trials, ablation, discrimination, fit_calibration
from phosphene.nomatch.curves import auroc
from phosphene.nomatch.evidence import FEATURES, Float64
from phosphene.nomatch.logistic import (
    AS_THEY_ARE,
    FOLDS,
    Bent,
    LogisticModel,
    cross_validated,
    fit,
    folds,
    hold,
    log_loss,
    sigmoid,
    weigh,
)
from phosphene.types import Modality, SpaceId
from tests.nomatch.made import TOP, made_trials


def _fitted(trials: Trials, *, false_match_rate: float = 0.1, assets: int = 1000) -> Calibration:
    return fit_calibration(
        trials,
        space_id=SpaceId("space"),
        modality=Modality.TEXT,
        assets=assets,
        made_at=datetime(2026, 11, 1, tzinfo=UTC),
        false_match_rate=false_match_rate,
    )


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return _fitted(made_trials(4000)[0])


def test_probabilities_come_near_the_true_ones_and_hold(calibration: Calibration) -> None:
    unseen, true = made_trials(20_000, seed=1)
    predicted = calibration.model.probabilities(unseen.evidence)
    assert np.abs(predicted - true).mean() < 0.04
    assert auroc(predicted, unseen.right) > auroc(true, unseen.right) - 0.01
    for part in np.array_split(np.argsort(predicted), 10):
        assert predicted[part].mean() == pytest.approx(unseen.right[part].mean(), abs=0.05)


def test_a_line_that_bends_is_followed(calibration: Calibration) -> None:
    flat = np.zeros((3, len(FEATURES)))
    flat[:, TOP] = (-2.0, -1.2, 1.0)
    low, middle, high = calibration.model.logits(flat)
    assert abs(middle - low) < 0.5 < high - middle


@pytest.mark.parametrize("promised", [0.05, 0.2])
def test_the_promised_rates_come_true_on_unseen_questions(promised: float) -> None:
    calibration = _fitted(made_trials(4000)[0], false_match_rate=promised)
    unseen, _ = made_trials(20_000, seed=2)
    called = calibration.model.probabilities(unseen.evidence) >= calibration.threshold
    assert called[~unseen.right].mean() == pytest.approx(promised, abs=0.02)
    assert (~called[unseen.right]).mean() == pytest.approx(calibration.missed_match_rate, abs=0.04)


def test_what_matters_is_missed_when_left_out(calibration: Calibration) -> None:
    without = calibration.without
    assert set(without) == {"score", "background", "gaps", "agreement", "filter", "words"}
    whole = calibration.decision.auroc.value
    assert whole - without["words"] > 0.05
    assert whole - without["score"] > 0.05
    assert abs(whole - without["agreement"]) < 0.01
    assert calibration.raw_cosine.auroc.high < calibration.decision.auroc.low


def test_evidence_of_noise_promises_nothing() -> None:
    trials, _ = made_trials(2000)
    noise = Trials(trials.evidence, np.random.default_rng(5).random(len(trials)) < 0.3, trials.groups)
    calibration = _fitted(noise)
    assert calibration.decision.auroc.value == pytest.approx(0.5, abs=0.06)
    assert calibration.model.probabilities(noise.evidence) == pytest.approx(0.3, abs=0.2)


def test_no_group_is_on_both_sides() -> None:
    groups = np.random.default_rng(0).integers(0, 50, 400)
    dealt = folds(groups, seed=0)
    assert set(dealt) == set(range(FOLDS))
    for group in np.unique(groups):
        assert len(set(dealt[groups == group])) == 1


def test_learning_by_heart_is_seen_through() -> None:
    """Each caption has a score of its own and an answer of its own: known captions could be told, unseen ones not."""
    chance = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), 6)
    rows = np.zeros((len(groups), len(FEATURES)))
    rows[:, TOP] = chance.random(300)[groups]
    right = (chance.random(300) < 0.5)[groups]
    assert auroc(cross_validated(rows, right, groups, features=FEATURES).logits, right) < 0.62


@pytest.mark.parametrize("right", [0, LEAST - 1, 4000 - LEAST + 1, 4000])
def test_too_little_to_learn_from_is_said(right: int) -> None:
    trials, _ = made_trials(4000)
    few = Trials(trials.evidence, np.arange(4000) < right, trials.groups)
    with pytest.raises(InvalidInput, match="too little to learn from"):
        _fitted(few)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_any_evidence_can_be_fitted_and_gives_probabilities(count: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows = np.round(chance.normal(size=(count, len(FEATURES))) * chance.choice([0, 1, 1e6], len(FEATURES)), 1)
    rows[chance.random(rows.shape) < 0.2] = np.nan
    model = fit(rows, chance.random(count) < 0.5, features=FEATURES, ridge=1.0)
    strange = np.full((2, len(FEATURES)), np.nan)
    strange[1] = 1e30
    for found in (model.probabilities(rows), model.probabilities(strange)):
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize(("right", "expected"), [(12, 0.3), (0, 0.0), (40, 1.0)])
def test_evidence_that_is_always_the_same_leaves_the_share_of_right_hits(right: int, expected: float) -> None:
    rows = np.ones((40, len(FEATURES)))
    model = fit(rows, np.arange(40) < right, features=FEATURES, ridge=1.0)
    assert model.probabilities(rows) == pytest.approx(expected, abs=1e-3)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 10.0]))
def test_a_fit_is_the_best_there_is(seed: int, ridge: float) -> None:
    """No step away from it has a lower penalised loss, which is what the chosen penalty is compared by."""
    chance = np.random.default_rng(seed)
    design, right = chance.normal(size=(200, 3)), chance.random(200) < 0.4
    weights, intercept = weigh(design, right, ridge)

    def loss(at: Float64, shift: float) -> float:
        return len(right) * log_loss(design @ at + shift, right) + ridge / 2 * float(at @ at)

    least = loss(weights, intercept)
    for *step, shift in chance.normal(size=(20, 4)) * 0.05:
        assert loss(weights + np.array(step), intercept + shift) > least


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 3), st.floats(-2, 2), st.floats(0.3, 3))
def test_log_odds_that_are_off_hold_afterwards(seed: int, slope: float, shift: float, upper: float) -> None:
    """True ones are a line that bends once; told are the places on that line. Ranks stay as they were."""
    chance = np.random.default_rng(seed)
    told = chance.normal(size=4000) * 2
    true = slope * told + shift + (upper - 1) * slope * np.maximum(told, 0)
    held = hold(told, chance.random(4000) < sigmoid(true)).of(told)
    assert (np.diff(held[np.argsort(told)]) >= 0).all()
    assert np.abs(sigmoid(held) - sigmoid(true)).mean() < 0.03


def test_what_misleads_counts_for_nothing() -> None:
    told = np.linspace(-3, 3, 400)
    held = hold(told, told < -1)
    assert held.slope == 0
    assert sigmoid(held.of(told)) == pytest.approx((told < -1).mean(), abs=0.01)


@pytest.mark.parametrize("told", [np.zeros(50), np.array([0.0] * 49 + [1.0])])
def test_log_odds_that_hardly_differ_hold_too(told: Float64) -> None:
    right = np.arange(50) % 2 == 0
    assert sigmoid(hold(told, right).of(told))[:49] == pytest.approx(0.5, abs=0.02)


def test_a_calibration_of_before_is_read(calibration: Calibration) -> None:
    """Log odds were not bent then."""
    content = calibration.to_json()
    del content["model"]["holding"]
    assert Calibration.from_json(content).model.holding == AS_THEY_ARE


def test_a_calibration_comes_back_from_json_the_same(calibration: Calibration) -> None:
    back = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert back == calibration
    rows = made_trials(50, seed=3)[0].evidence
    assert (back.model.probabilities(rows) == calibration.model.probabilities(rows)).all()


def test_a_damaged_calibration_says_what_to_do(calibration: Calibration) -> None:
    content = calibration.to_json()
    del content["model"]
    with pytest.raises(DamagedData, match="phosphene calibrate"):
        Calibration.from_json(content)


@pytest.mark.parametrize(("assets", "stale"), [(1000, False), (1200, False), (1201, True), (800, False), (799, True)])
def test_growing_by_a_fifth_makes_it_stale(calibration: Calibration, assets: int, stale: bool) -> None:  # noqa: FBT001
    assert calibration.stale(assets) is stale


def test_a_witness_that_is_no_longer_heard_makes_a_model_unknown(calibration: Calibration) -> None:
    model = calibration.model
    assert model.known
    gone: Bent = replace(model.parts[0], feature="phase of the moon")
    assert not LogisticModel((gone, *model.parts[1:]), model.intercept).known


def test_ablation_names_every_group() -> None:
    trials, _ = made_trials(600)
    assert all(0.5 < value <= 1 for value in ablation(trials).values())
    assert sigmoid(np.array([0.0]))[0] == 0.5


def test_fitting_ends_when_it_is_told_to_stop() -> None:
    stop = threading.Event()
    stop.set()
    trials, _ = made_trials(500)
    with pytest.raises(Cancelled):
        ablation(trials, stop=stop)
    with pytest.raises(Cancelled):
        discrimination(trials.evidence[:, TOP], trials.right, trials.groups, stop=stop)
