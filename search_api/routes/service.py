"""How the service is: fields, status, health, verify."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from indexer.declared import declare_fields
from indexer.verify import verify
from phosphene import metrics
from phosphene.errors import Forbidden
from search_api import problems
from search_api.auth import LOCAL_TOKEN_HEADER, PrincipalDep
from search_api.health import Health
from search_api.routes.dependencies import EngineDep
from search_api.schemas import FieldList, FieldsIn, Readiness, StatusResponse, VerifyRequest, VerifyResponse

router = APIRouter(tags=["service"])


@router.get("/v1/fields", responses=problems.responses())
def fields(engine: EngineDep, principal: PrincipalDep) -> FieldList:
    """List the fields that filters may name."""
    return FieldList.of(engine.fields(principal.tenant))


@router.put("/v1/fields", responses=problems.responses())
def declare(body: FieldsIn, engine: EngineDep, principal: PrincipalDep) -> FieldList:
    """Declare fields before pictures carry them, or tell more of those there are; gives all fields."""
    declare_fields(body.to_fields(), engine=engine, tenant=principal.tenant)
    return fields(engine, principal)


@router.get("/v1/status", responses=problems.responses())
def status(engine: EngineDep, principal: PrincipalDep) -> StatusResponse:
    """Say what is served, and how many pictures there are."""
    return StatusResponse.of(engine, tenant=principal.tenant, local=principal.local)


@router.post("/v1/verify", responses=problems.responses())
def check(body: VerifyRequest, engine: EngineDep, principal: PrincipalDep) -> VerifyResponse:
    """Compare catalogue, blobs and index, and mend them where asked to; for callers with the local token."""
    if not principal.local:
        message = (
            f"only callers with {LOCAL_TOKEN_HEADER} may verify, as `phosphene verify` does on the server's machine"
        )
        raise Forbidden(message)
    return VerifyResponse.of(verify(engine=engine, repair=body.repair))


@router.get("/livez", tags=["health"])
async def livez() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@router.get(
    "/readyz", tags=["health"], responses={503: {"description": "Something can't do its work", "model": Readiness}}
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Ask every store, and all who do the work, for a sign of life; answers within seconds, whatever hangs."""
    health: Health = request.app.state.health
    stores, work = await asyncio.gather(health.stores(), health.work())
    readiness = Readiness.of(stores=stores, work=work)
    if not readiness.ready:
        response.status_code = 503
    return readiness


@router.get(
    "/metrics",
    tags=["health"],
    response_class=PlainTextResponse,
    responses=problems.responses(without=(400, 405, 413, 422, 503)),
)
async def scrape(request: Request) -> Response:
    """Give the metrics of this process and of the catalogue, for Prometheus.

    They tell of all tenants together. With API keys, they need PHOSPHENE_METRICS_KEY as Bearer.
    """
    request.app.state.doorkeeper.check_scraper(request.headers)
    return Response(await request.app.state.scrape.text(), media_type=metrics.CONTENT_TYPE)
