"""What a tenant wants a second look at, and what its people's decisions say of scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from phosphene.catalog.records import LabelModel, LabelModelKind
from phosphene.errors import InvalidInput
from phosphene.generation.guard import BLOCKED_SCORE, Guard, Judged
from phosphene.labels.labeller import Labeller
from phosphene.labels.vocabulary import checked_labels
from phosphene.nomatch.logistic import sigmoid, weigh
from phosphene.types import AssetId, Float32, SpaceId

FLAGGED, APPROVED, REJECTED = "flagged", "approved", "rejected"
STATES = (FLAGGED, APPROVED, REJECTED)
DECIDED = (APPROVED, REJECTED)
MAX_CONCEPTS = 100
LEAST_DECIDED = 20  # of one concept, before probabilities are told
LEAST_EACH = 5  # approved, and rejected
_NAME = "policy"
_RIDGE = 1.0
_NEAR_CERTAIN = 1e-4  # scores are held within, so that their log odds stay bounded


@dataclass(frozen=True, slots=True)
class Policy:
    """Which pictures of a tenant are flagged."""

    concepts: tuple[str, ...] = ()  # its own; each counts by itself
    guard_rails: bool = True  # what the deployment blocks, too
    min_score: float = BLOCKED_SCORE  # 0..1
    at_ingest: bool = False  # pictures are looked at as they are embedded

    def checked(self) -> Policy:
        """Collapse white space. Raises InvalidInput for what is no text, too much, or nothing at all."""
        if not self.concepts and not self.guard_rails:
            raise InvalidInput("there would be nothing to flag: name concepts, or keep those of the guard rails")
        if not self.concepts:
            return self
        return replace(self, concepts=checked_labels(self.concepts, most=MAX_CONCEPTS, what="concepts"))

    def model(self, space_id: SpaceId, made_at: datetime) -> LabelModel:
        """Write it for the catalogue."""
        return LabelModel(LabelModelKind.MODERATION, _NAME, space_id, asdict(self), made_at)

    @classmethod
    def of(cls, models: Sequence[LabelModel]) -> Policy | None:
        """Read the latest: it holds in every space."""
        kept = max((one for one in models if one.name == _NAME), key=lambda one: one.made_at, default=None)
        return None if kept is None else cls(**{**kept.content, "concepts": tuple(kept.content["concepts"])})


def judge(rows: Float32, policy: Policy, *, guard: Guard, labeller: Labeller) -> list[Judged]:
    """Score image embeddings (n, d) of length 1 against what a tenant wants flagged."""
    own = dict(zip(policy.concepts, labeller.rows(policy.concepts), strict=True)) if policy.concepts else {}
    return guard.judge_pictures(rows, own=own, shipped=policy.guard_rails)


def flags(
    ids: Sequence[AssetId], judged: Sequence[Judged], *, min_score: float, space_id: SpaceId
) -> dict[AssetId, Mapping[str, Any] | None]:
    """Say which of these pictures to flag, and why; None: not this one."""
    return {
        id_: {"state": FLAGGED, "concept": one.concept, "score": round(one.score, 3), "space": space_id}
        if one.score >= min_score
        else None
        for id_, one in zip(ids, judged, strict=True)
    }


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """How the score of one concept becomes the probability that the tenant's people reject a flagged picture."""

    concept: str
    approved: int
    rejected: int
    intercept: float
    slope: float  # of the log odds of the score; 0 where it says nothing

    def probability(self, score: float) -> float:
        """Give the probability, 0..1, for a score, 0..1."""
        return float(sigmoid(np.array(self.intercept + self.slope * _log_odds(score))))


def calibrate_scores(decided: Iterable[tuple[str, float, bool]]) -> dict[str, ScoreCalibration]:
    """Learn from decisions (concept, score, rejected), for each concept with enough of them (Platt 1999).

    Only flagged pictures are ever decided: a probability is that of flagged ones with such a score, and of no others.
    """
    by_concept: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for concept, score, rejected in decided:
        by_concept[concept].append((_log_odds(score), rejected))
    found = {}
    for concept, told in sorted(by_concept.items()):
        odds, wrong = np.array([at for at, _ in told]), np.array([rejected for _, rejected in told], dtype=np.bool_)
        rejections = int(wrong.sum())
        approved = len(told) - rejections
        if len(told) < LEAST_DECIDED or min(approved, rejections) < LEAST_EACH:
            continue
        scale = max(float(odds.std()), 1e-9)
        weights, intercept = weigh(((odds - odds.mean()) / scale)[:, None], wrong, _RIDGE)
        slope = float(weights[0]) / scale
        if slope > 0:
            intercept -= slope * float(odds.mean())
        else:  # a higher score must not lower the probability
            slope, intercept = 0.0, float(np.log(rejections / approved))
        found[concept] = ScoreCalibration(concept, approved, rejections, float(intercept), slope)
    return found


def _log_odds(score: float) -> float:
    held = min(max(score, _NEAR_CERTAIN), 1 - _NEAR_CERTAIN)
    return float(np.log(held / (1 - held)))
