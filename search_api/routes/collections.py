"""Curators' boards: pictures in an order of one's own, with notes; what fits them, links, and exports."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.responses import StreamingResponse

from search_api import problems
from search_api.auth import PrincipalDep
from search_api.boards import Boards
from search_api.exports import export
from search_api.question import MAX_LIMIT
from search_api.routes.dependencies import EngineDep, checked_filter
from search_api.routes.search import CursorText, FilterText, filter_from_text
from search_api.schemas import (
    CollectionChange,
    CollectionList,
    CollectionOut,
    CollectionRequest,
    ExportFormat,
    ItemPage,
    ItemsChanged,
    ItemsRequest,
    MoreOut,
    MoveRequest,
    NoteRequest,
    OutliersOut,
    RemoveRequest,
    ShareList,
    ShareOut,
    ShareRequest,
)
from search_api.schemas.collections import MAX_PAGE

router = APIRouter(prefix="/v1/collections", tags=["collections"])


def _boards(engine: EngineDep, principal: PrincipalDep) -> Boards:
    return Boards(engine, principal.tenant)


def _if_match(
    if_match: Annotated[
        str | None,
        Header(description="etag of the board as you have seen it: refused with 412 if it was changed since"),
    ] = None,
) -> str | None:
    return None if if_match is None or if_match.strip() == "*" else if_match.strip().removeprefix("W/")


BoardsDep = Annotated[Boards, Depends(_boards)]
IfMatch = Annotated[str | None, Depends(_if_match)]


@router.post("", status_code=201, responses=problems.responses(404))
def create(body: CollectionRequest, boards: BoardsDep, response: Response) -> CollectionOut:
    """Make a board, with pictures on it or empty."""
    board = boards.create(body)
    response.headers["Location"] = f"/v1/collections/{board.id}"
    return _tagged(board, response)


@router.get("", responses=problems.responses(404))
def latest(
    boards: BoardsDep,
    before: Annotated[UUID | None, Query(description="next_before of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
) -> CollectionList:
    """List boards, the newest first."""
    return boards.latest(before=before, limit=limit)


@router.get("/{collection_id}", responses=problems.responses(404))
def read(collection_id: UUID, boards: BoardsDep, response: Response) -> CollectionOut:
    """Give name, notes and count of a board; `/items` has its pictures."""
    return _tagged(boards.read(collection_id), response)


@router.patch("/{collection_id}", responses=problems.responses(404, 412))
def change(
    collection_id: UUID, body: CollectionChange, boards: BoardsDep, response: Response, if_match: IfMatch
) -> CollectionOut:
    """Change name or notes."""
    return _tagged(boards.change(collection_id, body, if_match=if_match), response)


@router.delete("/{collection_id}", status_code=204, responses=problems.responses(404, 412))
def delete(collection_id: UUID, boards: BoardsDep, if_match: IfMatch) -> Response:
    """Take a board away, and its links; its pictures stay in the catalogue."""
    boards.delete(collection_id, if_match=if_match)
    return Response(status_code=204)


@router.get("/{collection_id}/items", responses=problems.responses(404))
def items(
    collection_id: UUID,
    boards: BoardsDep,
    response: Response,
    after: Annotated[UUID | None, Query(description="next_after of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> ItemPage:
    """List the pictures of a board, in its order."""
    page = boards.items(collection_id, after=after, limit=limit)
    _tagged(page.collection, response)
    return page


@router.post("/{collection_id}/items", responses=problems.responses(404, 412))
def add(
    collection_id: UUID, body: ItemsRequest, boards: BoardsDep, response: Response, if_match: IfMatch
) -> ItemsChanged:
    """Put pictures on a board: all of them or, where one is unknown, none."""
    changed = boards.add(collection_id, body, if_match=if_match)
    _tagged(changed.collection, response)
    return changed


@router.post("/{collection_id}/items/move", responses=problems.responses(404, 412))
def move(
    collection_id: UUID, body: MoveRequest, boards: BoardsDep, response: Response, if_match: IfMatch
) -> CollectionOut:
    """Put pictures of a board elsewhere in its order. Moves of several people at once are done one after the other."""
    return _tagged(boards.move(collection_id, body, if_match=if_match), response)


@router.post("/{collection_id}/items/remove", responses=problems.responses(404, 412))
def remove(
    collection_id: UUID, body: RemoveRequest, boards: BoardsDep, response: Response, if_match: IfMatch
) -> ItemsChanged:
    """Take pictures off a board; those that are not on it are passed over."""
    changed = boards.remove(collection_id, body.asset_ids, if_match=if_match)
    _tagged(changed.collection, response)
    return changed


@router.patch("/{collection_id}/items/{asset_id}", responses=problems.responses(404, 412))
def note(  # noqa: PLR0917  FastAPI calls it by name
    collection_id: UUID,
    asset_id: UUID,
    body: NoteRequest,
    boards: BoardsDep,
    response: Response,
    if_match: IfMatch,
) -> CollectionOut:
    """Say something about a picture on a board."""
    return _tagged(boards.note(collection_id, asset_id, body.note, if_match=if_match), response)


@router.get("/{collection_id}/more", responses=problems.responses(404))
def more(  # noqa: PLR0917  the same
    collection_id: UUID,
    engine: EngineDep,
    principal: PrincipalDep,
    boards: BoardsDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 24,
    filter: FilterText = None,  # noqa: A002  the name of the field in HTTP
    cursor: CursorText = None,
) -> MoreOut:
    """Find pictures that fit a board and are not on it. The list is decided with its first page."""
    parsed = checked_filter(filter_from_text(filter), engine=engine, tenant=principal.tenant)
    return boards.more(collection_id, filter_=parsed, limit=limit, cursor=cursor)


@router.get("/{collection_id}/outliers", responses=problems.responses(404))
def outliers(
    collection_id: UUID, boards: BoardsDep, limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 10
) -> OutliersOut:
    """List the pictures that fit a board least, and tell which do not fit."""
    return boards.outliers(collection_id, limit=limit)


@router.get(
    "/{collection_id}/export",
    response_class=Response,
    responses={
        200: {
            "description": "The board as a file; X-Phosphene-Pages: pages that a png has in all; X-Phosphene-Unshown: "
            "titles and notes on this sheet with characters that its font lacks",
            "content": {kind.media_type: {} for kind in ExportFormat},
        },
        **problems.responses(404, 429),
    },
)
def exported(
    collection_id: UUID,
    engine: EngineDep,
    principal: PrincipalDep,
    format: Annotated[ExportFormat, Query(description="pdf and png are contact sheets")] = ExportFormat.CSV,  # noqa: A002
    page: Annotated[int, Query(ge=1, description="of a png: which of the sheet's pages")] = 1,
) -> Response:
    """Export a board: its list as CSV (safe to open in a spreadsheet) or JSON, or a contact sheet as PDF or PNG."""
    made = export(collection_id, format, page=page, engine=engine, tenant=principal.tenant)
    headers = {"Content-Disposition": made.disposition, **made.headers}
    return StreamingResponse(made.parts, media_type=format.media_type, headers=headers)


@router.post("/{collection_id}/shares", status_code=201, responses=problems.responses(404))
def share(collection_id: UUID, boards: BoardsDep, body: ShareRequest | None = None) -> ShareOut:
    """Make a link that shows the board, and nothing else, to whoever has it. Its `path` is told only now."""
    return boards.share(collection_id, body or ShareRequest())


@router.get("/{collection_id}/shares", responses=problems.responses(404))
def shares(collection_id: UUID, boards: BoardsDep) -> ShareList:
    """List the links of a board, without what opens them."""
    return boards.shares(collection_id)


@router.delete("/{collection_id}/shares/{share_id}", status_code=204, responses=problems.responses(404))
def revoke(collection_id: UUID, share_id: UUID, boards: BoardsDep) -> Response:
    """Close a link at once."""
    boards.revoke(collection_id, share_id)
    return Response(status_code=204)


def _tagged(board: CollectionOut, response: Response) -> CollectionOut:
    response.headers["ETag"] = board.etag
    return board
