"""A calibration: the model of one space and one kind of question, with what it promises and how well it holds."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from phosphene.errors import Cancelled, DamagedData, InvalidInput
from phosphene.life import show_life
from phosphene.nomatch.curves import (
    Interval,
    ReliabilityBin,
    RocPoint,
    auroc,
    average_precision,
    bootstrap,
    reliability,
    roc,
    threshold_for,
)
from phosphene.nomatch.evidence import FEATURES, GROUPS, Z_SCORE, Float64
from phosphene.nomatch.logistic import Bools, Integers, LogisticModel, cross_validated, sigmoid
from phosphene.types import Modality, SpaceId

FALSE_MATCH_RATE = 0.1  # of hits that are wrong, so many may be called a match
GROWTH = 0.2  # a catalogue that has changed by more wants a new calibration
LEAST = 40  # right and wrong hits that fitting needs


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Questions whose answer is known: evidence (n, len(FEATURES)), whether the top hit was right (n,), group (n,).

    All questions of one caption are one group, so that a caption never stands on both sides of a cross-validation.
    """

    evidence: Float64
    right: Bools
    groups: Integers

    def __len__(self) -> int:
        return len(self.right)

    def and_those(self, others: Trials) -> Trials:
        """Add trials of other groups."""
        return Trials(
            np.concatenate([self.evidence, others.evidence]),
            np.concatenate([self.right, others.right]),
            np.concatenate([self.groups, others.groups]),
        )


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How well some score tells right top hits from wrong ones."""

    auroc: Interval
    average_precision: Interval


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that is stored; rates and curves are of questions whose caption the model had not seen."""

    space_id: SpaceId
    modality: Modality
    model: LogisticModel
    threshold: float  # probability from which on the top hit is called a match
    false_match_rate: float  # promised: share of wrong top hits that are called a match
    missed_match_rate: float  # share of right top hits that are not
    questions: int
    captions: int
    share_right: float  # of all questions asked, which is what probabilities take for granted
    decision: Discrimination
    raw_cosine: Discrimination
    z_score: Discrimination
    without: Mapping[str, float]  # AUROC without one group of evidence
    roc: tuple[RocPoint, ...]
    reliability: tuple[ReliabilityBin, ...]
    assets: int  # pictures in the catalogue when it was made
    made_at: datetime  # UTC
    golden: int = 0  # of the captions, that people wrote and judged

    def probability(self, evidence: Float64) -> float:
        """Give the probability that the top hit is right, from a row of evidence (len(FEATURES),)."""
        return float(self.model.probabilities(evidence[None])[0])

    def stale(self, assets: int) -> bool:
        """Whether the catalogue has grown or shrunk by more than a fifth since."""
        return abs(assets - self.assets) > GROWTH * self.assets

    def to_json(self) -> dict[str, Any]:
        """Give it as the catalogue stores it."""
        content: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` gave. Raises DamagedData."""
        try:
            return _ADAPTER.validate_python(content)
        except ValidationError as error:
            message = (
                f"a stored calibration can't be read ({error.errors()[0]['msg']}): run `phosphene calibrate` again"
            )
            raise DamagedData(message) from error


_ADAPTER = TypeAdapter(Calibration)


def fit_calibration(
    trials: Trials,
    *,
    space_id: SpaceId,
    modality: Modality,
    assets: int,
    made_at: datetime,
    false_match_rate: float,
    golden: int = 0,
    stop: threading.Event | None = None,
) -> Calibration:
    """Fit, choose the threshold that keeps the promise on unseen captions, and describe how well all of it holds.

    Raises InvalidInput where there are too few right or wrong hits to learn from, Cancelled once `stop` is set.
    """
    evidence, right, groups = trials.evidence, trials.right, trials.groups
    enough(trials)
    chosen = cross_validated(evidence, right, groups, features=FEATURES)
    probabilities = sigmoid(chosen.logits)
    threshold = threshold_for(probabilities, right, false_match_rate=false_match_rate)
    without = ablation(trials, stop=stop)
    measured = [
        discrimination(scores, right, groups, stop=stop)
        for scores in (probabilities, evidence[:, FEATURES.index("top")], evidence[:, Z_SCORE])
    ]
    return Calibration(
        space_id=space_id,
        modality=modality,
        model=chosen.model,
        threshold=threshold,
        false_match_rate=false_match_rate,
        missed_match_rate=float((probabilities[right] < threshold).mean()),
        questions=len(trials),
        captions=len(np.unique(groups)),
        share_right=float(right.mean()),
        decision=measured[0],
        raw_cosine=measured[1],
        z_score=measured[2],
        without=without,
        roc=roc(probabilities, right),
        reliability=reliability(probabilities, right),
        assets=assets,
        made_at=made_at,
        golden=golden,
    )


def enough(trials: Trials) -> None:
    """Raise InvalidInput where there are too few right or wrong hits to learn from."""
    right, wrong = int(trials.right.sum()), int((~trials.right).sum())
    if min(right, wrong) < LEAST:
        raise InvalidInput(
            f"too little to learn from: {right} top hits were right and {wrong} wrong, {LEAST} of each are needed; "
            "give more pictures titles or keywords"
        )


def discrimination(
    scores: Float64, right: Bools, groups: Integers, *, stop: threading.Event | None = None
) -> Discrimination:
    """Measure a score with bootstrap intervals over captions. Raises Cancelled once `stop` is set."""
    _go_on(stop)
    return Discrimination(
        auroc=bootstrap(lambda rows: auroc(scores[rows], right[rows]), groups),
        average_precision=bootstrap(lambda rows: average_precision(scores[rows], right[rows]), groups),
    )


def ablation(trials: Trials, *, stop: threading.Event | None = None) -> dict[str, float]:
    """Give the cross-validated AUROC without each group of evidence."""
    result = {}
    for name, left_out in GROUPS.items():
        _go_on(stop)
        features = [feature for feature in FEATURES if feature not in left_out]
        chosen = cross_validated(trials.evidence, trials.right, trials.groups, features=features)
        result[name] = auroc(chosen.logits, trials.right)
    return result


def _go_on(stop: threading.Event | None) -> None:
    """Raise Cancelled once `stop` is set: what follows takes about a second."""
    show_life()
    if stop is not None and stop.is_set():
        raise Cancelled("fitting was stopped before it was done")
