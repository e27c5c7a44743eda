"""A small logistic model: each number of the evidence bends at two knots, weights are kept short.

scikit-learn fits it; what a search needs is plain numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from phosphene.nomatch.evidence import FEATURES, Float64

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

FOLDS = 5
RIDGES = (0.1, 1.0, 10.0, 100.0)  # penalties on squared weights that are tried
_KNOTS = (1 / 3, 2 / 3)  # quantiles at which a line may bend
_HOLDING_KNOTS = (0.5, 0.75, 0.9)  # the same of log odds: most questions are far from being answered
_HOLDING_RIDGE = 1.0
_ENDS = (0.005, 0.995)  # quantiles beyond which nothing was seen: values are held there
_MOST_STEPS = 50
_MOST_LOGIT = 30.0


@dataclass(frozen=True, slots=True)
class Bent:
    """How one feature becomes columns: held between low and high, a line rises from low on and one from each knot."""

    feature: str
    neutral: float  # stands in for NaN
    low: float
    high: float
    knots: tuple[float, ...]
    means: tuple[float, ...]  # of the columns
    scales: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """What log odds become so that they hold: a line that rises, steeper or less so behind each knot."""

    intercept: float = 0.0
    slope: float = 1.0
    knots: tuple[float, ...] = ()
    turns: tuple[float, ...] = ()  # by how much the slope changes at each knot

    def of(self, logits: Float64) -> Float64:
        """Log odds that hold, (n,), of log odds (n,)."""
        held = self.intercept + self.slope * logits
        for knot, turn in zip(self.knots, self.turns, strict=True):
            held = held + turn * np.maximum(logits - knot, 0)
        return np.asarray(np.clip(held, -_MOST_LOGIT, _MOST_LOGIT), dtype=np.float64)


AS_THEY_ARE = Holding()


@dataclass(frozen=True)
class LogisticModel:
    """Gives probabilities from evidence."""

    parts: tuple[Bent, ...]
    intercept: float
    holding: Holding = AS_THEY_ARE

    @property
    def known(self) -> bool:
        """Whether every feature it was fitted on is still collected."""
        return all(part.feature in FEATURES for part in self.parts)

    def logits(self, rows: Float64) -> Float64:
        """Log odds, (n,), of evidence rows (n, len(FEATURES))."""
        ready = self._ready
        values = rows[:, ready.features]
        values = np.minimum(np.maximum(np.where(np.isfinite(values), values, ready.neutral), ready.low), ready.high)
        total = np.maximum(values - ready.knots, 0) @ ready.slopes + ready.constant
        return self.holding.of(np.clip(total, -_MOST_LOGIT, _MOST_LOGIT))

    @cached_property
    def _ready(self) -> _Ready:
        """Lay all columns of all parts side by side: every search asks."""
        columns = [
            (FEATURES.index(part.feature), part.neutral, part.low, part.high, knot, mean, weight / scale)
            for part in self.parts
            for knot, mean, scale, weight in zip(_bends(part), part.means, part.scales, part.weights, strict=True)
        ]
        feature, neutral, low, high, knots, means, slopes = np.array(columns, dtype=np.float64).reshape(-1, 7).T
        constant = self.intercept - float(means @ slopes)
        return _Ready(feature.astype(np.int64), neutral, low, high, knots, slopes, constant)

    def probabilities(self, rows: Float64) -> Float64:
        """Probabilities, (n,), 0..1."""
        return sigmoid(self.logits(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A model's columns, each array (columns,)."""

    features: Integers
    neutral: Float64
    low: Float64
    high: Float64
    knots: Float64
    slopes: Float64
    constant: float


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidated:
    """A model of all rows, and for each row the log odds by a model that saw nothing of its group."""

    model: LogisticModel
    logits: Float64  # (n,)


def fit(rows: Float64, right: Bools, *, features: Sequence[str], ridge: float) -> LogisticModel:
    """Fit on evidence rows (n, len(FEATURES)) and whether each was right (n,)."""
    parts = [part for part in (_bent(rows, feature) for feature in features) if part is not None]
    columns = [(_columns(rows, part) - np.array(part.means)) / np.array(part.scales) for part in parts]
    design = np.concatenate(columns, axis=1) if columns else np.zeros((len(rows), 1))  # a column that says nothing
    weights, intercept = weigh(design, right, ridge)
    fitted, at = [], 0
    for part in parts:
        width = len(part.means)
        fitted.append(replace(part, weights=tuple(weights[at : at + width].tolist())))
        at += width
    return LogisticModel(tuple(fitted), intercept)


def cross_validated(
    rows: Float64, right: Bools, groups: Integers, *, features: Sequence[str], seed: int = 0
) -> CrossValidated:
    """Fit with the penalty that predicts unseen groups best, then bend log odds so that they hold for these.

    Rows of one group (all that was asked about one caption) are never on both sides.
    """
    fold = folds(groups, seed=seed)
    outcomes = [(ridge, _held_out(rows, right, fold, features, ridge)) for ridge in RIDGES]
    ridge, logits = min(outcomes, key=lambda outcome: log_loss(outcome[1], right))
    holding = hold(logits, right)
    model = replace(fit(rows, right, features=features, ridge=ridge), holding=holding)
    return CrossValidated(model, holding.of(logits))


def hold(logits: Float64, right: Bools) -> Holding:
    """Learn what log odds (n,) become so that they hold: Platt scaling (1999), but bent at three quantiles.

    Never falls, since more evidence is not less: where bends would make it fall it is Platt's line, and where that
    falls it is flat, as evidence that misleads counts for nothing.
    """
    quantiles = {float(knot) for knot in np.quantile(logits, _HOLDING_KNOTS)}
    bent = _rising(logits, right, tuple(sorted(quantiles - {float(logits.min()), float(logits.max())})))
    line = bent or _rising(logits, right, ())
    return line or Holding(weigh(np.zeros((len(right), 1)), right, _HOLDING_RIDGE)[1], 0.0)


def _rising(logits: Float64, right: Bools, knots: tuple[float, ...]) -> Holding | None:
    """Fit a line that bends at these knots; None where it falls somewhere."""
    columns = np.stack([logits, *(np.maximum(logits - knot, 0) for knot in knots)], axis=1)
    means, scales = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-9)
    weights, intercept = weigh((columns - means) / scales, right, _HOLDING_RIDGE)
    slopes = weights / scales
    if (np.cumsum(slopes) < 0).any():
        return None
    return Holding(intercept - float(slopes @ means), float(slopes[0]), knots, tuple(slopes[1:].tolist()))


def folds(groups: Integers, *, seed: int) -> Integers:
    """Deal groups out to FOLDS folds: (n,)."""
    _, number = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(int(number.max()) + 1) % FOLDS
    return np.asarray(dealt[number], dtype=np.int64)


def log_loss(logits: Float64, right: Bools) -> float:
    """Average of -log(probability of what was the case)."""
    return float(np.logaddexp(0, np.where(right, -logits, logits)).mean())


def sigmoid(logits: Float64) -> Float64:
    """Log odds -> probability."""
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)


def _held_out(rows: Float64, right: Bools, fold: Integers, features: Sequence[str], ridge: float) -> Float64:
    logits = np.empty(len(rows))
    for number in np.unique(fold):
        inside = fold == number
        model = fit(rows[~inside], right[~inside], features=features, ridge=ridge)
        logits[inside] = model.logits(rows[inside])
    return logits


def _bent(rows: Float64, feature: str) -> Bent | None:
    """Lay out the columns of a feature; None where it says the same of every row, or nothing."""
    values = rows[:, FEATURES.index(feature)]
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = (float(end) for end in np.quantile(values, _ENDS))
    if high - low < 1e-9:
        low, high = float(values.min()), float(values.max())  # nearly always the same, as without filters
    knots = sorted({float(knot) for knot in np.quantile(values, _KNOTS)})
    inner = tuple(knot for knot in knots if low < knot < high)
    part = Bent(feature, float(values.mean()), low, high, inner, (), (), ())
    columns = _columns(rows, part)
    scales = columns.std(axis=0)
    if not (scales > 1e-9).any():
        return None
    scales = np.where(scales > 1e-9, scales, 1.0)
    return replace(part, means=tuple(columns.mean(axis=0).tolist()), scales=tuple(scales.tolist()))


def _columns(rows: Float64, part: Bent) -> Float64:
    values = rows[:, FEATURES.index(part.feature)]
    values = np.clip(np.where(np.isfinite(values), values, part.neutral), part.low, part.high)
    return np.stack([np.maximum(values - knot, 0) for knot in _bends(part)], axis=1)


def _bends(part: Bent) -> tuple[float, ...]:
    """Where each column of a feature begins to rise: at the low end for the straight line, at each knot."""
    return (part.low, *part.knots)


def weigh(design: Float64, right: Bools, ridge: float) -> tuple[Float64, float]:
    """Minimise the negative log likelihood plus ridge/2 times the squared weights; the intercept goes free."""
    from sklearn.linear_model import LogisticRegression  # takes a second, and searches do without
    from threadpoolctl import threadpool_limits

    if right.all() or not right.any():  # nothing to weigh
        return np.zeros(design.shape[1]), _MOST_LOGIT if right.any() else -_MOST_LOGIT
    model = LogisticRegression(C=1 / ridge, solver="newton-cholesky", max_iter=_MOST_STEPS)
    with threadpool_limits(1, user_api="blas"):  # small matrices: threads wait for one another
        fitted = model.fit(design, right)
    return np.asarray(fitted.coef_[0], dtype=np.float64), float(fitted.intercept_[0])
