"""Evaluating: how good search is on the caller's own catalogue."""

from __future__ import annotations

from fastapi import APIRouter

from search_api import problems
from search_api.auth import PrincipalDep
from search_api.evaluating import evaluate
from search_api.routes.dependencies import LONG, EngineDep
from search_api.schemas import EvaluationOut, EvaluationRequest

router = APIRouter(prefix="/v1/evaluations", tags=["evaluation"])


@router.post("", dependencies=LONG, responses=problems.responses(429))
def run_evaluation(body: EvaluationRequest, engine: EngineDep, principal: PrincipalDep) -> EvaluationOut:
    """Ask golden queries, and compare the index with exact search; nothing is kept. Takes seconds to minutes."""
    return evaluate(body, engine=engine, tenant=principal.tenant)
