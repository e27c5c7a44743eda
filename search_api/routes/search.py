"""Searching."""

from __future__ import annotations

import json
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, UploadFile

from indexer.sources.fetch import Fetcher
from phosphene.assemble import Engine
from phosphene.errors import Forbidden, InvalidFilter
from phosphene.query_language import parse_query
from phosphene.types import AssetId, GenerateMode
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.imagining import offered
from search_api.question import DEFAULT_LIMIT, MAX_LIMIT, SearchQuery
from search_api.routes.dependencies import EngineDep, JobsDep, checked_filter
from search_api.routes.listing import ListForm, ListQuery
from search_api.schemas import SearchRequest, SearchResponse
from search_api.search import run_search

router = APIRouter(tags=["search"])

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="hits on a page")]
FilterText = Annotated[str | None, Query(description="a filter as JSON", max_length=10_000)]
CursorText = Annotated[str | None, Query(description="next_cursor of the page before")]


@router.post("/v1/search", responses=problems.responses(404))
def search(body: SearchRequest, engine: EngineDep, jobs: JobsDep, principal: PrincipalDep) -> SearchResponse:
    """Find pictures by a text, a picture, an asset, a vector, or any mix of them; have one drawn where none matches.

    `query` takes the language of the search box, `parts` any mix with weights, `exclude` what shall not be seen. The
    answer does not wait for a drawing: `generation` says where to follow it, or why it was refused.
    """
    parsed = checked_filter(body.filter, engine=engine, tenant=principal.tenant)
    fetched = {url: fetched_picture(url, engine=engine) for url in body.urls}
    typed = parse_query(body.query, engine.fields(principal.tenant)) if body.query is not None else None
    query = body.to_query(parsed, typed=typed, fetched=fetched)
    answer = run_search(query, engine=engine, tenant=principal.tenant)
    offer = offered(query, answer, body.generate, engine=engine, tenant=principal.tenant, jobs=jobs)
    return SearchResponse.of(query, answer, offer)


@router.post("/v1/search/image", responses=problems.responses())
def search_image(  # noqa: PLR0917  FastAPI calls it by name
    engine: EngineDep,
    jobs: JobsDep,
    principal: PrincipalDep,
    listing: ListForm,
    image: Annotated[UploadFile, File(description="a picture file")],
    filter: Annotated[str | None, Form(description="a filter as JSON", max_length=10_000)] = None,  # noqa: A002
    limit: Annotated[int, Form(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Form()] = None,
    generate: Annotated[
        GenerateMode | None, Form(description="have a variation drawn; unset: as the server is configured")
    ] = None,
) -> SearchResponse:
    """Find pictures like an uploaded one, which is not kept longer than a drawing of it takes."""
    parsed = checked_filter(filter_from_text(filter), engine=engine, tenant=principal.tenant)
    query = SearchQuery(
        image=image.file.read(),
        filter=parsed,
        limit=limit,
        cursor=cursor,
        arrangement=listing.to_arrangement(),
        facets=listing.to_facets(),
    )
    answer = run_search(query, engine=engine, tenant=principal.tenant)
    offer = offered(query, answer, generate, engine=engine, tenant=principal.tenant, jobs=jobs)
    return SearchResponse.of(query, answer, offer)


@router.get("/v1/assets/{asset_id}/similar", responses=problems.responses(404))
def similar(  # noqa: PLR0917  the same
    asset_id: UUID,
    engine: EngineDep,
    principal: PrincipalDep,
    listing: ListQuery,
    limit: Limit = DEFAULT_LIMIT,
    filter: FilterText = None,  # noqa: A002  the name of the field in HTTP
    cursor: CursorText = None,
) -> SearchResponse:
    """Find pictures like one of the catalogue, which is left out. Nothing is ever drawn for a GET."""
    parsed = checked_filter(filter_from_text(filter), engine=engine, tenant=principal.tenant)
    query = SearchQuery(
        asset_id=AssetId(asset_id),
        filter=parsed,
        limit=limit,
        cursor=cursor,
        arrangement=listing.to_arrangement(),
        facets=listing.to_facets(),
    )
    return SearchResponse.of(query, run_search(query, engine=engine, tenant=principal.tenant))


def fetched_picture(url: str, *, engine: Engine) -> bytes:
    """Fetch a picture to search by. Raises Forbidden where the server may not, PictureError where it can't."""
    if not engine.settings.fetch_urls:
        message = "this server fetches nothing: send the picture itself, or start it with PHOSPHENE_FETCH_URLS=true"
        raise Forbidden(message)
    fetcher = Fetcher(max_bytes=engine.limits.max_bytes)
    try:
        return fetcher.fetch(url)
    finally:
        fetcher.close()


def filter_from_text(text: str | None) -> object | None:
    """Read a filter that came as text. Raises InvalidFilter."""
    if text is None:
        return None
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"the filter is not JSON: {error}"
        raise InvalidFilter(message) from error
    return parsed
