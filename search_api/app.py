"""The HTTP application: routes, the guard before them, and one way to answer errors."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from phosphene import __version__
from phosphene.assemble import Engine
from phosphene.catalog.records import ProcessRole
from phosphene.jobs import Jobs
from search_api import problems
from search_api.auth import LOCAL_TOKEN_HEADER, Doorkeeper
from search_api.guard import Guard
from search_api.health import Health
from search_api.observing import Observer
from search_api.routes import (
    assets,
    calibrations,
    collections,
    duplicates,
    embeddings,
    evaluations,
    generations,
    ingests,
    label_probes,
    labels,
    moderation,
    pages,
    reindex,
    search,
    service,
    shared,
)
from search_api.routes import jobs as catalogue_jobs
from search_api.schemas import Problem
from search_api.scrape import Scrape

DESCRIPTION = """Semantic image search: ask for a picture in words or with another picture, and have one drawn where \
the catalogue has none.

Errors are application/problem+json. \
With API keys configured, send "Authorization: Bearer KEY"; each key belongs to a tenant, who sees only its own \
pictures. Without keys the server answers this machine only."""


_LONG_AT_ONCE = 4  # of some 40 threads that answer


def create_app(engine: Engine, jobs: Jobs, *, local_token: str | None) -> FastAPI:
    """Make the application over an engine that the caller opens and closes. Raises InvalidSettings."""
    health = Health(engine, jobs)
    doorkeeper = Doorkeeper(engine.settings, local_token=local_token)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.presence.show(ProcessRole.SERVER)
        yield
        app.state.stopping.set()

    app = FastAPI(
        title="Phosphene",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's own pages load scripts from other servers; routes/pages.py has one that doesn't
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.engine = engine
    app.state.jobs = jobs
    app.state.stopping = threading.Event()
    app.state.long_requests = threading.BoundedSemaphore(_LONG_AT_ONCE)
    app.state.health = health
    app.state.scrape = Scrape(engine, jobs, health)
    app.state.doorkeeper = doorkeeper
    problems.install(app)
    for router in (
        search.router,
        generations.router,
        assets.router,
        ingests.router,
        ingests.everything,
        catalogue_jobs.router,
        embeddings.router,
        labels.router,
        label_probes.router,
        moderation.router,
        collections.router,
        shared.router,
        calibrations.router,
        duplicates.router,
        evaluations.router,
        reindex.router,
        service.router,
        pages.router,
    ):
        app.include_router(router)
    app.mount("/web", pages.static_files())
    app.add_middleware(
        Guard,
        doorkeeper=doorkeeper,
        max_body_bytes=engine.settings.max_body_bytes,
    )
    app.add_middleware(Observer)  # the last one added is the outermost
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the API, with the keys and the problems that routes refer to."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        components = schema.setdefault("components", {})
        components["schemas"]["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"] |= components["schemas"]["Problem"].pop("$defs", {})
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "local_token": {"type": "apiKey", "in": "header", "name": LOCAL_TOKEN_HEADER},
        }
        schema["security"] = [{}, {"bearer": []}, {"api_key": []}, {"local_token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
