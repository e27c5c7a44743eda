"""Ingests: starting one, and following it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from phosphene.addresses import told
from phosphene.assemble import Engine
from phosphene.catalog.records import Ingest, IngestState
from phosphene.errors import Forbidden, PhospheneError
from phosphene.jobs import JSON, JobName
from phosphene.types import IngestId
from search_api import problems
from search_api.auth import LOCAL_TOKEN_HEADER, Principal, PrincipalDep
from search_api.routes.dependencies import EngineDep, JobsDep
from search_api.schemas import IngestList, IngestRequest, IngestResponse, QuarantineEntry, QuarantinePage

router = APIRouter(prefix="/v1/ingests", tags=["ingests"])
everything = APIRouter(tags=["ingests"])

_POLL_S = 0.5
_WEB = ("http://", "https://")


@router.post("", status_code=202, responses=problems.responses(429))
def start(
    body: IngestRequest, engine: EngineDep, jobs: JobsDep, principal: PrincipalDep, response: Response
) -> IngestResponse:
    """Start an ingest in the background. Running the same one again adds nothing twice."""
    fetch_urls = engine.settings.fetch_urls or (principal.local and bool(body.fetch_urls))
    if not principal.local:
        _refuse_local_paths(body, fetch_urls=fetch_urls)
    catalog = engine.catalog
    job: dict[str, JSON] = {
        "tenant": principal.tenant,
        "sources": body.sources,
        "metadata": body.metadata,
        "column_map": body.column_map,
        "fetch_urls": fetch_urls,
        "local_files": principal.local,
    }
    ingest = catalog.start_ingest(principal.tenant, body.sources, job=job)
    try:
        jobs.send(JobName.INGEST, {**job, "ingest_id": str(ingest)})
    except PhospheneError as error:
        catalog.finish_ingest(ingest, IngestState.FAILED, str(error))
        raise
    response.headers["Location"] = f"/v1/ingests/{ingest}"
    return IngestResponse.of(catalog.ingest(principal.tenant, ingest))


@router.get("", responses=problems.responses())
def recent(engine: EngineDep, principal: PrincipalDep, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> IngestList:
    """List ingests, newest first."""
    found = engine.catalog.ingests(principal.tenant, limit)
    return IngestList(ingests=[IngestResponse.of(ingest) for ingest in found])


@everything.get("/v1/quarantine", responses=problems.responses())
def all_quarantined(
    engine: EngineDep,
    principal: PrincipalDep,
    after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> QuarantinePage:
    """List every file that can't be used now; one that later came in well is no longer in it."""
    return _quarantine_page(engine, principal, None, after, limit)


@router.get("/{ingest_id}", responses=problems.responses(404))
def read(ingest_id: UUID, engine: EngineDep, principal: PrincipalDep) -> IngestResponse:
    """Say how an ingest stands."""
    return IngestResponse.of(engine.catalog.ingest(principal.tenant, IngestId(ingest_id)))


@router.get("/{ingest_id}/quarantine", responses=problems.responses(404))
def quarantined(
    ingest_id: UUID,
    engine: EngineDep,
    principal: PrincipalDep,
    after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> QuarantinePage:
    """List the files that an ingest could not use, each with the reason."""
    engine.catalog.ingest(principal.tenant, IngestId(ingest_id))
    return _quarantine_page(engine, principal, IngestId(ingest_id), after, limit)


async def _known_ingest(ingest_id: UUID, engine: EngineDep, principal: PrincipalDep) -> Ingest:
    """Find it before the stream starts, so that an unknown one is a 404 and not an empty stream."""
    return await run_in_threadpool(engine.catalog.ingest, principal.tenant, IngestId(ingest_id))


KnownIngestDep = Annotated[Ingest, Depends(_known_ingest)]


@router.get(
    "/{ingest_id}/events",  # noqa: FAST003  KnownIngestDep takes the id
    response_class=EventSourceResponse,
    responses=problems.responses(404),
)
async def events(request: Request, engine: EngineDep, ingest: KnownIngestDep) -> AsyncIterator[ServerSentEvent]:
    """Follow an ingest: `progress` whenever counts change, `done` at the end, each with the ingest as JSON."""
    shown: IngestResponse | None = None
    while not request.app.state.stopping.is_set():
        now = IngestResponse.of(ingest)
        if now.state is not IngestState.RUNNING:
            yield ServerSentEvent(event="done", data=now)
            return
        if now != shown:
            yield ServerSentEvent(event="progress", data=now)
            shown = now
        await asyncio.sleep(_POLL_S)
        ingest = await run_in_threadpool(engine.catalog.ingest, ingest.tenant, ingest.id)


def _quarantine_page(
    engine: Engine, principal: Principal, ingest: IngestId | None, after: int | None, limit: int
) -> QuarantinePage:
    found = engine.catalog.quarantined(principal.tenant, ingest, after=after, limit=limit + 1)
    page = found[:limit]
    return QuarantinePage(
        entries=[QuarantineEntry.of(entry) for entry in page], next_after=page[-1].id if len(found) > limit else None
    )


def _refuse_local_paths(body: IngestRequest, *, fetch_urls: bool) -> None:
    named = [*body.sources, *([body.metadata] if body.metadata else [])]
    local = [name for name in named if not name.lower().startswith(_WEB)]
    if local:
        message = (
            f"{told(local[0])[:200]!r} is no http(s) address: paths of the server's machine are for callers that send "
            f"{LOCAL_TOKEN_HEADER}, as `phosphene ingest` does there; upload single pictures with POST /v1/assets"
        )
        raise Forbidden(message)
    if not fetch_urls:
        message = "this server fetches nothing from addresses: start it with PHOSPHENE_FETCH_URLS=true to allow that"
        raise Forbidden(message)
