"""A board as a file: CSV and JSON lists, contact sheets as PDF and PNG. Made some pictures at a time."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from threading import BoundedSemaphore, Lock
from typing import BinaryIO
from urllib.parse import quote
from uuid import UUID

from phosphene import contact_sheet
from phosphene.assemble import Engine
from phosphene.catalog.collections import Collection, CollectionItem
from phosphene.catalog.records import Asset
from phosphene.contact_sheet import PER_PAGE, Cell, Heading
from phosphene.errors import DamagedData, InvalidQuery, Overloaded
from phosphene.places import place_text
from phosphene.types import CollectionId, FieldValue, TenantId
from search_api.pictures import Size, picture_of
from search_api.schemas import ExportFormat

MAX_PDF = 1_000  # pictures: 50 pages, about 10 MB
_CHUNK = 500  # rows
_PART = 1 << 20  # bytes
_DRAWING = Lock()  # one sheet at a time: Pillow draws on a core that searches want too
_PLACES = BoundedSemaphore(3)  # sheets that are drawn or wait: each holds a thread that would answer others
_PATIENCE_S = 10.0
_COLUMNS = ("place", "asset_id", "title", "note", "width", "height", "format", "bytes", "added_at", "generated")
# What begins a formula in some spreadsheet (OWASP, CSV injection), full-width forms included.
_FORMULA = tuple("=+-@\t\r\n|%＝＋－＠")  # noqa: RUF001  spreadsheets read these as the others


@dataclass(frozen=True, slots=True)
class Exported:
    """A file in parts, and what is said of it."""

    parts: Iterator[bytes]
    disposition: str
    headers: Mapping[str, str] = field(default_factory=dict)


def export(board: UUID, kind: ExportFormat, *, page: int = 1, engine: Engine, tenant: TenantId) -> Exported:
    """Export a board.

    Raises NotFound, InvalidQuery for a page that it has not or a PDF that would be too long, and Overloaded while
    another sheet is drawn.
    """
    id_ = CollectionId(board)
    found = engine.catalog.collections.one(tenant, id_)
    items = engine.catalog.collections.items(tenant, id_)
    disposition = _disposition(found, kind)
    if kind is ExportFormat.CSV:
        return Exported(_csv(items, engine=engine, tenant=tenant), disposition)
    if kind is ExportFormat.JSON:
        return Exported(_json(found, items, engine=engine, tenant=tenant), disposition)
    pages = contact_sheet.pages_of(len(items))
    if kind is ExportFormat.PNG:
        if page > pages:
            raise InvalidQuery(f"page {page} of a sheet that has {pages}")
        cells = _cells(items[(page - 1) * PER_PAGE : page * PER_PAGE], engine=engine, tenant=tenant)
        with _alone():
            drawn = contact_sheet.draw_page(cells, Heading(found.name, page, pages), font=engine.settings.font)
            sheet = contact_sheet.png_of(drawn)
        headers = {"X-Phosphene-Pages": str(pages), "X-Phosphene-Unshown": str(_unshown(cells, engine))}
        return Exported(iter([sheet]), disposition, headers)
    if len(items) > MAX_PDF:
        raise InvalidQuery(
            f"a PDF holds {MAX_PDF:,} pictures and this board {len(items):,}: take the pages as png, or a csv"
        )
    with _alone():
        return _pdf(found, items, engine=engine, tenant=tenant)


@contextmanager
def _alone() -> Iterator[None]:
    told = Overloaded("other contact sheets are being drawn: ask again in a while", retry_after_s=_PATIENCE_S)
    if not _PLACES.acquire(blocking=False):
        raise told
    try:
        if not _DRAWING.acquire(timeout=_PATIENCE_S):
            raise told
        try:
            yield
        finally:
            _DRAWING.release()
    finally:
        _PLACES.release()


def safe_cell(value: object) -> object:
    """Make a cell that no spreadsheet takes for a formula: text that would begin one gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) or value.startswith(_FORMULA) else value


def _csv(items: Sequence[CollectionItem], *, engine: Engine, tenant: TenantId) -> Iterator[bytes]:
    """Write RFC 4180 in UTF-8 with a mark at its start, by which spreadsheets know it."""
    names = [declared.name for declared in engine.catalog.fields(tenant)]
    yield b"\xef\xbb\xbf" + _rows([[*_COLUMNS, *(f"metadata.{name}" for name in names)]])
    for shown in _chunks(items, engine=engine, tenant=tenant):
        yield _rows(
            [
                [
                    place,
                    asset.id,
                    asset.title,
                    item.note,
                    asset.width,
                    asset.height,
                    asset.format,
                    asset.bytes,
                    asset.added_at.isoformat(),
                    asset.generated,
                    *(_flat(asset.metadata.get(name)) for name in names),
                ]
                for place, item, asset in shown
            ]
        )


def _rows(rows: Sequence[Sequence[object]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([[safe_cell(value) for value in row] for row in rows])
    return out.getvalue().encode("utf-8")


def _flat(value: FieldValue) -> object:
    if isinstance(value, dict):
        return place_text(value)
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _json(board: Collection, items: Sequence[CollectionItem], *, engine: Engine, tenant: TenantId) -> Iterator[bytes]:
    said = {"id": str(board.id), "name": board.name, "notes": board.notes, "changed_at": board.changed_at.isoformat()}
    yield json.dumps(said, ensure_ascii=False).removesuffix("}").encode() + b', "items": ['
    first = True
    for shown in _chunks(items, engine=engine, tenant=tenant):
        for place, item, asset in shown:
            known = {
                "place": place,
                "asset_id": str(asset.id),
                "title": asset.title,
                "note": item.note,
                "width": asset.width,
                "height": asset.height,
                "format": asset.format,
                "sha256": asset.sha256,
                "added_at": asset.added_at.isoformat(),
                "generated": asset.generated,
                "metadata": asset.metadata,
            }
            yield (b"\n" if first else b",\n") + json.dumps(known, ensure_ascii=False).encode()
            first = False
    yield b"\n]}\n"


def _chunks(
    items: Sequence[CollectionItem], *, engine: Engine, tenant: TenantId
) -> Iterator[list[tuple[int, CollectionItem, Asset]]]:
    """Give pictures with their places, from 1, without those that were deleted meanwhile."""
    for start in range(0, len(items), _CHUNK):
        part = items[start : start + _CHUNK]
        assets = engine.catalog.assets(tenant, [item.asset_id for item in part])
        yield [(start + at + 1, item, assets[item.asset_id]) for at, item in enumerate(part) if item.asset_id in assets]


def _pdf(board: Collection, items: Sequence[CollectionItem], *, engine: Engine, tenant: TenantId) -> Exported:
    """Draw all pages into a file that is gone when it is read."""
    pages = contact_sheet.pages_of(len(items))
    lacking = 0

    def draw() -> Iterator[contact_sheet.Page]:
        nonlocal lacking
        for page in range(pages):
            cells = _cells(items[page * PER_PAGE : (page + 1) * PER_PAGE], engine=engine, tenant=tenant)
            lacking += _unshown(cells, engine)
            yield contact_sheet.draw_page(cells, Heading(board.name, page + 1, pages), font=engine.settings.font)

    file = TemporaryFile(prefix="phosphene-sheet-")  # noqa: SIM115  closed when it is read
    try:
        contact_sheet.write_pdf(draw(), file, title=board.name)
    except BaseException:
        file.close()
        raise
    headers = {"X-Phosphene-Pages": str(pages), "X-Phosphene-Unshown": str(lacking)}
    return Exported(_read(file), _disposition(board, ExportFormat.PDF), headers)


def _read(file: BinaryIO) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while part := file.read(_PART):
            yield part


def _cells(items: Sequence[CollectionItem], *, engine: Engine, tenant: TenantId) -> list[Cell]:
    cells = []
    for shown in _chunks(items, engine=engine, tenant=tenant):
        for _, item, asset in shown:
            try:
                thumbnail = picture_of(asset, Size.THUMBNAIL, engine=engine).data
            except DamagedData:  # its frame stays empty: one lost file is no reason to give no sheet
                thumbnail = None
            cells.append(Cell(thumbnail, asset.title or str(asset.id), item.note))
    return cells


def _unshown(cells: Sequence[Cell], engine: Engine) -> int:
    return contact_sheet.unshown(cells, font=engine.settings.font)


def _disposition(board: Collection, kind: ExportFormat) -> str:
    """Name the download after the board, in both forms of RFC 6266."""
    name = unicodedata.normalize("NFC", board.name)
    plain = re.sub(r"[^\w .,'()-]+", "_", name).strip(" ._")[:80].strip(" ._") or "board"
    in_ascii = plain.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{in_ascii}.{kind}\"; filename*=UTF-8''{quote(f'{plain}.{kind}')}"
