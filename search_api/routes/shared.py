"""A board for whoever has its link: a plain page and its pictures, without an API key.

Nothing but that board is shown: pictures are looked up on the board first, and only their previews are given, which
carry no metadata. Pictures that moderation rejected are left out. A token that is wrong, revoked or expired is one and
the same 404.
"""

from __future__ import annotations

from html import escape
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import HTMLResponse

from phosphene.assemble import Engine
from phosphene.catalog.collections import Shared
from phosphene.catalog.records import Asset
from phosphene.errors import NotFound
from phosphene.types import AssetId
from search_api import pictures, problems
from search_api.boards import Boards
from search_api.pictures import Size
from search_api.routes.dependencies import EngineDep, unchanged
from search_api.schemas import SharedOut, SharedPicture
from search_api.schemas.collections import MAX_PAGE

router = APIRouter(prefix="/shared", tags=["shared boards"])

_PAGE = 100
_FRESH = "private, no-cache"  # asked again each time, so that a link that was closed shows nothing any more
_HEADERS = {"Cache-Control": _FRESH, "X-Robots-Tag": "noindex"}

After = Annotated[UUID | None, Query(description="next_after of the page before")]


@router.get(
    "/{token}",
    response_class=HTMLResponse,
    responses={200: {"description": "The board as a page", "content": {"text/html": {}}}, **problems.responses(404)},
)
def page(token: str, engine: EngineDep, after: After = None) -> HTMLResponse:
    """Show a board as a plain page, some pictures at a time."""
    return HTMLResponse(_page(_shown(token, engine, after, _PAGE)), headers=_HEADERS)


@router.get("/{token}/board", responses=problems.responses(404))
def board(
    token: str,
    engine: EngineDep,
    response: Response,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = _PAGE,
) -> SharedOut:
    """Give what the page shows."""
    response.headers.update(_HEADERS)
    return _shown(token, engine, after, limit)


@router.get(
    "/{token}/pictures/{asset_id}",
    response_class=Response,
    responses={
        200: {
            "description": "The picture",
            "content": {kind: {} for kind in ("image/jpeg", "image/png", "image/webp")},
        },
        304: {"description": "The picture that If-None-Match names"},
        **problems.responses(404),
    },
)
def picture(token: str, asset_id: UUID, request: Request, engine: EngineDep, *, large: bool = False) -> Response:
    """Give a picture of the board, as a thumbnail or a preview; never the file as it came in."""
    asset = _on_board(engine.catalog.collections.opened(token), AssetId(asset_id), engine)
    size = Size.PREVIEW if large else Size.THUMBNAIL
    headers = {**_HEADERS, "ETag": pictures.etag(asset, size)}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    served = pictures.picture_of(asset, size, engine=engine)
    return Response(served.data, media_type=served.media_type, headers={**headers, "Content-Disposition": "inline"})


def _on_board(shared: Shared, asset: AssetId, engine: Engine) -> Asset:
    if engine.catalog.collections.holds(shared.collection, asset):
        found = engine.catalog.asset(shared.tenant, asset)
        if not _rejected(found):
            return found
    raise NotFound(f"there is no picture {asset} on this board")


def _rejected(asset: Asset) -> bool:
    return asset.labels.moderation.get("state") == "rejected"


def _shown(token: str, engine: Engine, after: UUID | None, limit: int) -> SharedOut:
    shared = engine.catalog.collections.opened(token)
    found = Boards(engine, shared.tenant).items(shared.collection, after=after, limit=limit)
    known = engine.catalog.assets(shared.tenant, [AssetId(item.asset_id) for item in found.items])
    noted = shared.with_notes
    return SharedOut(
        name=found.collection.name,
        notes=found.collection.notes if noted else "",
        count=found.collection.count - engine.catalog.labels.count_rejected(shared.tenant, shared.collection),
        pictures=[
            SharedPicture(
                asset_id=item.asset_id,
                title=item.title,
                note=item.note if noted else "",
                width=item.width,
                height=item.height,
                generated=item.generated,
                thumbnail_url=f"/shared/{token}/pictures/{item.asset_id}",
                image_url=f"/shared/{token}/pictures/{item.asset_id}?large=true",
            )
            for item in found.items
            if item.asset_id in known and not _rejected(known[AssetId(item.asset_id)])
        ],
        next_after=found.next_after,
    )


def _page(shown: SharedOut) -> str:
    """Write the page: no script, and every word of others escaped."""
    figures = "".join(
        f'<li><a href="{escape(one.image_url)}"><img src="{escape(one.thumbnail_url)}" alt="{escape(one.title or "")}" '
        f'loading="lazy"></a><p>{escape(one.title or "")}{" (drawn by a model)" if one.generated else ""}</p>'
        f"{f'<p class=note>{escape(one.note)}</p>' if one.note else ''}</li>"
        for one in shown.pictures
    )
    more = f'<p><a rel="next" href="?after={shown.next_after}">More pictures</a></p>' if shown.next_after else ""
    notes = f"<p class=note>{escape(shown.notes)}</p>" if shown.notes else ""
    counted = f"{shown.count} picture{'' if shown.count == 1 else 's'}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(shown.name)}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        '<link rel="icon" href="/web/icon.svg"><link rel="stylesheet" href="/web/shared.css"></head>'
        f"<body><h1>{escape(shown.name)}</h1>{notes}<p>{counted}</p><ul>{figures}</ul>{more}</body></html>\n"
    )
