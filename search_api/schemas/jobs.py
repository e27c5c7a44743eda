"""Jobs of a whole catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from phosphene.catalog.records import CatalogueJob, CatalogueJobKind, CatalogueJobState
from phosphene.labels.vocabulary import MAX_LABEL
from search_api.schemas.labels import KeywordsRequest
from search_api.schemas.moderation import ScanRequest
from search_api.schemas.values import Body


class KeywordsJob(KeywordsRequest):
    """Automatic keywords for all pictures, as POST /v1/keywords gives them."""

    kind: Literal["keywords"]

    def arguments(self) -> Mapping[str, Any]:
        """Say what is to be done. Raises InvalidInput."""
        asked = self.asked()
        return {
            "words": None if asked.words is None else list(asked.words),
            "min_probability": asked.min_probability,
            "most": asked.most,
            "new_only": asked.new_only,
        }


class ProbeJob(Body):
    """A learned label for all pictures that show it, as POST /v1/probes/{name}/apply gives it."""

    kind: Literal["probe"]
    name: str = Field(min_length=1, max_length=MAX_LABEL, description="of a label that was learned")

    def arguments(self) -> Mapping[str, Any]:
        """Say what is to be done."""
        return {"name": self.name}


class ModerationJob(ScanRequest):
    """A scan for what people should look at, as POST /v1/moderation/scan makes it."""

    kind: Literal["moderation"]

    def arguments(self) -> Mapping[str, Any]:
        """Say what is to be done."""
        return {"min_score": self.min_score}


class DuplicatesJob(Body):
    """All pictures that were not compared yet are compared with the others."""

    kind: Literal["duplicates"]

    def arguments(self) -> Mapping[str, Any]:
        """Say what is to be done."""
        return {}


JobRequest = Annotated[KeywordsJob | ProbeJob | ModerationJob | DuplicatesJob, Field(discriminator="kind")]


class JobOut(BaseModel):
    """A job, and how it stands."""

    id: UUID
    kind: CatalogueJobKind
    state: CatalogueJobState = Field(description="queued, running, finished or failed")
    result: dict[str, int] | None = Field(description="counts, once it has finished", examples=[{"pictures": 1059}])
    error: str | None = Field(description="why it failed")
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: CatalogueJob) -> Self:
        """Show a job."""
        return cls(**{name: getattr(job, name) for name in cls.model_fields})


class JobList(BaseModel):
    """Jobs, the latest first."""

    jobs: list[JobOut]
