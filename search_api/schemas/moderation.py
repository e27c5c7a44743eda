"""Pictures that somebody should look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from phosphene.catalog.records import Asset
from phosphene.generation.guard import BLOCKED_SCORE
from phosphene.moderation import LEAST_DECIDED, LEAST_EACH, MAX_CONCEPTS, Policy, ScoreCalibration
from search_api.schemas.assets import picture_url
from search_api.schemas.values import Body, Title

State = Literal["flagged", "approved", "rejected"]
_UNCALIBRATED = (
    f"scores are shares and no probabilities: once {LEAST_DECIDED} pictures of a concept are decided, {LEAST_EACH} of "
    "them either way, probabilities are learned from that"
)


class PolicyBody(Body):
    """What is flagged."""

    concepts: list[Annotated[str, Field(min_length=1, max_length=400)]] = Field(
        [], max_length=MAX_CONCEPTS, description="your own, in plain words; each counts by itself"
    )
    guard_rails: bool = Field(default=True, description="what the deployment does not let be drawn, too")
    min_score: float = Field(BLOCKED_SCORE, ge=0, le=1, description="flagged from this score on, 0..1")
    at_ingest: bool = Field(default=False, description="look at pictures as they come in; without it, at scans only")

    def to_policy(self) -> Policy:
        """Give it as the core has it."""
        return Policy(tuple(self.concepts), self.guard_rails, self.min_score, self.at_ingest)

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """Show it."""
        return cls(
            concepts=list(policy.concepts),
            guard_rails=policy.guard_rails,
            min_score=policy.min_score,
            at_ingest=policy.at_ingest,
        )


class ScanRequest(Body):
    """What to flag."""

    min_score: float | None = Field(None, ge=0, le=1, description="for this scan; default: that of the policy")


class ScanOut(BaseModel):
    """What became of a scan."""

    pictures: int
    flagged: int = Field(description="that wait for a decision now")


class DecisionRequest(Body):
    """What was decided about a flagged picture, and by whom."""

    decision: Literal["approve", "reject"]
    by: Annotated[Title, Field(min_length=1, description="who decides: a name for the record")]


class ModeratedOut(BaseModel):
    """A picture that was flagged."""

    asset_id: UUID
    title: str | None
    concept: str = Field(description="the nearest of what is flagged")
    score: float = Field(description="share of the flagged concepts among these and everyday ones, 0..1: zero-shot")
    probability: float | None = Field(
        description="that your people reject a flagged picture with such a score; null: too few decisions to learn from"
    )
    calibrated: bool = Field(description="whether there is a probability, learned from decisions about this concept")
    state: State
    by: str | None = Field(description="who decided")
    at: datetime | None
    thumbnail_url: str

    @classmethod
    def of(cls, asset: Asset, learned: Mapping[str, ScoreCalibration]) -> Self:
        """Show a picture."""
        said = asset.labels.moderation
        calibration = learned.get(said["concept"])
        return cls.model_validate(
            {
                "by": None,
                "at": None,
                **said,
                "asset_id": asset.id,
                "title": asset.title,
                "probability": None if calibration is None else round(calibration.probability(said["score"]), 3),
                "calibrated": calibration is not None,
                "thumbnail_url": picture_url(asset.id, "thumbnail"),
            }
        )


class LearnedOut(BaseModel):
    """A concept with enough decisions for probabilities."""

    concept: str
    approved: int = Field(description="decisions that it was learned from")
    rejected: int


class ModerationList(BaseModel):
    """Pictures in one state, the highest score first; of more than 1,000 any 1,000."""

    assets: list[ModeratedOut]
    learned: list[LearnedOut] = Field(description="concepts whose scores were calibrated by what was decided")
    note: str = Field(description="what scores and probabilities mean here")

    @classmethod
    def of(cls, assets: Sequence[Asset], learned: Mapping[str, ScoreCalibration]) -> Self:
        """Show a list."""
        told = ", ".join(f"{one.concept} (of {one.approved + one.rejected:,} decisions)" for one in learned.values())
        return cls(
            assets=[ModeratedOut.of(asset, learned) for asset in assets],
            learned=[
                LearnedOut(concept=one.concept, approved=one.approved, rejected=one.rejected)
                for one in learned.values()
            ],
            note=f"probabilities of being rejected are learned for {told}" if learned else _UNCALIBRATED,
        )
