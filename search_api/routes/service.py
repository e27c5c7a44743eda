"""How the service is: fields, status, health, verify."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer

from fastapi import APIRouter, Response

from indexer.verify import verify
from phosphene.errors import Forbidden, PhospheneError
from phosphene.types import SYSTEM_FIELDS
from search_api import problems
from search_api.auth import LOCAL_TOKEN_HEADER, PrincipalDep
from search_api.routes.dependencies import EngineDep
from search_api.schemas import FieldList, FieldOut, StatusResponse, StoreHealth, VerifyRequest, VerifyResponse

router = APIRouter(tags=["service"])

_PROBE_S = 5.0
_SYSTEM_NAMES = frozenset(field.name for field in SYSTEM_FIELDS)


@router.get("/v1/fields", responses=problems.responses())
def fields(engine: EngineDep, principal: PrincipalDep) -> FieldList:
    """List the fields that filters may name."""
    known = engine.fields(principal.tenant)
    return FieldList(
        fields=[FieldOut(name=field.name, kind=field.kind, system=field.name in _SYSTEM_NAMES) for field in known]
    )


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
def livez() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@router.get(
    "/readyz", tags=["health"], responses={503: {"description": "A store doesn't answer", "model": StoreHealth}}
)
def readyz(engine: EngineDep, response: Response) -> StoreHealth:
    """Ask every store whether it answers."""
    stores = _probe(
        {
            "catalogue": engine.catalog.ping,
            "blobs": lambda: engine.blobs.exists("readiness"),
            "vectors": lambda: engine.index.count(None),
        }
    )
    health = StoreHealth(ready=all(said == "ok" for said in stores.values()), stores=stores)
    if not health.ready:
        response.status_code = 503
    return health


def _probe(stores: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Ask all at once; a store that hangs is not waited for longer than a few seconds."""
    pool = ThreadPoolExecutor(len(stores), thread_name_prefix="readyz")
    asked = {name: pool.submit(ask) for name, ask in stores.items()}
    said = {name: _said(answer) for name, answer in asked.items()}
    pool.shutdown(wait=False, cancel_futures=True)
    return said


def _said(answer: Future[object]) -> str:
    try:
        answer.result(timeout=_PROBE_S)
    except NoAnswer:
        return f"no answer within {_PROBE_S:g} s"
    except PhospheneError as error:
        return str(error)
    return "ok"
