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
    """Chance that a right one scores above a wrong one, ties half: the area under the ROC curve.

    By ranks (Mann and Whitney 1947). NaN where all are right, or none is.
    """
    positives = int(right.sum())
    negatives = len(right) - positives
    if not positives or not negatives:
        return float("nan")
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # average rank of equal scores, from 1
    del values
    ranks = float(middle[place][right].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(scores: Float64, right: Bools) -> float:
    """Precision at each right one's place in the order of scores, averaged; equal scores share the last place."""
    positives = int(right.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], right[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    found = np.cumsum(hits)[last]
    precision = found / (np.flatnonzero(last) + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / positives)


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
