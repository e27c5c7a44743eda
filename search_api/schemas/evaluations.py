"""How good search is, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from phosphene.evaluation.bias import Disparity, Limit
from phosphene.evaluation.captions import CaptionReport
from phosphene.evaluation.classification import ZeroShotReport
from phosphene.evaluation.golden import GoldenReport
from phosphene.evaluation.matching import MatchReport
from phosphene.evaluation.recall import SHARES, RecallReport
from phosphene.nomatch.curves import Interval
from search_api.schemas.calibrations import IntervalOut, RocPointOut
from search_api.schemas.golden import MAX_GOLDEN, GoldenIn
from search_api.schemas.values import Body

MAX_PROBES = 10_000

Share = Annotated[float, Field(gt=0, le=1)]


class IndexRecallIn(Body):
    """What of the index to measure."""

    k: int = Field(10, ge=1, le=1000, description="neighbours of each question")
    questions: int = Field(200, ge=1, le=MAX_PROBES, description="stored pictures that are asked for their neighbours")
    shares: list[Share] = Field(
        default_factory=lambda: list(SHARES), max_length=10, description="of the pictures that filters leave"
    )


class EvaluationRequest(Body):
    """What to measure: at least one of these."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"golden": [{"query": "a dog", "relevant": {"dog.jpg": 1}}]}]},
    )

    golden: list[GoldenIn] | None = Field(None, min_length=1, max_length=MAX_GOLDEN)
    no_match: bool = Field(
        default=False, description="ask golden queries also with their pictures taken out: needs `golden`"
    )
    index_recall: IndexRecallIn | None = None


class QueryScoreOut(BaseModel):
    """How one golden query went."""

    query: str
    first_right: int | None = Field(description="rank of the first right picture, from 1; null: not among 100")
    coverage: float = Field(description="share of the right pictures among the first 10, of as many as fit")
    ndcg: float


class GoldenOut(BaseModel):
    """How well golden queries find their pictures."""

    metrics: dict[str, IntervalOut] = Field(
        description="recall@1, recall@5, recall@10, coverage@10, mrr, ndcg@10: 0..1"
    )
    queries: list[QueryScoreOut]
    missing: list[str] = Field(description="pictures that are named and not in the catalogue; they count as not found")

    @classmethod
    def of(cls, report: GoldenReport) -> Self:
        """Show a report."""
        queries = [
            QueryScoreOut(query=one.text, first_right=one.first_right, coverage=one.coverage, ndcg=one.ndcg)
            for one in report.queries
        ]
        return cls(metrics=_intervals(report.metrics), queries=queries, missing=list(report.missing))


class NoMatchOut(BaseModel):
    """How well matches are told from what is merely nearest, on golden queries with and without their pictures."""

    questions: int
    right: float = Field(description="share of questions whose best hit is right")
    decided_by: str = Field(description="calibration, or z-score where there is none")
    auroc: IntervalOut
    cosine_auroc: IntervalOut = Field(description="of the best score alone, for comparison")
    false_match_rate: float | None = Field(description="share of wrong best hits called a match")
    missed_match_rate: float | None = Field(description="share of right best hits not called a match")
    promised: float | None = Field(description="the false-match rate that the calibration promises")
    roc: list[RocPointOut]

    @classmethod
    def of(cls, report: MatchReport) -> Self:
        """Show a report."""
        return cls.model_validate(asdict(report))


class RecallUnderOut(BaseModel):
    """Index recall under one condition."""

    condition: str
    points: int
    recall: IntervalOut
    worst: float
    index_ms: float = Field(description="a question, asked many at a time")
    exact_ms: float


class IndexRecallOut(BaseModel):
    """How much of what an exact comparison finds the index finds too."""

    k: int
    questions: int
    points: int
    conditions: list[RecallUnderOut]

    @classmethod
    def of(cls, report: RecallReport) -> Self:
        """Show a report."""
        return cls.model_validate(asdict(report))


class ClassScoreOut(BaseModel):
    """How one class went."""

    label: str
    pictures: int
    accuracy: float
    mistaken_for: str | None


class ZeroShotOut(BaseModel):
    """Zero-shot accuracy."""

    pictures: int
    classes: int
    accuracy_at_1: IntervalOut
    accuracy_at_5: IntervalOut
    mean_per_class: IntervalOut
    worst: list[ClassScoreOut]
    skipped: int = Field(description="files that are no pictures")

    @classmethod
    def of(cls, report: ZeroShotReport, *, skipped: int) -> Self:
        """Show a report."""
        return cls.model_validate({**asdict(report), "skipped": skipped})


class CaptionsOut(BaseModel):
    """Captions against pictures, in both directions."""

    pictures: int
    captions: int
    text_to_image: dict[str, IntervalOut] = Field(description="recall@1, recall@5, recall@10")
    image_to_text: dict[str, IntervalOut]
    skipped: int = Field(description="files that are no pictures, left out with their captions")

    @classmethod
    def of(cls, report: CaptionReport, *, skipped: int) -> Self:
        """Show a report."""
        both = (report.text_to_image, report.image_to_text)
        text, image = ({f"recall@{depth}": _interval(one) for depth, one in side.items()} for side in both)
        return cls(
            pictures=report.pictures, captions=report.captions, text_to_image=text, image_to_text=image, skipped=skipped
        )


class LimitOut(BaseModel):
    """How often the right caption was chosen for made pictures of one kind, and how often chance would."""

    name: str
    asks: str
    pictures: int
    accuracy: IntervalOut
    chance: float


class DisparityOut(BaseModel):
    """The share of each group of people that a label is given to."""

    label: str
    shares: dict[str, IntervalOut]
    difference: float = Field(description="the largest share less the smallest")
    ratio: float | None = Field(description="the largest over the smallest; null where that is 0")


class BiasOut(BaseModel):
    """Known limits of CLIP models, and how differently this one speaks of groups of people."""

    limits: list[LimitOut]
    groups: dict[str, int] = Field(description="pictures of people in each")
    disparities: list[DisparityOut] = Field(description="the largest difference first")

    @classmethod
    def of(cls, limits: Sequence[Limit], groups: Mapping[str, int], found: Sequence[Disparity]) -> Self:
        """Show a report."""
        return cls.model_validate(
            {
                "limits": [asdict(one) for one in limits],
                "groups": dict(groups),
                "disparities": [asdict(one) for one in found],
            }
        )


class EvaluationOut(BaseModel):
    """All that was measured; what was not asked for is null."""

    model: str
    space: str
    golden: GoldenOut | None = None
    no_match: NoMatchOut | None = None
    index_recall: IndexRecallOut | None = None
    zero_shot: ZeroShotOut | None = None
    captions: CaptionsOut | None = None
    bias: BiasOut | None = None

    def metrics(self) -> dict[str, IntervalOut]:
        """Give every figure by its name, each 0..1, more is better."""
        found: dict[str, IntervalOut] = {}
        if self.golden is not None:
            found |= self.golden.metrics
        if self.no_match is not None:
            found["match_auroc"] = self.no_match.auroc
        if self.index_recall is not None:
            name = f"index_recall@{self.index_recall.k}"
            found[name] = min((one.recall for one in self.index_recall.conditions), key=lambda recall: recall.value)
        if self.zero_shot is not None:
            found["accuracy@1"], found["accuracy@5"] = self.zero_shot.accuracy_at_1, self.zero_shot.accuracy_at_5
            found["mean_per_class"] = self.zero_shot.mean_per_class
        if self.captions is not None:
            found |= {f"text_to_image_{name}": one for name, one in self.captions.text_to_image.items()}
            found |= {f"image_to_text_{name}": one for name, one in self.captions.image_to_text.items()}
        if self.bias is not None:
            found |= {one.name: one.accuracy for one in self.bias.limits}
        return found


def _interval(interval: Interval) -> IntervalOut:
    return IntervalOut(value=interval.value, low=interval.low, high=interval.high)


def _intervals(metrics: Mapping[str, Interval]) -> dict[str, IntervalOut]:
    return {name: _interval(one) for name, one in metrics.items()}
