"""Pictures from the unCLIP prior and decoder: asking for them, watching, looking, taking them into the catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from indexer.generated import accept_picture
from phosphene.catalog.generation_records import Generation, GenerationState
from phosphene.errors import NotFound
from phosphene.generation.request import cancel_generation, request_generation
from phosphene.types import GenerationId
from phosphene.unclip.imagine import MAX_IMAGES
from search_api import pictures, problems
from search_api.auth import PrincipalDep
from search_api.routes.dependencies import EngineDep, JobsDep, unchanged
from search_api.schemas import AcceptRequest, AssetOut, GenerateRequest, GenerationList, GenerationOut

router = APIRouter(prefix="/v1/generations", tags=["generations"])

_POLL_S = 0.25

Index = Annotated[int, Query(ge=0, lt=MAX_IMAGES, description="which of its pictures")]


@router.post(
    "",
    status_code=202,
    responses={
        200: {"description": "Drawn before: the stored pictures", "model": GenerationOut},
        **problems.responses(404, 429),
    },
)
def generate(
    body: GenerateRequest, engine: EngineDep, jobs: JobsDep, principal: PrincipalDep, response: Response
) -> GenerationOut:
    """Ask for pictures; they are drawn in the background. Follow `Location`, or its `/events`.

    The same request with the same seed is the same generation: drawn once, and given again from then on. Refused with
    403 by the guard rails, and with 429 when the queue or the budget of the last 24 hours is used up.
    """
    generation = request_generation(body.to_asked(), engine=engine, tenant=principal.tenant, jobs=jobs)
    if generation.state is GenerationState.FINISHED:
        response.status_code = 200
    response.headers["Location"] = f"/v1/generations/{generation.id}"
    return GenerationOut.of(generation)


@router.get("", responses=problems.responses(404))
def recent(
    engine: EngineDep,
    principal: PrincipalDep,
    before: Annotated[UUID | None, Query(description="next_before of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
) -> GenerationList:
    """List generations, newest first."""
    start = GenerationId(before) if before is not None else None
    found = engine.catalog.generations.latest(principal.tenant, before=start, limit=limit + 1)
    page = [GenerationOut.of(generation, preview=False) for generation in found[:limit]]
    return GenerationList(generations=page, next_before=page[-1].id if len(found) > limit else None)


@router.get("/{generation_id}", responses=problems.responses(404))
def read(generation_id: UUID, engine: EngineDep, principal: PrincipalDep) -> GenerationOut:
    """Say how a generation stands."""
    return GenerationOut.of(engine.catalog.generations.one(principal.tenant, GenerationId(generation_id)))


async def _known_generation(generation_id: UUID, engine: EngineDep, principal: PrincipalDep) -> Generation:
    """Find it before the stream starts, so that an unknown one is a 404 and not an empty stream."""
    return await run_in_threadpool(engine.catalog.generations.one, principal.tenant, GenerationId(generation_id))


KnownGenerationDep = Annotated[Generation, Depends(_known_generation)]


@router.get(
    "/{generation_id}/events",  # noqa: FAST003  KnownGenerationDep takes the id
    response_class=EventSourceResponse,
    responses=problems.responses(404),
)
async def events(request: Request, engine: EngineDep, generation: KnownGenerationDep) -> AsyncIterator[ServerSentEvent]:
    """Follow a generation: `progress` at every step with a small preview, `done` at the end, each with all of it."""
    shown: GenerationOut | None = None
    while not request.app.state.stopping.is_set():
        now = GenerationOut.of(generation)
        if now.ended:
            yield ServerSentEvent(event="done", data=now)
            return
        if now != shown:
            yield ServerSentEvent(event="progress", data=now)
            shown = now
        await asyncio.sleep(_POLL_S)
        generation = await run_in_threadpool(engine.catalog.generations.one, generation.tenant, generation.id)


@router.get(
    "/{generation_id}/image",
    response_class=Response,
    responses={
        200: {
            "description": "The picture, with its provenance as XMP; it never changes",
            "content": {"image/png": {}, "image/webp": {}},
        },
        304: {"description": "The picture that If-None-Match names"},
        **problems.responses(404),
    },
)
def image(
    generation_id: UUID, request: Request, engine: EngineDep, principal: PrincipalDep, index: Index = 0
) -> Response:
    """Give a picture; 404 until it is finished."""
    generation = engine.catalog.generations.one(principal.tenant, GenerationId(generation_id))
    picture = next((one for one in generation.pictures if one.place == index), None)
    if picture is None:
        said = f"picture {index} of generation {generation.id}"
        there = f"it has {len(generation.pictures)}" if generation.pictures else f"it is {generation.state}"
        raise NotFound(f"there is no {said}: {there}")
    headers = {"ETag": f'"{picture.sha256[:32]}"', "Cache-Control": pictures.FOREVER}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    served = pictures.generated_picture(generation, picture, engine=engine)
    headers["Content-Disposition"] = served.disposition
    return Response(served.data, media_type=served.media_type, headers=headers)


@router.post("/{generation_id}/cancel", responses=problems.responses(404))
def cancel(generation_id: UUID, engine: EngineDep, principal: PrincipalDep) -> GenerationOut:
    """Stop drawing. One that waits is cancelled at once, one under way after its next step; an ended one stays."""
    id_ = GenerationId(generation_id)
    return GenerationOut.of(cancel_generation(id_, engine=engine, tenant=principal.tenant))


@router.post(
    "/{generation_id}/accept",
    status_code=201,
    responses={200: {"description": "Accepted before", "model": AssetOut}, **problems.responses(404, 429)},
)
def accept(  # noqa: PLR0917  FastAPI calls it by name
    generation_id: UUID,
    engine: EngineDep,
    jobs: JobsDep,
    principal: PrincipalDep,
    response: Response,
    body: AcceptRequest | None = None,
) -> AssetOut:
    """Take a picture into the catalogue, where search finds it; filters tell it by `generated`."""
    chosen = body or AcceptRequest()
    id_ = GenerationId(generation_id)
    generation = engine.catalog.generations.one(principal.tenant, id_)
    before = next((one.asset_id for one in generation.pictures if one.place == chosen.index), None)
    asset = accept_picture(principal.tenant, id_, chosen.index, engine=engine, title=chosen.title, jobs=jobs)
    if before is not None:
        response.status_code = 200
    response.headers["Location"] = f"/v1/assets/{asset.id}"
    return AssetOut.of(asset)
