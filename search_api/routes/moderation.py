"""Pictures that somebody should look at: flagged by concepts, decided by people."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from indexer import moderation
from phosphene.errors import Unavailable
from phosphene.types import AssetId
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.routes.dependencies import EngineDep
from search_api.schemas.moderation import (
    DecisionRequest,
    ModeratedOut,
    ModerationList,
    ScanOut,
    ScanRequest,
    State,
)

router = APIRouter(prefix="/v1/moderation", tags=["moderation"])


@router.post("/scan", responses=problems.responses())
def scan(request: Request, body: ScanRequest, engine: EngineDep, principal: PrincipalDep) -> ScanOut:
    """Flag pictures that are near to what is blocked; decisions stand. `moderation` in filters: flagged, rejected."""
    done = moderation.scan(
        min_score=body.min_score, engine=engine, tenant=principal.tenant, stop=request.app.state.stopping
    )
    if done.stopped:
        raise Unavailable(f"the server is shutting down: {done.pictures} pictures are done; ask again")
    return ScanOut(pictures=done.pictures, flagged=done.flagged)


@router.get("", responses=problems.responses())
def queue(
    engine: EngineDep,
    principal: PrincipalDep,
    state: Annotated[State, Query(description="flagged: those that wait for a decision")] = "flagged",
) -> ModerationList:
    """List pictures that were flagged, or what was decided of them."""
    found = moderation.listed(state, engine=engine, tenant=principal.tenant)
    return ModerationList(assets=[ModeratedOut.of(asset) for asset in found])


@router.post("/{asset_id}", responses=problems.responses(404))
def decide(asset_id: UUID, body: DecisionRequest, engine: EngineDep, principal: PrincipalDep) -> ModeratedOut:
    """Approve or reject a picture that was flagged; who and when are kept with it."""
    state = moderation.APPROVED if body.decision == "approve" else moderation.REJECTED
    asset = moderation.decide(AssetId(asset_id), state, by=body.by, engine=engine, tenant=principal.tenant)
    return ModeratedOut.of(asset)
