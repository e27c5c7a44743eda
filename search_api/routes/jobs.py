"""Jobs of a whole catalogue: begun in the background, and asked for later."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from indexer.catalogue_jobs import ask
from phosphene.catalog.records import CatalogueJobKind
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.routes.dependencies import EngineDep, JobsDep
from search_api.schemas.jobs import JobList, JobOut, JobRequest

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("", status_code=202, responses=problems.responses(404, 429))
def start(body: JobRequest, engine: EngineDep, jobs: JobsDep, principal: PrincipalDep, response: Response) -> JobOut:
    """Have something done to the whole catalogue that may outlast a request; it goes on if its process dies."""
    kind = CatalogueJobKind(body.kind)
    job = ask(kind, body.arguments(), engine=engine, tenant=principal.tenant, jobs=jobs)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobOut.of(job)


@router.get("", responses=problems.responses())
def recent(
    engine: EngineDep,
    principal: PrincipalDep,
    limit: Annotated[int, Query(ge=1, le=100, description="how many")] = 20,
) -> JobList:
    """List jobs, the latest first."""
    return JobList(jobs=[JobOut.of(job) for job in engine.catalog.jobs.latest(principal.tenant, limit)])


@router.get("/{job_id}", responses=problems.responses(404))
def read(job_id: UUID, engine: EngineDep, principal: PrincipalDep) -> JobOut:
    """Say how a job stands."""
    return JobOut.of(engine.catalog.jobs.one(principal.tenant, job_id))
