"""What a ranked list is worth, and how sure a mean over many of them is.

Recall@k is the share of questions with a right answer among their first k, as papers on CLIP and the tables of OpenCLIP
have it. Coverage@k is the share of all right answers found there, of as many as fit: what information retrieval calls
recall, where there are at most k.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from phosphene.nomatch.curves import Interval
from phosphene.nomatch.evidence import Float64
from phosphene.nomatch.logistic import Integers

DEPTHS = (1, 5, 10)

_RESAMPLES = 1000
_RESAMPLES_AT_ONCE = 100

Item = TypeVar("Item", bound=Hashable)


def first_right(ranked: Sequence[Item], gains: Mapping[Item, float]) -> int | None:
    """Give the rank, from 1, of the first right answer; None where there is none."""
    return next((rank for rank, item in enumerate(ranked, 1) if gains.get(item, 0) > 0), None)


def coverage(ranked: Sequence[Item], gains: Mapping[Item, float], depth: int) -> float:
    """Give the share of the right answers among the first `depth`, of as many as fit there: 0..1."""
    right = sum(gain > 0 for gain in gains.values())
    found = sum(gains.get(item, 0) > 0 for item in ranked[:depth])
    return found / min(right, depth) if right else 0.0


def ndcg(ranked: Sequence[Item], gains: Mapping[Item, float], depth: int) -> float:
    """Give the discounted gain of the first `depth` over that of the best order: 0..1.

    Järvelin and Kekäläinen 2002, gains as they are, discount log2(rank + 1), as sklearn.metrics.ndcg_score, which wants
    a score for everything in the catalogue.
    """
    best = _discounted(sorted(gains.values(), reverse=True)[:depth])
    return _discounted([gains.get(item, 0.0) for item in ranked[:depth]]) / best if best else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return float(np.asarray(gains, dtype=np.float64) @ (1 / np.log2(np.arange(len(gains)) + 2)))


def mean_interval(values: Float64, groups: Integers | None = None, *, seed: int = 0) -> Interval:
    """Give the mean of values (n,) with its 95 % percentile bootstrap interval.

    Values of one group (n,) are drawn together: captions of one picture are not independent of each other.
    """
    from scipy.stats import bootstrap  # takes half a second, and searches do without

    number = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(number, weights=values), np.bincount(number).astype(np.float64)
    value = float(values.mean())
    if len(sums) < 2:
        return Interval(value, value, value)

    def mean(sums: Float64, sizes: Float64, axis: int) -> Float64:
        return np.asarray(sums.sum(axis=axis) / sizes.sum(axis=axis))

    drawn = bootstrap(
        (sums, sizes),
        mean,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        rng=seed,
    ).confidence_interval
    return Interval(value, float(drawn.low), float(drawn.high))
