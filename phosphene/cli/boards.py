"""`phosphene collections`: curators' boards from the command line, here or through a running server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import BaseModel

from phosphene.cli import output
from phosphene.cli.backend import uuid_of
from phosphene.cli.boards_backend import BoardsBackend
from phosphene.cli.comparing import replacing
from phosphene.cli.options import ApiKey, Data, Json, Limit, Server, backend, request_of
from phosphene.errors import InvalidInput
from search_api.schemas import (
    CollectionChange,
    CollectionOut,
    CollectionRequest,
    ExportFormat,
    ItemsChanged,
    ItemsRequest,
    MoveRequest,
    NoteRequest,
    ShareRequest,
)

boards = typer.Typer(
    name="collections",
    help="Curators' boards: pictures in an order of one's own, with notes; exports, and what fits them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PAGE = 500
_TITLE = 44  # characters
_NOTE = 40

Board = Annotated[str, typer.Argument(metavar="BOARD", help="Its id, or its name where no other has that.")]
Assets = Annotated[list[str], typer.Argument(metavar="ASSET…", help="Ids of pictures, as searches print them.")]
After = Annotated[str | None, typer.Option(metavar="ASSET", help="Behind this picture of the board; default: last.")]
First = Annotated[bool, typer.Option("--first", help="At the start.")]


@boards.command("list")
def list_boards(
    limit: Limit = 24, data: Data = None, server: Server = None, api_key: ApiKey = None, json: Json = False
) -> None:
    """List boards, the newest first."""
    with _opened(data, server, api_key) as opened:
        found = opened.latest(limit=limit)
    if json:
        output.line(found.model_dump_json())
        return
    for board in found.collections:
        output.line(f"{board.id}  {board.changed_at:%Y-%m-%d %H:%M}  {board.count:6,}  {output.cut(board.name, 60)}")


@boards.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    assets: Annotated[list[str] | None, typer.Argument(metavar="ASSET…", help="Pictures to put on it.")] = None,
    notes: Annotated[str, typer.Option(help="What it is for.")] = "",
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Make a board."""
    body = request_of(CollectionRequest, name=name, notes=notes, asset_ids=_ids(assets or []))
    with _opened(data, server, api_key) as opened:
        _print_board(opened.create(body), as_json=json)


@boards.command()
def change(
    board: Board,
    name: Annotated[str | None, typer.Option(help="Call it otherwise.")] = None,
    notes: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Change name or notes of a board."""
    body = request_of(CollectionChange, name=name, notes=notes)
    with _opened(data, server, api_key) as opened:
        _print_board(opened.change(_found(opened, board), body), as_json=json)


@boards.command()
def delete(board: Board, data: Data = None, server: Server = None, api_key: ApiKey = None) -> None:
    """Take a board away, and its links; its pictures stay in the catalogue."""
    with _opened(data, server, api_key) as opened:
        opened.delete(_found(opened, board))


@boards.command()
def show(board: Board, data: Data = None, server: Server = None, api_key: ApiKey = None, json: Json = False) -> None:
    """List the pictures of a board, in its order."""
    with _opened(data, server, api_key) as opened:
        id_ = _found(opened, board)
        page = opened.items(id_, limit=PAGE)
        items = page.items
        while page.next_after is not None:
            page = opened.items(id_, after=page.next_after, limit=PAGE)
            items = items + page.items
    if json:
        output.line(page.model_copy(update={"items": items}).model_dump_json())
        return
    _print_board(page.collection, as_json=False)
    for place, item in enumerate(items, 1):
        title = output.cut(item.title or "", _TITLE)
        note = output.cut(item.note, _NOTE)
        output.line(f"{place:5}  {title:{_TITLE}}  {note:{_NOTE}}  {item.asset_id}")


@boards.command()
def add(
    board: Board,
    assets: Assets,
    note: Annotated[str, typer.Option(help="What to say about them here.")] = "",
    after: After = None,
    first: First = False,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Put pictures on a board; those on it already stay where they are."""
    place = None if after is None else uuid_of(after, "asset")
    body = request_of(ItemsRequest, asset_ids=_ids(assets), note=note, after=place, first=first)
    with _opened(data, server, api_key) as opened:
        _print_changed(opened.add(_found(opened, board), body), "added", as_json=json)


@boards.command()
def remove(
    board: Board, assets: Assets, data: Data = None, server: Server = None, api_key: ApiKey = None, json: Json = False
) -> None:
    """Take pictures off a board; they stay in the catalogue."""
    with _opened(data, server, api_key) as opened:
        changed = opened.remove(_found(opened, board), _ids(assets))
        _print_changed(changed, "removed", as_json=json)


@boards.command()
def move(
    board: Board,
    assets: Assets,
    after: After = None,
    first: First = False,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Put pictures of a board elsewhere in its order, together and as given."""
    place = None if after is None else uuid_of(after, "asset")
    body = request_of(MoveRequest, asset_ids=_ids(assets), after=place, first=first)
    with _opened(data, server, api_key) as opened:
        _print_board(opened.move(_found(opened, board), body), as_json=json)


@boards.command()
def note(
    board: Board,
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="A picture of the board.")],
    text: Annotated[str, typer.Argument(help="What to say about it; '' takes away what was said.")],
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Say something about a picture on a board."""
    said = request_of(NoteRequest, note=text).note
    with _opened(data, server, api_key) as opened:
        id_ = _found(opened, board)
        _print_board(opened.note(id_, uuid_of(asset, "asset"), said), as_json=json)


@boards.command()
def more(
    board: Board,
    limit: Limit = 10,
    cursor: Annotated[str | None, typer.Option(help="Go on after an earlier list: next_cursor of its --json.")] = None,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Find pictures that fit a board and are not on it."""
    with _opened(data, server, api_key) as opened:
        found = opened.more(_found(opened, board), limit=limit, cursor=cursor)
    if json:
        output.line(found.model_dump_json())
        return
    output.line(f"   fit  {'title':{_TITLE}}  asset")
    for hit in found.hits:
        output.line(f"{hit.fit:6.3f}  {output.cut(hit.title or '', _TITLE):{_TITLE}}  {hit.asset_id}")


@boards.command()
def outliers(
    board: Board, limit: Limit = 5, data: Data = None, server: Server = None, api_key: ApiKey = None, json: Json = False
) -> None:
    """List the pictures that fit their board least, and tell which do not fit."""
    with _opened(data, server, api_key) as opened:
        found = opened.outliers(_found(opened, board), limit=limit)
    if json:
        output.line(found.model_dump_json())
        return
    output.line(f"   fit        z  {'':12}  {'title':{_TITLE}}  asset")
    for one in found.pictures:
        verdict = "does not fit" if one.outlier else ""
        title = output.cut(one.title or "", _TITLE)
        output.line(f"{one.fit:6.3f}  {one.z_score:7.1f}  {verdict:12}  {title:{_TITLE}}  {one.asset_id}")


@boards.command()
def export(
    board: Board,
    target: Annotated[Path, typer.Option("-o", "--output", help="A .csv, .json, .pdf or .png file.")],
    page: Annotated[int, typer.Option(min=1, help="Which page of the contact sheet, for a .png.")] = 1,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Write a board into a file: a list as .csv or .json, or a contact sheet as .pdf or .png."""
    suffix = target.suffix.lower().removeprefix(".")
    if suffix not in [kind.value for kind in ExportFormat]:
        raise InvalidInput(f"-o {target}: boards are written as .csv, .json, .pdf or .png")
    kind = ExportFormat(suffix)
    if not target.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {target.absolute().parent} for -o")
    with _opened(data, server, api_key) as opened:
        made, said = opened.exported(_found(opened, board), kind, page=page)
    with replacing(target) as file:
        file.write(made)
    pages, lacking = int(said.get("x-phosphene-pages", 0)), int(said.get("x-phosphene-unshown", 0))
    if lacking:
        output.warn(f"{lacking} titles and notes have characters that the font lacks: PHOSPHENE_FONT names another")
    if kind is ExportFormat.PNG and pages > 1:
        output.note(f"page {page} of {pages}: --page for another, or -o FILE.pdf for all")
    output.line(_Written(output=str(target), bytes=len(made)).model_dump_json() if json else str(target))


@boards.command()
def share(
    board: Board,
    days: Annotated[float | None, typer.Option(help="How long the link lasts; default: until it is revoked.")] = None,
    with_notes: Annotated[bool, typer.Option("--notes/--no-notes", help="Whether it shows the notes.")] = True,
    links: Annotated[bool, typer.Option("--list", help="List the links that there are instead.")] = False,
    revoke: Annotated[str | None, typer.Option(metavar="LINK", help="Close the link of this id instead.")] = None,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Make a link that shows a board, and nothing else, to whoever has it."""
    body = request_of(ShareRequest, expires_in_days=days, with_notes=with_notes)
    with _opened(data, server, api_key) as opened:
        id_ = _found(opened, board)
        if revoke is not None:
            opened.revoke(id_, uuid_of(revoke, "link"))
            return
        made = opened.shares(id_).shares if links else [opened.share(id_, body)]
    for one in made:
        until = "until revoked" if one.expires_at is None else f"until {one.expires_at:%Y-%m-%d %H:%M} UTC"
        output.line(one.model_dump_json() if json else f"{one.id}  {until}  {one.path or ''}".rstrip())


class _Written(BaseModel):
    output: str
    bytes: int


@contextmanager
def _opened(data: Path | None, server: str | None, api_key: str | None) -> Iterator[BoardsBackend]:
    with backend("collections", data=data, model=None, server=server, api_key=api_key) as chosen:
        yield chosen.boards


def _found(opened: BoardsBackend, named: str) -> UUID:
    """Find a board by id or name. Raises InvalidInput where none, or several, are called so."""
    try:
        return UUID(named)
    except ValueError:
        pass
    matching: list[CollectionOut] = []
    page = opened.latest(limit=100)
    while True:
        matching += [board for board in page.collections if board.name == named]
        if page.next_before is None:
            break
        page = opened.latest(before=page.next_before, limit=100)
    if len(matching) != 1:
        listed = ", ".join(str(board.id) for board in matching[:5])
        said = f"{len(matching)} boards are called {named!r}: name one by its id: {listed}" if matching else ""
        raise InvalidInput(said or f"no board is called {named!r}: phosphene collections list shows what there is")
    return matching[0].id


def _ids(assets: Sequence[str]) -> list[UUID]:
    return [uuid_of(asset, "asset") for asset in assets]


def _print_board(board: CollectionOut, *, as_json: bool) -> None:
    counted = f"{board.count:,} picture{'' if board.count == 1 else 's'}"
    output.line(board.model_dump_json() if as_json else f"{board.id}  {board.name}: {counted}")


def _print_changed(changed: ItemsChanged, how: str, *, as_json: bool) -> None:
    if as_json:
        output.line(changed.model_dump_json())
    else:
        output.line(f"{how} {changed.changed}; {changed.collection.count:,} on {changed.collection.name}")
