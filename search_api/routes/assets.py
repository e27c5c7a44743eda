"""Pictures of the catalogue: adding, reading, changing and removing one, and looking at it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from pydantic import TypeAdapter, ValidationError

from indexer.backpressure import refuse_when_full
from indexer.pipeline import add_asset, remove_asset, update_asset_metadata
from phosphene.catalog.catalog import UNSET
from phosphene.catalog.records import Outcome
from phosphene.errors import InvalidInput
from phosphene.types import AssetId, Metadata, sha256_of
from search_api import pictures, problems
from search_api.auth import PrincipalDep
from search_api.pictures import Size
from search_api.routes.dependencies import EngineDep, JobsDep, unchanged
from search_api.schemas import AssetChange, AssetList, AssetOut, MetadataIn, Title

router = APIRouter(prefix="/v1/assets", tags=["assets"])

_METADATA: TypeAdapter[Metadata] = TypeAdapter(MetadataIn)


@router.post(
    "",
    status_code=201,
    responses={200: {"description": "Known already", "model": AssetOut}, **problems.responses(429)},
)
def upload(  # noqa: PLR0917  FastAPI calls it by name
    engine: EngineDep,
    jobs: JobsDep,
    principal: PrincipalDep,
    response: Response,
    image: Annotated[UploadFile, File(description="a picture file: JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF")],
    title: Annotated[Title | None, Form()] = None,
    metadata: Annotated[str | None, Form(description="fields as a JSON object", max_length=100_000)] = None,
) -> AssetOut:
    """Add a picture. The same bytes again are the same asset, and change its title and metadata only."""
    refuse_when_full(engine, jobs)
    data = image.file.read()
    registered = add_asset(
        data,
        engine=engine,
        tenant=principal.tenant,
        uri=f"upload:{sha256_of(data)}",
        title=title,
        metadata=_metadata_from(metadata),
        jobs=jobs,
    )
    if registered.outcome is not Outcome.ADDED:
        response.status_code = 200
    response.headers["Location"] = f"/v1/assets/{registered.asset_id}"
    return AssetOut.of(engine.catalog.asset(principal.tenant, registered.asset_id))


@router.get("", responses=problems.responses())
def browse(
    engine: EngineDep,
    principal: PrincipalDep,
    after: Annotated[UUID | None, Query(description="next_after of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
) -> AssetList:
    """List the catalogue, in the order of ids, which is as good as random."""
    found = engine.catalog.page_assets(
        tenant=principal.tenant, after=AssetId(after) if after is not None else None, limit=limit + 1
    )
    page = [AssetOut.of(asset) for asset in found[:limit]]
    return AssetList(assets=page, next_after=page[-1].asset_id if len(found) > limit else None)


@router.get("/{asset_id}", responses=problems.responses(404))
def read(asset_id: UUID, engine: EngineDep, principal: PrincipalDep) -> AssetOut:
    """Give what is known about a picture."""
    return AssetOut.of(engine.catalog.asset(principal.tenant, AssetId(asset_id)))


@router.patch("/{asset_id}", responses=problems.responses(404))
def change(asset_id: UUID, body: AssetChange, engine: EngineDep, principal: PrincipalDep) -> AssetOut:
    """Change title or metadata; the picture is not embedded again."""
    said = body.model_fields_set
    asset = update_asset_metadata(
        principal.tenant,
        AssetId(asset_id),
        engine=engine,
        title=body.title if "title" in said else UNSET,
        metadata=(body.metadata or {}) if "metadata" in said else UNSET,
    )
    return AssetOut.of(asset)


@router.delete("/{asset_id}", status_code=204, responses=problems.responses(404))
def remove(asset_id: UUID, engine: EngineDep, principal: PrincipalDep) -> Response:
    """Remove a picture from catalogue, index and blobs."""
    remove_asset(principal.tenant, AssetId(asset_id), engine=engine)
    return Response(status_code=204)


@router.get(
    "/{asset_id}/image",
    response_class=Response,
    responses={
        200: {
            "description": "The picture; it never changes",
            "content": {kind: {} for kind in sorted(pictures.ORIGINAL_TYPES.values())},
        },
        304: {"description": "The picture that If-None-Match names"},
        **problems.responses(404),
    },
)
def image(
    asset_id: UUID,
    request: Request,
    engine: EngineDep,
    principal: PrincipalDep,
    size: Annotated[Size, Query(description="original is the file as it came in, as a download")] = Size.PREVIEW,
) -> Response:
    """Give the picture itself. Thumbnails and previews carry no metadata: no GPS position, no comments."""
    asset = engine.catalog.asset(principal.tenant, AssetId(asset_id))
    tag = pictures.etag(asset, size)
    headers = {"ETag": tag, "Cache-Control": pictures.FOREVER}
    if unchanged(request, tag):
        return Response(status_code=304, headers=headers)
    served = pictures.picture_of(asset, size, engine=engine)
    headers["Content-Disposition"] = served.disposition
    return Response(served.data, media_type=served.media_type, headers=headers)


def _metadata_from(text: str | None) -> Metadata:
    if text is None:
        return {}
    try:
        return _METADATA.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(["metadata", *map(str, first["loc"])])
        message = f"{where}: {first['msg'].removeprefix('Value error, ')}"
        raise InvalidInput(message) from error
