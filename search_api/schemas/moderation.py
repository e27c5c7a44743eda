"""Pictures that somebody should look at."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from phosphene.catalog.records import Asset
from phosphene.generation.guard import BLOCKED_SCORE
from search_api.schemas.assets import picture_url
from search_api.schemas.values import Body, Title

State = Literal["flagged", "approved", "rejected"]


class ScanRequest(Body):
    """What to flag."""

    min_score: float = Field(BLOCKED_SCORE, ge=0, le=1, description="of the nearest blocked concept, 0..1")


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
    concept: str = Field(description="the nearest of what is blocked")
    score: float = Field(description="share of the blocked concepts among these and everyday ones, 0..1: zero-shot")
    calibrated: Literal[False] = Field(default=False, description="the score is no probability of being right")
    state: State
    by: str | None = Field(description="who decided")
    at: datetime | None
    thumbnail_url: str

    @classmethod
    def of(cls, asset: Asset) -> Self:
        """Show a picture."""
        said = asset.labels.moderation
        return cls.model_validate(
            {
                "by": None,
                "at": None,
                **said,
                "asset_id": asset.id,
                "title": asset.title,
                "thumbnail_url": picture_url(asset.id, "thumbnail"),
            }
        )


class ModerationList(BaseModel):
    """Pictures in one state, the highest score first, at most 1,000."""

    assets: list[ModeratedOut]
