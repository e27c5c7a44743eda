"""Where a list that words are looked up for goes on: its cursors.

A hybrid list names the candidates that were shown, since their order moves with what comes in: so none comes twice, and
one that newer pictures have pushed out of the candidates comes with those behind them.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from phosphene.errors import InvalidCursor
from phosphene.types import AssetId, PointId
from phosphene.vectors.base import ScoredPoint, asset_of
from phosphene.vectors.conditions import utc_text
from search_api import cursor as cursors
from search_api.cursor import Cursor

DEPTH = 100  # of each list that is fused
MAX_LISTED = 10_000

_MARK, _WORDS_MARK = "H~", "W~"  # no other cursors begin so
_SAME_SCORE = 1e-6  # of BM25, as a share
_MAX_CURSOR = 16 * 1024  # characters
_MOST_SHOWN = 100 * DEPTH
_DIGITS = 5  # bytes of an id that tell candidates apart
_FOREIGN = "the cursor is none of ours: pass next_cursor of the answer before, unchanged"
_OTHER = "the cursor belongs to another question: repeat the question and all that it came from"


@dataclass(frozen=True, slots=True)
class Shown:
    """How far a fused list was shown: which of the candidates, and then the cursor of the picture's list behind them.

    Of a list that is fused anew for each page a score would not tell it: ranks move when pictures come in.
    """

    name: str
    candidates: frozenset[bytes] = frozenset()  # the last _DIGITS bytes of their ids
    behind: Cursor | None = None

    def has(self, asset: AssetId) -> bool:
        """Whether a candidate was shown."""
        return asset.bytes[-_DIGITS:] in self.candidates

    def with_shown(self, points: Iterable[ScoredPoint]) -> Shown:
        """Note that these candidates are shown too."""
        now = frozenset(asset_of(point).bytes[-_DIGITS:] for point in points)
        return replace(self, candidates=self.candidates | now)

    def encode(self) -> str:
        """Write it as text fit for a URL."""
        behind = None if self.behind is None else self.behind.encode()
        header = json.dumps([self.name, behind], separators=(",", ":")).encode()
        data = len(header).to_bytes(2, "little") + header + b"".join(sorted(self.candidates))
        return _MARK + base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str, *, name: str) -> Shown:
    """Read the cursor of a hybrid list and check that it is of this one. Raises InvalidCursor."""
    try:
        data = _bytes_of(text, _MARK)
        start = 2 + int.from_bytes(data[:2], "little")
        of, behind = json.loads(data[2:start])
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidCursor(_FOREIGN) from error
    shown = frozenset(data[at : at + _DIGITS] for at in range(start, len(data), _DIGITS))
    if not isinstance(behind, str | None) or (len(data) - start) % _DIGITS or len(shown) > _MOST_SHOWN:
        raise InvalidCursor(_FOREIGN)
    if of != name:
        raise InvalidCursor(_OTHER)
    return Shown(name, shown, cursors.decode(behind, query=name) if behind is not None else None)


def _bytes_of(text: str, mark: str) -> bytes:
    if not text.startswith(mark) or len(text) > _MAX_CURSOR:
        raise ValueError(text[:20])
    coded = text[len(mark) :]
    return base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)


@dataclass(frozen=True, slots=True)
class WordCursor:
    """The last hit of a list of words, of the pictures that there were when the first page was asked for.

    How rare a word is changes with what comes in. So the pages behind are of the pictures of that time, and their
    words are weighed as they were then.
    """

    name: str
    began: str  # ISO 8601
    score: float
    id: PointId
    seen: int

    def shown(self, point: ScoredPoint) -> bool:
        """Whether an earlier page had this point."""
        if abs(point.score - self.score) <= _SAME_SCORE * self.score:
            return point.id <= self.id
        return point.score > self.score

    def encode(self) -> str:
        """Write it as text fit for a URL."""
        fields = [self.name, self.began, self.score, self.id.hex, self.seen]
        return _WORDS_MARK + base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def decoded_words(text: str, *, name: str) -> WordCursor:
    """Read the cursor of a list of words and check that it is of this one. Raises InvalidCursor."""
    try:
        of, began, score, last, seen = json.loads(_bytes_of(text, _WORDS_MARK))
        cursor = WordCursor(str(of), utc_text(str(began)), float(score), PointId(UUID(hex=last)), int(seen))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InvalidCursor(_FOREIGN) from error
    if not (math.isfinite(cursor.score) and cursor.score > 0 and 0 < cursor.seen <= MAX_LISTED):
        raise InvalidCursor(_FOREIGN)
    if cursor.name != name:
        raise InvalidCursor(_OTHER)
    return cursor
