"""A label learned from examples: a linear probe on embeddings (Alain and Bengio 2016, arXiv 1610.01644).

A logistic regression with short weights; how short is chosen by predicting held-out examples, as for CLIP's own linear
probes (Radford et al. 2021, appendix A.3). It is kept as numbers, and holds for the space that it was learned in only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import numpy as np

from phosphene.catalog.records import LabelModel, LabelModelKind
from phosphene.errors import InvalidInput
from phosphene.nomatch.curves import Interval, auroc, average_precision, bootstrap
from phosphene.nomatch.evidence import Float64
from phosphene.nomatch.logistic import Bools, folds, log_loss, sigmoid, weigh
from phosphene.types import AssetId, Float32, SpaceId

LEAST = 8  # examples of either side
MOST = 2000  # of either side
_RIDGES = (1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well a probe does on examples that it was not learned from, by five folds."""

    auroc: Interval
    average_precision: float
    precision: float  # at the threshold
    recall: float
    log_loss: float
    log_loss_blind: float  # of saying the share of positives for every example


@dataclass(frozen=True, slots=True)
class Probe:
    """A label: weights (d,) for unit embeddings, and from which probability on it holds."""

    name: str
    space_id: SpaceId
    made_at: datetime
    weights: tuple[float, ...]
    intercept: float
    threshold: float
    held_out: HeldOut
    positive: tuple[AssetId, ...]
    negative: tuple[AssetId, ...]
    chosen_negative: bool  # by the caller; else drawn from the rest of the catalogue
    applied: bool = False  # to the catalogue: what comes in later gets it too

    def probabilities(self, rows: Float32) -> Float64:
        """Give probabilities, 0..1, for unit embeddings (n, d), at the share of positives among the examples."""
        return sigmoid(rows.astype(np.float64) @ np.array(self.weights) + self.intercept)

    def held(self, rows: Float32, ids: Sequence[AssetId]) -> dict[AssetId, float | None]:
        """Say of pictures (n,) with rows (n, d) which show the label, and how likely; None: it does not."""
        likely = self.probabilities(rows).tolist()
        return {id_: round(one, 3) if one >= self.threshold else None for id_, one in zip(ids, likely, strict=True)}

    def model(self) -> LabelModel:
        """Write it for the catalogue: numbers and ids."""
        content = {
            **asdict(self),
            "positive": [str(id_) for id_ in self.positive],
            "negative": [str(id_) for id_ in self.negative],
        }
        for beside in ("name", "space_id", "made_at"):
            del content[beside]
        return LabelModel(LabelModelKind.PROBE, self.name, self.space_id, content, self.made_at)

    @classmethod
    def of(cls, model: LabelModel) -> Self:
        """Read it back."""
        said: dict[str, Any] = dict(model.content)
        held: Mapping[str, Any] = said.pop("held_out")
        return cls(
            name=model.name,
            space_id=model.space_id,
            made_at=model.made_at,
            weights=tuple(said.pop("weights")),
            held_out=HeldOut(**{**held, "auroc": Interval(**held["auroc"])}),
            positive=_ids(said.pop("positive")),
            negative=_ids(said.pop("negative")),
            **said,
        )


def _ids(texts: Sequence[str]) -> tuple[AssetId, ...]:
    return tuple(AssetId(UUID(text)) for text in texts)


def train(
    name: str,
    rows: Float32,
    right: Bools,
    *,
    space_id: SpaceId,
    ids: Sequence[AssetId],
    chosen_negative: bool,
    made_at: datetime,
) -> Probe:
    """Learn a label from unit embeddings (n, d), and whether each shows it (n,). Raises InvalidInput for too few.

    The threshold is the one at which precision and recall of held-out examples are best together (F1).
    """
    sides = (int(right.sum()), int((~right).sum()))
    if min(sides) < LEAST:
        raise InvalidInput(
            f"{sides[0]} examples for and {sides[1]} against are too few to learn {name!r} from and to know how well: "
            f"{LEAST} of either are needed"
        )
    design = rows.astype(np.float64) * np.sqrt(rows.shape[1])
    # Dealt out apart, so that each fold has its share of either side.
    fold = np.empty(len(rows), dtype=np.int64)
    fold[right], fold[~right] = folds(np.arange(sides[0]), seed=0), folds(np.arange(sides[1]), seed=1)
    outcomes = [(ridge, _held_out(design, right, fold, ridge)) for ridge in _RIDGES]
    ridge, logits = min(outcomes, key=lambda outcome: log_loss(outcome[1], right))
    weights, intercept = weigh(design, right, ridge)
    threshold = _threshold(logits, right)
    called = sigmoid(logits) >= threshold
    share = float(right.mean())
    scaled = weights * np.sqrt(rows.shape[1])
    return Probe(
        name=name,
        space_id=space_id,
        made_at=made_at,
        weights=tuple(scaled.tolist()),
        intercept=intercept,
        threshold=threshold,
        held_out=HeldOut(
            auroc=bootstrap(lambda drawn: auroc(logits[drawn], right[drawn]), np.arange(len(rows)), resamples=200),
            average_precision=average_precision(logits, right),
            precision=float(right[called].mean()) if called.any() else 0.0,
            recall=float(called[right].mean()),
            log_loss=log_loss(logits, right),
            log_loss_blind=float(-share * np.log(share) - (1 - share) * np.log(1 - share)),
        ),
        positive=tuple(id_ for id_, shown in zip(ids, right, strict=True) if shown),
        negative=tuple(id_ for id_, shown in zip(ids, right, strict=True) if not shown),
        chosen_negative=chosen_negative,
    )


def _held_out(design: Float64, right: Bools, fold: np.ndarray[Any, np.dtype[np.int64]], ridge: float) -> Float64:
    logits = np.empty(len(design))
    for number in np.unique(fold):
        inside = fold == number
        weights, intercept = weigh(design[~inside], right[~inside], ridge)
        logits[inside] = design[inside] @ weights + intercept
    return logits


def _threshold(logits: Float64, right: Bools) -> float:
    order = np.argsort(-logits, kind="stable")
    hits = np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + right.sum())
    at = int(f1.argmax())
    below = logits[order[at + 1]] if at + 1 < len(order) else logits[order[at]]
    return float(sigmoid(np.array([(logits[order[at]] + below) / 2]))[0])
