"""Contact sheets: A4 pages of thumbnails with what is said of each. Pure functions over Pillow.

It draws thumbnails that our own decoders made, never files of others.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from PIL import Image, ImageDraw, ImageFont, features

from phosphene.errors import InvalidSettings

DPI = 150
WIDTH, HEIGHT = 1240, 1754  # A4 at 150 dpi, pixels
COLUMNS, ROWS = 4, 5
PER_PAGE = COLUMNS * ROWS
_MARGIN = 50
_HEAD = 70  # pixels above the pictures
_FOOT = 40
_THUMBNAIL = 240  # its longer side
_LINE = 20  # pixels from line to line
_FONT_SIZE, _HEAD_SIZE = 16, 28
_TITLE_LINES = 2
_INK, _GREY = (20, 20, 20), (110, 110, 110)
_NOWHERE = "\ufffe"  # no font has it: what it draws stands for whatever is missing
_RIGHT_TO_LEFT = frozenset({"R", "AL"})

Page = Image.Image


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture of the sheet: a thumbnail's file, or None where there is none any more, and what stands under it."""

    thumbnail: bytes | None
    title: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands on every page."""

    name: str
    page: int  # from 1
    pages: int


def pages_of(count: int) -> int:
    """Tell how many pages so many pictures take; an empty board takes one."""
    return max(1, -(-count // PER_PAGE))


def draw_page(cells: Sequence[Cell], heading: Heading, *, font: Path | None = None) -> Page:
    """Draw one page, RGB of 1240 x 1754 pixels. Raises InvalidSettings for a font that can't be read."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(page)
    small, large = _font(font, _FONT_SIZE), _font(font, _HEAD_SIZE)
    draw.text((_MARGIN, _MARGIN // 2), _cut(heading.name, large, WIDTH - 4 * _MARGIN), fill=_INK, font=large)
    number = f"{heading.page} / {heading.pages}"
    draw.text((WIDTH - _MARGIN, _MARGIN // 2), number, fill=_GREY, font=small, anchor="ra")
    cell_width = (WIDTH - 2 * _MARGIN) // COLUMNS
    cell_height = (HEIGHT - 2 * _MARGIN - _HEAD - _FOOT) // ROWS
    for at, cell in enumerate(cells[:PER_PAGE]):
        left = _MARGIN + at % COLUMNS * cell_width
        top = _MARGIN + _HEAD + at // COLUMNS * cell_height
        _draw_cell(page, draw, cell, (left, top, cell_width - 16), small)
    lacking = unshown(cells, font=font)
    if lacking:
        said = f"{lacking} of these titles and notes have characters that this sheet's font lacks; the CSV has them"
        draw.text((_MARGIN, HEIGHT - _MARGIN), said, fill=_GREY, font=small)
    return page


def png_of(page: Page) -> bytes:
    """Write a page as a PNG file."""
    out = BytesIO()
    page.save(out, "PNG", dpi=(DPI, DPI))
    return out.getvalue()


def write_pdf(pages: Iterable[Page], target: BinaryIO, *, title: str) -> None:
    """Write pages into one PDF, of which only one is in memory at a time."""
    with TemporaryDirectory(prefix="phosphene-sheet-") as folder:
        file = Path(folder) / "sheet.pdf"
        for at, page in enumerate(pages):
            page.save(file, "PDF", resolution=DPI, append=at > 0, title=title, producer="Phosphene")
        with file.open("rb") as made:
            while part := made.read(1 << 20):
                target.write(part)


def unshown(cells: Iterable[Cell], *, font: Path | None = None) -> int:
    """Count the titles and notes with characters that the font can't show."""
    chosen = _font(font, _FONT_SIZE)
    return sum(any(_lacks(chosen, letter) for letter in text) for cell in cells for text in (cell.title, cell.note))


def _draw_cell(
    page: Page,
    draw: ImageDraw.ImageDraw,
    cell: Cell,
    box: tuple[int, int, int],  # left, top, width
    font: ImageFont.FreeTypeFont,
) -> None:
    left, top, width = box
    shown = _opened(cell.thumbnail)
    if shown is not None:
        page.paste(shown, (left + (width - shown.width) // 2, top), shown)
    else:
        draw.rectangle((left, top, left + width, top + _THUMBNAIL - 2 * _LINE), outline=_GREY)
    under = top + _THUMBNAIL - 2 * _LINE + 6
    lines = [*_wrapped(cell.title, font, width, _TITLE_LINES), *_wrapped(cell.note, font, width, 1)]
    titles = min(len(lines), _TITLE_LINES) if not cell.note else len(lines) - 1
    for at, line in enumerate(lines):
        draw.text((left, under + at * _LINE), line, fill=_INK if at < titles else _GREY, font=font)


def _opened(thumbnail: bytes | None) -> Image.Image | None:
    """Read a thumbnail, as large as it is drawn; None where there is none, or a damaged one: its frame stays empty."""
    if thumbnail is None:
        return None
    try:
        with Image.open(BytesIO(thumbnail), formats=["WEBP", "JPEG", "PNG"]) as opened:
            opened.thumbnail((_THUMBNAIL, _THUMBNAIL - 2 * _LINE))
            return opened.convert("RGBA")
    except OSError:
        return None


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """Break a text into at most so many lines; the last one is cut."""
    words = " ".join(_plain(text).split()).split(" ")
    lines: list[str] = []
    while words and words[0] and len(lines) < most:
        if len(lines) == most - 1:
            lines.append(_cut(" ".join(words), font, width))
            break
        taken = 1
        while taken < len(words) and font.getlength(" ".join(words[: taken + 1])) <= width:
            taken += 1
        lines.append(_cut(" ".join(words[:taken]), font, width))
        words = words[taken:]
    return lines


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    text = _plain(text)[:500]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _plain(text: str) -> str:
    """Leave out what controls a line rather than being shown on it."""
    kept = (" " if letter.isspace() else letter for letter in text)
    return "".join(letter for letter in kept if unicodedata.category(letter) not in ("Cc", "Cf", "Cs"))


def _lacks(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    if letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf"):
        return False
    if unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT and not features.check("raqm"):
        return True  # it would come out in reverse
    return _drawn(font, letter) == _drawn(font, _NOWHERE)


@lru_cache(maxsize=10_000)
def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter if not 0xD800 <= ord(letter) < 0xE000 else _NOWHERE)
    return mask.size, bytes(mask)


@lru_cache(maxsize=8)
def _font(named: Path | None, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(named or _bundled_font()), size)
    except OSError as error:
        raise InvalidSettings(f"PHOSPHENE_FONT {named} is no font that can be read: {error}") from error


def _bundled_font() -> Path:
    """Find DejaVu Sans, which matplotlib brings along, without importing that."""
    found = importlib.util.find_spec("matplotlib")
    places: Iterator[str] = iter(found.submodule_search_locations or ()) if found is not None else iter(())
    return Path(next(places, "")) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
