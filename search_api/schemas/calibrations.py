"""How well matches can be told, and what is promised of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from phosphene.nomatch.calibrate import Calibrated
from phosphene.nomatch.calibration import FALSE_MATCH_RATE, Discrimination
from phosphene.nomatch.decision import Standing
from phosphene.types import Modality
from search_api.schemas.golden import MAX_GOLDEN, GoldenIn
from search_api.schemas.values import Body


class CalibrationRequest(Body):
    """What to promise."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"false_match_rate": 0.1}]})

    false_match_rate: float = Field(
        FALSE_MATCH_RATE, gt=0, lt=1, description="share of wrong best hits that may be called a match"
    )
    golden: list[GoldenIn] = Field(
        default_factory=list, max_length=MAX_GOLDEN, description="learned from beside the catalogue's own captions"
    )


class IntervalOut(BaseModel):
    """A figure with its 95 % bootstrap interval over captions."""

    value: float
    low: float
    high: float


class DiscriminationOut(BaseModel):
    """How well right best hits are told from wrong ones."""

    auroc: IntervalOut
    average_precision: IntervalOut

    @classmethod
    def of(cls, measured: Discrimination) -> Self:
        """Show a measurement."""
        return cls(**asdict(measured))


class RocPointOut(BaseModel):
    """What one threshold would do."""

    false_match_rate: float
    true_match_rate: float
    threshold: float


class ReliabilityOut(BaseModel):
    """Questions of about one probability."""

    predicted: float
    observed: float
    questions: int


class CalibrationOut(BaseModel):
    """A calibration; every figure is of captions that the model had not seen."""

    space: str
    modality: Modality = Field(description="what questions it is for")
    made_at: datetime
    assets: int = Field(description="pictures in the catalogue at that time")
    stale: bool = Field(description="the catalogue has grown or shrunk by more than a fifth since")
    threshold: float = Field(description="probability from which on the best hit is called a match")
    false_match_rate: float = Field(description="promised: share of wrong best hits called a match")
    missed_match_rate: float = Field(description="share of right best hits not called a match")
    questions: int
    captions: int = Field(description="and golden queries")
    golden: int = Field(description="of the captions, queries that people judged")
    share_right: float = Field(description="of all questions asked; probabilities take it for granted")
    decision: DiscriminationOut
    raw_cosine: DiscriminationOut = Field(description="the best score alone, for comparison")
    z_score: DiscriminationOut = Field(description="the rule of thumb without calibration, for comparison")
    without: dict[str, float] = Field(description="AUROC without one kind of evidence")
    roc: list[RocPointOut]
    reliability: list[ReliabilityOut]

    @classmethod
    def of(cls, standing: Standing) -> Self:
        """Show a calibration without the weights of its model."""
        one = standing.calibration
        return cls(
            space=one.space_id,
            modality=one.modality,
            made_at=one.made_at,
            assets=one.assets,
            stale=standing.stale,
            threshold=one.threshold,
            false_match_rate=one.false_match_rate,
            missed_match_rate=one.missed_match_rate,
            questions=one.questions,
            captions=one.captions,
            golden=one.golden,
            share_right=one.share_right,
            decision=DiscriminationOut.of(one.decision),
            raw_cosine=DiscriminationOut.of(one.raw_cosine),
            z_score=DiscriminationOut.of(one.z_score),
            without=dict(one.without),
            roc=[RocPointOut(**asdict(point)) for point in one.roc],
            reliability=[ReliabilityOut(**asdict(part)) for part in one.reliability],
        )


class NotCalibrated(BaseModel):
    """A kind of question that could not be calibrated."""

    modality: Modality
    reason: str


class CalibrationList(BaseModel):
    """The calibrations in force, one for each kind of question."""

    calibrations: list[CalibrationOut]
    failed: list[NotCalibrated] = Field(default_factory=list, description="what was tried just now without success")

    @classmethod
    def of(cls, standing: Sequence[Standing], outcomes: Sequence[Calibrated] = ()) -> Self:
        """Show what is in force, and what was tried in vain."""
        failed = [NotCalibrated(modality=one.modality, reason=one.reason) for one in outcomes if one.reason is not None]
        return cls(calibrations=[CalibrationOut.of(one) for one in standing], failed=failed)
