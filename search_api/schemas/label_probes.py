"""Labels learned from examples."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from indexer.probing import Applied, Examples, StandingProbe
from phosphene.filters import Filter
from phosphene.labels.probes import MOST, Probe
from phosphene.types import AssetId
from search_api.schemas.calibrations import IntervalOut
from search_api.schemas.labels import Label
from search_api.schemas.values import Body, FilterIn

Ids = Annotated[list[UUID], Field(max_length=MOST)]


class ProbeRequest(Body):
    """A label, and examples for it and against it; without any: those that it was learned from before."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "insect", "where": {"field": "keywords", "equals": "insect"}}]},
    )

    name: Label
    positive: Ids = Field(default_factory=list, description="pictures that show it")
    negative: Ids = Field(
        default_factory=list, description="pictures that do not; none: others of the catalogue stand in for them"
    )
    where: FilterIn | None = Field(None, description="all that this finds are examples for it, too")

    def examples(self, where: Filter | None) -> Examples | None:
        """Give the examples. Raises InvalidInput."""
        if not self.positive and not self.negative and where is None:
            return None
        return Examples(
            tuple(map(AssetId, dict.fromkeys(self.positive))), tuple(map(AssetId, dict.fromkeys(self.negative))), where
        )


class HeldOutOut(BaseModel):
    """How well a label does on examples that it was not learned from, by five folds."""

    auroc: IntervalOut
    average_precision: float
    precision: float = Field(description="at the threshold")
    recall: float
    log_loss: float
    log_loss_blind: float = Field(description="of saying the share of positives for every example")


class ProbeOut(BaseModel):
    """A label learned from examples, without its weights."""

    name: str
    space: str = Field(description="that it was learned in and holds for")
    made_at: datetime
    stale: bool = Field(description="another model answers than it was learned with: train it again")
    applied: bool = Field(description="pictures that come in get it, too")
    threshold: float = Field(description="probability from which on a picture gets the label")
    positive: int = Field(description="examples for it")
    negative: int
    chosen_negative: bool = Field(description="by whoever trained it; else drawn from the rest of the catalogue")
    held_out: HeldOutOut

    @classmethod
    def of(cls, standing: StandingProbe) -> Self:
        """Show a label."""
        one = standing.probe
        return cls(
            name=one.name,
            space=one.space_id,
            made_at=one.made_at,
            stale=standing.stale,
            applied=one.applied,
            threshold=one.threshold,
            positive=len(one.positive),
            negative=len(one.negative),
            chosen_negative=one.chosen_negative,
            held_out=HeldOutOut.model_validate(asdict(one.held_out)),
        )


class ProbeList(BaseModel):
    """The labels that were learned, by name."""

    probes: list[ProbeOut]


class AppliedOut(BaseModel):
    """What became of applying a label to the catalogue."""

    name: str
    threshold: float
    pictures: int = Field(description="that were looked at")
    labelled: int = Field(description="that have the label now: filter by probe_labels")

    @classmethod
    def of(cls, done: Applied) -> Self:
        """Show what was done."""
        return cls(name=done.probe.name, threshold=done.probe.threshold, pictures=done.pictures, labelled=done.labelled)


class ProbeAnswer(BaseModel):
    """Whether a picture shows a label."""

    name: str
    probability: float = Field(description="at the share of positives among the examples")
    threshold: float
    holds: bool

    @classmethod
    def of(cls, probe: Probe, probability: float) -> Self:
        """Show an answer."""
        return cls(
            name=probe.name,
            probability=probability,
            threshold=probe.threshold,
            holds=probability >= probe.threshold,
        )
