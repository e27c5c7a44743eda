"""The cursor of a list that was put in order once: it carries what comes after the page.

An arranged list can't be told by the score of its last hit. So the first page decides it, and each cursor holds what is
left: 20 bytes for each picture, at most ARRANGED of them.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from phosphene.errors import InvalidCursor
from phosphene.types import AssetId
from search_api.arrange import ARRANGED, MAX_GROUP, Entry

_MARK = "L~"  # plain cursors have no tilde
_PICTURE = struct.Struct("<16sf")
_MAX_TEXT = 256 * 1024  # characters of a cursor
_MAX_BYTES = 256 * 1024
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, zlib.error, struct.error)
_FOREIGN = "the cursor is none of ours: pass next_cursor of the answer before, unchanged"


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of an arranged list, and the cursor of what follows behind it, where something does."""

    query: str
    entries: tuple[Entry, ...]
    behind: str | None  # as the list by itself has it, not checked yet

    def encode(self) -> str:
        """Write it as text fit for a URL, as long as it is short."""
        shape = [[len(one.others), one.value, one.folded, one.by_cosine] for one in self.entries]
        header = json.dumps([self.query, self.behind, shape], separators=(",", ":")).encode()
        body = b"".join(_PICTURE.pack(asset.bytes, score) for asset, score in _pictures(self.entries))
        packed = zlib.compress(len(header).to_bytes(4, "little") + header + body, 6)
        return _MARK + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def is_remainder(text: str) -> bool:
    """Tell whether a cursor is of an arranged list."""
    return text.startswith(_MARK)


def decode(text: str, *, query: str) -> Remainder:
    """Read a cursor and check that it is of this question. Raises InvalidCursor."""
    try:
        name, behind, entries = _parsed(text)
    except _UNREADABLE as error:
        raise InvalidCursor(_FOREIGN) from error
    if name != query:
        raise InvalidCursor("the cursor belongs to another question: repeat the query and all that it came from")
    return Remainder(query, entries, behind)


def _parsed(text: str) -> tuple[str, str | None, tuple[Entry, ...]]:
    if len(text) > _MAX_TEXT or not is_remainder(text):
        raise ValueError(len(text))
    coded = text[len(_MARK) :]
    unpacker = zlib.decompressobj()
    packed = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
    data = unpacker.decompress(packed, _MAX_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError(text)
    size = int.from_bytes(data[:4], "little")
    name, behind, shape = json.loads(data[4 : 4 + size])
    if len(shape) > ARRANGED or not isinstance(behind, str | None):
        raise ValueError(text)
    pictures = [(AssetId(UUID(bytes=raw)), score) for raw, score in _PICTURE.iter_unpack(data[4 + size :])]
    if sum(1 + others for others, *_ in shape) != len(pictures) or not all(math.isfinite(one) for _, one in pictures):
        raise ValueError(text)
    return str(name), behind, tuple(_entries(shape, iter(pictures)))


def _entries(shape: list[tuple[int, object, int, int]], pictures: Iterator[tuple[AssetId, float]]) -> Iterator[Entry]:
    for count, value, folded, guessed in shape:
        sane = 0 <= folded <= ARRANGED and 0 <= guessed <= ARRANGED
        if not (sane and 0 <= count < MAX_GROUP and isinstance(value, str | int | None)):
            raise ValueError(count)
        asset, score = next(pictures)
        yield Entry(asset, score, tuple(next(pictures) for _ in range(count)), value, int(folded), int(guessed))


def _pictures(entries: tuple[Entry, ...]) -> Iterator[tuple[AssetId, float]]:
    for entry in entries:
        yield entry.asset, entry.score
        yield from entry.others
