"""Recall and precision of ranked lists, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

DEPTHS = (1, 5, 10)
_RESAMPLES = 1000


@dataclass(frozen=True)
class Retrieval:
    """How many queries found something relevant among their first 1, 5 and 10 hits."""

    queries: int
    gallery: int
    recall: dict[int, float]  # percent, by depth
    interval_at_10: tuple[float, float]  # percent, 95 %, bootstrapped over queries
    chance_at_10: float  # percent

    def report(self) -> dict[str, object]:
        """For JSON."""
        return {
            "queries": self.queries,
            "gallery": self.gallery,
            **{f"recall_at_{depth}": round(value, 1) for depth, value in self.recall.items()},
            "recall_at_10_95_percent": [round(bound, 1) for bound in self.interval_at_10],
            "chance_at_10": round(self.chance_at_10, 1),
        }


def score_retrieval(similarity: Tensor, relevant: Tensor) -> Retrieval:
    """Score (queries, gallery) float similarities against (queries, gallery) bool relevance."""
    best = similarity.masked_fill(~relevant, -np.inf).max(dim=1).values
    ranks = (similarity > best[:, None]).sum(dim=1).numpy()
    found = ranks < DEPTHS[-1]
    chance = np.random.default_rng(0)
    samples = [found[chance.integers(0, len(found), len(found))].mean() for _ in range(_RESAMPLES)]
    share = relevant.float().mean(dim=1).numpy()
    return Retrieval(
        queries=similarity.shape[0],
        gallery=similarity.shape[1],
        recall={depth: 100 * float((ranks < depth).mean()) for depth in DEPTHS},
        interval_at_10=(100 * float(np.percentile(samples, 2.5)), 100 * float(np.percentile(samples, 97.5))),
        chance_at_10=100 * float((1 - (1 - share) ** DEPTHS[-1]).mean()),
    )
