"""Changing the model of the catalogue: for callers with the local token, since it is everybody's."""

from __future__ import annotations

from fastapi import APIRouter

from indexer.reindex import ACTIONS, start_reindex
from phosphene.errors import Forbidden
from search_api import problems
from search_api.auth import LOCAL_TOKEN_HEADER, Principal, PrincipalDep
from search_api.routes.dependencies import EngineDep
from search_api.schemas import ReindexAction, ReindexRequest, ReindexStatus

router = APIRouter(prefix="/v1/reindex", tags=["service"])


@router.get("", responses=problems.responses())
def status(engine: EngineDep, principal: PrincipalDep) -> ReindexStatus:
    """Say which model answers, and how a change to another one stands."""
    del principal  # any caller may know
    return ReindexStatus.of(engine)


@router.post("", status_code=202, responses=problems.responses(404))
def start(body: ReindexRequest, engine: EngineDep, principal: PrincipalDep) -> ReindexStatus:
    """Begin to move to another model, or go on with it. Searches go on with the one before until it may answer."""
    _require_local(principal)
    start_reindex(body.model, body.to_options(principal.tenant), engine=engine)
    return ReindexStatus.of(engine)


@router.post("/{action}", responses=problems.responses(404))
def act(action: ReindexAction, engine: EngineDep, principal: PrincipalDep) -> ReindexStatus:
    """Go over to the new model; go back to the one before; drop what the one before left; give the new one up."""
    _require_local(principal)
    ACTIONS[action](engine=engine)
    return ReindexStatus.of(engine)


def _require_local(principal: Principal) -> None:
    if not principal.local:
        message = (
            f"only callers with {LOCAL_TOKEN_HEADER} may change the model, as `phosphene reindex` does on the server's "
            "machine or with its settings"
        )
        raise Forbidden(message)
