"""Changes of the model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from indexer.gates import Options
from phosphene.assemble import Engine
from phosphene.catalog.records import ProcessRole, Reindex, ReindexState
from phosphene.types import TenantId
from search_api.schemas.golden import MAX_GOLDEN, GoldenIn
from search_api.schemas.values import Body, Text

_DEFAULT = Options()

ReindexAction = Literal["swap", "rollback", "finish", "abort"]


class ReindexRequest(Body):
    """A model to move to, and what it must pass before it answers."""

    model: Annotated[Text, Field(min_length=1, max_length=1000)] = Field(
        description="as PHOSPHENE_MODEL: an OpenCLIP name/tag, hf-hub: name, folder of the server's machine, or starter"
    )
    golden: list[GoldenIn] = Field(
        default_factory=list, max_length=MAX_GOLDEN, description="asked of both models; none: quality is not judged"
    )
    tolerance: float = Field(
        _DEFAULT.tolerance, ge=0, le=1, description="by how much recall@10 and nDCG@10 of `golden` may be worse"
    )
    least_recall: float = Field(
        _DEFAULT.least_recall, ge=0, le=1, description="recall@10 of the index against exact comparison, filters too"
    )
    max_missing: int = Field(
        _DEFAULT.max_missing, ge=0, le=2**53, description="pictures that may be lost, as the model can't embed them"
    )
    swap: bool = Field(_DEFAULT.swap, description="let it answer as soon as all is passed")

    def to_options(self, tenant: TenantId) -> Options:
        """Read what is asked of the model."""
        return Options(
            tenant=tenant,
            golden=tuple(one.query_of() for one in self.golden),
            tolerance=self.tolerance,
            least_recall=self.least_recall,
            max_missing=self.max_missing,
            swap=self.swap,
        )


class GateOut(BaseModel):
    """How the new model did at one gate."""

    name: str = Field(examples=["counts", "index recall", "quality"])
    passed: bool
    detail: str
    figures: dict[str, float]


class ReindexOut(BaseModel):
    """How a change of the model stands."""

    id: UUID
    state: ReindexState
    before: str = Field(description="the model")
    before_space: str
    after: str
    after_space: str
    swap: bool = Field(description="it is to answer as soon as all is passed")
    total: int = Field(description="pictures there were when it began")
    done: int
    waiting: int = Field(description="pictures that wait for their embedding with the new model")
    missing: int | None = Field(description="pictures that the new model can't embed; null until all were tried")
    pace: float | None = Field(description="pictures a second, while it is building")
    remaining_s: float | None
    gates: list[GateOut]
    error: str | None = Field(description="why it does not get on just now")
    started_at: datetime
    swapped_at: datetime | None
    ended_at: datetime | None
    dropped: bool = Field(description="it has ended, and nothing is left of the space that is given up")

    @classmethod
    def of(cls, reindex: Reindex) -> Self:
        """Show one."""
        report: Mapping[str, object] = reindex.report or {}
        building = reindex.state is ReindexState.BUILDING
        return cls.model_validate(
            {
                "id": reindex.id,
                "state": reindex.state,
                "before": reindex.before.model,
                "before_space": reindex.before.space.id,
                "after": reindex.after.model,
                "after_space": reindex.after.space.id,
                "swap": bool(reindex.options["swap"]),
                "total": reindex.total,
                "done": reindex.done if building else reindex.total,
                "waiting": reindex.waiting,
                "missing": reindex.missing,
                "pace": reindex.pace() if building else None,
                "remaining_s": reindex.remaining_s(),
                "gates": report.get("gates", []),
                "error": reindex.error,
                "started_at": reindex.started_at,
                "swapped_at": reindex.swapped_at,
                "ended_at": reindex.ended_at,
                "dropped": reindex.dropped,
            }
        )


class ProcessOut(BaseModel):
    """A process that is up, and what it answers from."""

    name: str = Field(description="machine/process id/a number of its own")
    role: ProcessRole
    space: str = Field(description="the space that it answers from")


class ReindexStatus(BaseModel):
    """Which model answers, and the change that is under way or was the last."""

    answers: str = Field(description="the model")
    space: str
    processes: list[ProcessOut] = Field(description="those that serve or work, as far as they have shown life lately")
    switched: bool = Field(description="all of them answer from the space that is to answer")
    reindex: ReindexOut | None = Field(description="null where the model was never changed")

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """Look at it."""
        latest = engine.catalog.reindexes.latest()
        current = engine.current
        serving = engine.catalog.reindexes.serving()
        wanted = (current.space if serving is None else serving.answers.space).id
        living = engine.presence.living()
        return cls(
            answers=current.model,
            space=current.space.id,
            processes=[ProcessOut(name=one.name, role=one.role, space=one.answers) for one in living],
            switched=all(one.answers == wanted for one in living),
            reindex=None if latest is None else ReindexOut.of(latest),
        )
