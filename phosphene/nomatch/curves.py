"""How well probabilities tell right from wrong, and whether they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phosphene.nomatch.evidence import Float64
from phosphene.nomatch.logistic import Bools, Integers

_CURVE_POINTS = 101
BINS = 10


@dataclass(frozen=True, slots=True)
class RocPoint:
    """What one threshold would do: shares of wrong and of right hits that are called a match."""

    false_match_rate: float
    true_match_rate: float
    threshold: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Questions of about one probability: what was predicted for them on average, what was observed."""

    predicted: float
    observed: float
    questions: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def auroc(scores: Float64, right: Bools) -> float:
    """Chance that a right one scores above a wrong one, ties half; NaN where all are right, or none is."""
    from sklearn.metrics import roc_auc_score  # takes a second, and searches do without

    return float(roc_auc_score(right, scores)) if right.any() and not right.all() else float("nan")


def average_precision(scores: Float64, right: Bools) -> float:
    """Precision at each right one's place in the order of scores, averaged; NaN where none is right."""
    from sklearn.metrics import average_precision_score  # the same

    return float(average_precision_score(right, scores)) if right.any() else float("nan")


def roc(probabilities: Float64, right: Bools) -> tuple[RocPoint, ...]:
    """Draw the ROC curve at thresholds spread evenly over the questions, strictest first."""
    thresholds = np.unique(np.quantile(probabilities, np.linspace(0, 1, _CURVE_POINTS)))[::-1]
    return tuple(
        RocPoint(_share(probabilities[~right] >= at), _share(probabilities[right] >= at), float(at))
        for at in thresholds
    )


def reliability(probabilities: Float64, right: Bools, *, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Compare predicted with observed in bins of as many questions each, lowest first."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    return tuple(
        ReliabilityBin(float(probabilities[part].mean()), float(right[part].mean()), len(part))
        for part in parts
        if len(part)
    )


def threshold_for(probabilities: Float64, right: Bools, *, false_match_rate: float) -> float:
    """Give the lowest threshold at which at most this share of wrong hits is called a match."""
    wrong = np.sort(probabilities[~right])[::-1]
    allowed = int(np.floor(false_match_rate * len(wrong)))
    if allowed >= len(wrong):
        return 0.0
    return float(np.nextafter(wrong[allowed], np.inf))


def bootstrap(
    statistic: Callable[[Integers], float], groups: Integers, *, resamples: int = 300, seed: int = 0
) -> Interval:
    """Draw whole groups again and again; `statistic` gets the numbers of the rows drawn."""
    _, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(number))[:-1])
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = random.integers(0, len(members), len(members))
        drawn.append(statistic(np.concatenate([members[group] for group in chosen])))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(statistic(np.arange(len(groups))), float(low), float(high))


def _share(what: Bools) -> float:
    return float(what.mean()) if len(what) else 0.0
