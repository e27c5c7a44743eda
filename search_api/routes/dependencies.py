"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from phosphene.assemble import Engine
from phosphene.filters import Filter, parse_filter
from phosphene.jobs import Jobs
from phosphene.types import TenantId


def engine_of(request: Request) -> Engine:
    """Give the engine of the app."""
    engine: Engine = request.app.state.engine
    return engine


def jobs_of(request: Request) -> Jobs:
    """Give the jobs of the app."""
    jobs: Jobs = request.app.state.jobs
    return jobs


EngineDep = Annotated[Engine, Depends(engine_of)]
JobsDep = Annotated[Jobs, Depends(jobs_of)]


def checked_filter(source: object | None, *, engine: Engine, tenant: TenantId) -> Filter | None:
    """Check a filter against the tenant's fields. Raises InvalidFilter."""
    return None if source is None else parse_filter(source, engine.fields(tenant))


def unchanged(request: Request, etag: str) -> bool:
    """Tell whether the caller has these bytes already: If-None-Match names them."""
    named = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return etag in named
