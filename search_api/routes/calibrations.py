"""Calibrating: learning from the catalogue's own captions when the best hit is a match."""

from __future__ import annotations

from fastapi import APIRouter, Request

from phosphene.errors import Unavailable
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.routes.dependencies import EngineDep
from search_api.schemas import CalibrationList, CalibrationRequest

router = APIRouter(prefix="/v1/calibrations", tags=["calibration"])


@router.post("", responses=problems.responses(429))
def calibrate(
    request: Request, body: CalibrationRequest, engine: EngineDep, principal: PrincipalDep
) -> CalibrationList:
    """Calibrate now; takes seconds to minutes. Searches go on meanwhile, and use it from then on."""
    outcomes = engine.calibrate(
        principal.tenant,
        false_match_rate=body.false_match_rate,
        golden=[query.query_of() for query in body.golden],
        stop=request.app.state.stopping,
    )
    if any(one.stopped for one in outcomes):
        undone = " and ".join(one.modality for one in outcomes if one.stopped)
        raise Unavailable(
            f"the server is shutting down: {undone} questions are not calibrated; ask again once it is back"
        )
    return CalibrationList.of(engine.judge.standing(principal.tenant), outcomes)


@router.get("", responses=problems.responses())
def calibrations(engine: EngineDep, principal: PrincipalDep) -> CalibrationList:
    """List the calibrations in force, with their curves."""
    return CalibrationList.of(engine.judge.standing(principal.tenant))
