"""Near-duplicates of the whole catalogue."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from indexer.duplicates import RULE
from phosphene.jobs import JobName
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.duplicates import MAX_CLUSTERS, Kind, page_of_clusters
from search_api.routes.dependencies import EngineDep, JobsDep
from search_api.schemas import ClusterList, CompareRequest, CompareResponse

router = APIRouter(prefix="/v1/duplicates", tags=["duplicates"])


@router.get("", responses=problems.responses())
def clusters(
    engine: EngineDep,
    principal: PrincipalDep,
    kind: Annotated[Kind, Query(description="near: look-alikes; exact: the same bytes at several places")] = "near",
    limit: Annotated[int, Query(ge=1, le=MAX_CLUSTERS, description="clusters on a page")] = 50,
    after: Annotated[UUID | None, Query(description="next_after of the page before")] = None,
) -> ClusterList:
    """List clusters of near-duplicates, with the picture of each that is worth keeping, and why."""
    return ClusterList.of(page_of_clusters(kind, after=after, limit=limit, engine=engine, tenant=principal.tenant))


@router.post("", status_code=202, responses=problems.responses())
def compare(body: CompareRequest, engine: EngineDep, jobs: JobsDep, principal: PrincipalDep) -> CompareResponse:
    """Have what was not compared yet compared now; new pictures are compared by themselves soon after they come in."""
    if body.again:
        engine.catalog.duplicates.forget(principal.tenant)
    jobs.send(JobName.DUPLICATES, {"tenant": principal.tenant})
    with engine.answering() as space:
        waiting = engine.catalog.duplicates.count_waiting(principal.tenant, space.space.id, rule=RULE)
    return CompareResponse(waiting=waiting)
