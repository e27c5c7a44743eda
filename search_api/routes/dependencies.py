"""What routes are given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from threading import Semaphore
from typing import Annotated

from fastapi import Depends, Request

from phosphene.assemble import Engine
from phosphene.errors import Overloaded
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


async def place_among_long(request: Request) -> AsyncIterator[None]:
    """Let in few at once of those requests that go through a catalogue: each holds a thread and a core for long.

    Raises Overloaded.
    """
    places: Semaphore = request.app.state.long_requests
    if not places.acquire(blocking=False):
        raise Overloaded("other requests go through whole catalogues now: ask again in a while", retry_after_s=10.0)
    try:
        yield
    finally:
        places.release()


EngineDep = Annotated[Engine, Depends(engine_of)]
JobsDep = Annotated[Jobs, Depends(jobs_of)]
LONG = [Depends(place_among_long)]  # of routes that take seconds to minutes


def checked_filter(source: object | None, *, engine: Engine, tenant: TenantId) -> Filter | None:
    """Check a filter against the tenant's fields. Raises InvalidFilter."""
    return None if source is None else parse_filter(source, engine.fields(tenant))


def unchanged(request: Request, etag: str) -> bool:
    """Tell whether the caller has these bytes already: If-None-Match names them."""
    named = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return etag in named
