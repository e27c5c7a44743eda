"""Probabilities that a picture would carry a word: learned, for one space, from the keywords of its owner.

Each pair of a picture and a word that some pictures carry is one trial; its outcome is whether the picture carries it.
Two numbers speak for a pair (`Labeller.evidence`), and a logistic model of them gives the probability (Platt 1999). Its
lines bend where few pairs lie: straight ones said 0.8 on the demo where 0.55 was the case. It has no part that belongs
to one word, so it holds for words that nobody has used yet: the figures are of words that the model had not seen.

Owners leave words out. A picture of a red apple that carries only `fruit` counts as wrong for `apple`: probabilities
are those of an owner's writing the word, and lower than those of its being right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np

from phosphene.errors import InvalidInput
from phosphene.labels.labeller import Labeller
from phosphene.nomatch.curves import Interval, ReliabilityBin, auroc, average_precision
from phosphene.nomatch.evidence import Float64
from phosphene.nomatch.logistic import Bools, folds, log_loss, sigmoid, weigh
from phosphene.nomatch.words import plain
from phosphene.types import Float32, SpaceId

FIELDS = ("keywords", "keyword", "tags", "tag", "labels", "subjects")  # of metadata: lists of words
SAMPLE = 4000  # pictures
MOST_WORDS = 500
MOST_PAIRS = 1_000_000
LEAST_CARRIED = 3  # pictures that carry a word
LEAST_WORDS = 10
LEAST_PICTURES = 50
_RIDGE = 1.0
_KNOTS = (0.95, 0.995)  # quantiles
_EDGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)  # of probabilities, between the bins of reliability


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """How evidence becomes a probability in a space, and how well that held for words that were not learned from."""

    space_id: SpaceId
    made_at: datetime
    knots: tuple[tuple[float, ...], ...]  # of each of the two numbers: where its line bends
    means: tuple[float, ...]  # of the columns: both numbers, then what each has beyond its knots
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    pictures: int
    words: int
    share_carried: float  # of all pairs
    auroc: float  # over all pairs
    auroc_per_word: Interval  # mean over words
    average_precision: float
    log_loss: float
    log_loss_blind: float  # of saying share_carried for every pair
    reliability: tuple[ReliabilityBin, ...]

    def probabilities(self, evidence: Float64) -> Float64:
        """Give probabilities, 0..1, for evidence (..., 2)."""
        columns = (_columns(evidence, self.knots) - self.means) / self.scales
        return sigmoid(columns @ np.array(self.weights) + self.intercept)

    def to_json(self) -> dict[str, Any]:
        """Write it for the catalogue, without what stands beside it there."""
        return {name: value for name, value in asdict(self).items() if name not in {"space_id", "made_at"}}

    @classmethod
    def from_json(cls, space_id: SpaceId, made_at: datetime, content: Mapping[str, Any]) -> Self:
        """Read it back."""
        numbers = {name: tuple(content[name]) for name in ("means", "scales", "weights")}
        held = {
            "knots": tuple(map(tuple, content["knots"])),
            "auroc_per_word": Interval(**content["auroc_per_word"]),
            "reliability": tuple(ReliabilityBin(**one) for one in content["reliability"]),
        }
        return cls(space_id=space_id, made_at=made_at, **{**content, **numbers, **held})


def carried_words(metadata: Mapping[str, object]) -> frozenset[str]:
    """Give the keywords that a picture's owner gave it, plain."""
    found = set()
    for field in FIELDS:
        value = metadata.get(field)
        found |= {plain(word) for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)}
    return frozenset(found - {""})


def calibrate_labels(
    pictures: Float32, carried: Sequence[frozenset[str]], *, labeller: Labeller, space_id: SpaceId, made_at: datetime
) -> LabelCalibration:
    """Learn from pictures (n, d) and the words that each carries. Raises InvalidInput where there are too few."""
    told = [place for place, words in enumerate(carried) if words][:SAMPLE]
    counted = Counter(word for place in told for word in carried[place])
    words = [word for word, times in counted.most_common(MOST_WORDS) if times >= LEAST_CARRIED]
    if len(told) < LEAST_PICTURES or len(words) < LEAST_WORDS:
        raise InvalidInput(
            f"{len(told)} pictures with keywords, and {len(words)} words that {LEAST_CARRIED} of them carry, are too "
            f"few to learn probabilities from: {LEAST_PICTURES} and {LEAST_WORDS} are needed"
        )
    told = told[: max(LEAST_PICTURES, MOST_PAIRS // len(words))]
    right = np.array([[word in carried[place] for word in words] for place in told])
    evidence = labeller.evidence(pictures[told], labeller.rows(words))
    fold = folds(np.arange(len(words)), seed=0)
    logits = np.empty(right.shape)
    for number in np.unique(fold):
        inside = fold == number
        fitted = _fit(evidence[:, ~inside], right[:, ~inside])
        logits[:, inside] = fitted.logits(evidence[:, inside])
    fitted = _fit(evidence, right)
    base = float(right.mean())
    return LabelCalibration(
        space_id=space_id,
        made_at=made_at,
        knots=fitted.knots,
        means=tuple(fitted.means.tolist()),
        scales=tuple(fitted.scales.tolist()),
        weights=tuple(fitted.weights.tolist()),
        intercept=fitted.intercept,
        pictures=len(told),
        words=len(words),
        share_carried=base,
        auroc=auroc(logits.ravel(), right.ravel()),
        auroc_per_word=_per_word(logits, right),
        average_precision=average_precision(logits.ravel(), right.ravel()),
        log_loss=log_loss(logits.ravel(), right.ravel()),
        log_loss_blind=float(-base * np.log(base) - (1 - base) * np.log(1 - base)),
        reliability=_reliability(sigmoid(logits.ravel()), right.ravel()),
    )


@dataclass(frozen=True, slots=True)
class _Fitted:
    knots: tuple[tuple[float, ...], ...]
    means: Float64
    scales: Float64
    weights: Float64
    intercept: float

    def logits(self, evidence: Float64) -> Float64:
        columns = (_columns(evidence, self.knots) - self.means) / self.scales
        return np.asarray(columns @ self.weights + self.intercept, dtype=np.float64)


def _fit(evidence: Float64, right: Bools) -> _Fitted:
    pairs = evidence.reshape(-1, evidence.shape[-1])
    knots = tuple(tuple(np.quantile(numbers, _KNOTS).tolist()) for numbers in pairs.T)
    rows = _columns(pairs, knots)
    means, scales = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
    return _Fitted(knots, means, scales, *weigh((rows - means) / scales, right.ravel(), _RIDGE))


def _columns(evidence: Float64, knots: Sequence[Sequence[float]]) -> Float64:
    """Lay out evidence (..., 2) as columns (..., 2 + knots)."""
    bent = [np.maximum(evidence[..., number] - knot, 0) for number, own in enumerate(knots) for knot in own]
    return np.concatenate([evidence, np.stack(bent, axis=-1)], axis=-1)


def _per_word(logits: Float64, right: Bools) -> Interval:
    from phosphene.evaluation.ranking import mean_interval  # scipy takes half a second, and probabilities do without

    told = [place for place in range(right.shape[1]) if 0 < right[:, place].sum() < len(right)]
    return mean_interval(np.array([auroc(logits[:, place], right[:, place]) for place in told]))


def _reliability(probabilities: Float64, right: Bools) -> tuple[ReliabilityBin, ...]:
    number = np.digitize(probabilities, _EDGES)
    parts = [np.flatnonzero(number == one) for one in range(len(_EDGES) + 1)]
    return tuple(
        ReliabilityBin(float(probabilities[part].mean()), float(right[part].mean()), len(part))
        for part in parts
        if len(part)
    )
