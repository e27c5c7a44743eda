"""Pictures that somebody should look at: flagged by concepts, decided by people."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from search_api import problems
from search_api.auth import PrincipalDep
from search_api.moderating import Moderation
from search_api.routes.dependencies import LONG, EngineDep
from search_api.schemas.moderation import (
    DecisionRequest,
    ModeratedOut,
    ModerationList,
    PolicyBody,
    ScanOut,
    ScanRequest,
    State,
)

router = APIRouter(prefix="/v1/moderation", tags=["moderation"])


def moderation_of(request: Request, engine: EngineDep, principal: PrincipalDep) -> Moderation:
    """Give the review queue of the caller."""
    return Moderation(engine, principal.tenant, stop=request.app.state.stopping)


ModerationDep = Annotated[Moderation, Depends(moderation_of)]


@router.get("/policy", responses=problems.responses())
def policy(moderation: ModerationDep) -> PolicyBody:
    """Say what is flagged, and when."""
    return moderation.policy()


@router.put("/policy", responses=problems.responses())
def set_policy(body: PolicyBody, moderation: ModerationDep) -> PolicyBody:
    """Flag this from now on: by the next scan and, where wanted, as pictures come in. What is flagged stays."""
    return moderation.set_policy(body)


@router.post("/scan", dependencies=LONG, responses=problems.responses(429))
def scan(body: ScanRequest, moderation: ModerationDep) -> ScanOut:
    """Flag pictures by the policy; decisions stand. `moderation` in filters: flagged, approved, rejected."""
    return moderation.scan(body)


@router.get("", responses=problems.responses())
def queue(
    moderation: ModerationDep,
    state: Annotated[State, Query(description="flagged: those that wait for a decision")] = "flagged",
) -> ModerationList:
    """List pictures that were flagged, or what was decided of them: 1,000 at most, the highest score first.

    Where there are more in this state, which of them come is not said: decide, and others follow.
    """
    return moderation.listed(state)


@router.post("/{asset_id}", responses=problems.responses(404))
def decide(asset_id: UUID, body: DecisionRequest, moderation: ModerationDep) -> ModeratedOut:
    """Approve or reject a picture that was flagged; who and when are kept with it."""
    return moderation.decide(asset_id, body)
