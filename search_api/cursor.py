"""Where a list of hits goes on: a cursor that stays right while pictures are added.

The index answers `the best k`, so the next page asks for as many as were seen and some more, and leaves out what was
shown. What was shown is told by the score of the last hit and by its id. Scores of one query can differ in the last
bits from call to call (the text was embedded in another batch), and at equal scores an index may pick any; so hits
whose score is about that of the last one are told apart by name.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from phosphene.errors import InvalidCursor
from phosphene.types import PointId
from phosphene.vectors.base import ScoredPoint

SAME_SCORE = 2e-5  # cosine; fp32 text towers differ by about 1e-6 between batches
MAX_NEAR = 256  # ids named in one cursor, about 3 kB
_DIGITS = 12  # of an id's hex form
_MAX_LENGTH = 16_384
MAX_SEEN = 20_000  # hits that can be paged through; a question should be narrowed beyond


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last hit shown, and those beside it. `query` is the fingerprint of the question."""

    query: str
    score: float
    id: PointId
    seen: int
    near: frozenset[str]  # last 12 hex digits of the ids shown with about the last score

    def shown(self, point: ScoredPoint) -> bool:
        """Whether an earlier page had this point, or would have had it."""
        if abs(point.score - self.score) > SAME_SCORE:
            return point.score > self.score
        if _digits(point.id) in self.near:
            return True
        return len(self.near) >= MAX_NEAR and (-point.score, point.id) <= (-self.score, self.id)

    def encode(self) -> str:
        """Write it as base64url, fit for a URL."""
        fields = [self.query, self.score, self.id.hex, self.seen, sorted(self.near)]
        return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")


def after(page: Sequence[ScoredPoint], *, query: str, before: Cursor | None) -> Cursor:
    """Give the cursor behind a page, which has one point at least; `before` is the one that led to it."""
    last = page[-1]
    beside = [_digits(point.id) for point in page if point.score - last.score <= 2 * SAME_SCORE]
    if before is not None and before.score - last.score <= 2 * SAME_SCORE:
        beside += sorted(before.near)
    seen = len(page) + (before.seen if before else 0)
    return Cursor(query, last.score, last.id, seen, frozenset(beside[-MAX_NEAR:]))


def decode(text: str, *, query: str) -> Cursor:
    """Read a cursor and check that it is of this question. Raises InvalidCursor."""
    try:
        cursor = _parsed(text)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidCursor("the cursor is none of ours: pass next_cursor of the answer before, unchanged") from error
    if cursor.query != query:
        raise InvalidCursor("the cursor belongs to another question: repeat the query and the filter it came from")
    return cursor


def _parsed(text: str) -> Cursor:
    if len(text) > _MAX_LENGTH:
        raise ValueError(len(text))
    padded = text + "=" * (-len(text) % 4)
    query, score, last, seen, near = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    cursor = Cursor(str(query), float(score), PointId(UUID(hex=last)), int(seen), frozenset(map(str, near)))
    if not (-1.01 <= cursor.score <= 1.01 and 0 < cursor.seen <= MAX_SEEN and len(cursor.near) <= MAX_NEAR):
        raise ValueError(text)
    return cursor


def _digits(point: PointId) -> str:
    return point.hex[-_DIGITS:]
