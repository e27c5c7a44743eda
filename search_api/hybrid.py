"""The step of a search that looks words up beside the picture: two ranked lists become one.

The first DEPTH of each list are candidates, and each of them gets its place in both, whichever it came from: a picture
that a thousand others share its words with would else be found by chance. What is behind follows by the picture.

A cursor names the candidates that were shown, since their order moves with what comes in: so none comes twice, and one
that newer pictures have pushed out of the candidates comes with those behind them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from phosphene.catalog.records import Asset
from phosphene.errors import InvalidCursor, InvalidQuery
from phosphene.filters import And, AnyOf, Filter, Range, tenant_filter
from phosphene.nomatch.decision import Match
from phosphene.nomatch.evidence import HEAD
from phosphene.types import AssetId, PointId
from phosphene.vectors.base import ScoredPoint, VectorIndex, WordQuery, asset_of
from phosphene.vectors.conditions import WORDS, utc_text
from phosphene.words.fusion import Blend, Fused, Mode, Place, fuse
from phosphene.words.said import words_of
from phosphene.words.tokens import words_asked
from search_api import cursor as cursors
from search_api.compose import Composed
from search_api.cursor import Cursor

BY_DEFAULT = Mode.PICTURE  # where a question is one text
DEPTH = 100  # of each list that is fused
MAX_WORDS = 64  # of a question: the first are looked up
MAX_LISTED = 10_000

_MARK, _WORDS_MARK = "H~", "W~"  # no other cursors begin so
_SAME_SCORE = 1e-6  # of BM25, as a share
_MAX_CURSOR = 16 * 1024  # characters
_MOST_SHOWN = 100 * DEPTH
_DIGITS = 5  # bytes of an id that tell candidates apart
_FOREIGN = "the cursor is none of ours: pass next_cursor of the answer before, unchanged"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which part gave what to a hit; score 0..1 is what the list is ordered by, None in a list of one part."""

    score: float | None
    picture: Place | None  # score: cosine
    words: Place | None  # score: BM25
    matched: tuple[str, ...]  # of the words asked, those that the picture has


@dataclass(frozen=True, slots=True)
class FusedPage:
    """A page: points with their cosines, in the order of the list. `head`: the first by the picture alone."""

    points: tuple[ScoredPoint, ...]
    next_cursor: str | None
    head: tuple[ScoredPoint, ...]
    explained: Mapping[AssetId, Explanation]
    exact: tuple[str, ...]  # the words of the question, where a first hit has all of them and one is a code


def mode_of(blend: Blend, asked: Composed, *, index: VectorIndex, arranged: bool) -> Mode:
    """Say what a question is compared with. Raises InvalidQuery where there are no words to look up.

    By default it is both where the question is one text. It is the picture where the list is to be put in another order
    (`arranged`), and where the engine looks no words up.
    """
    if blend.mode is not None and blend.mode is not Mode.PICTURE and asked.text is None:
        raise InvalidQuery(f"mode {blend.mode} looks words up: ask with a text, or leave the mode out")
    if blend.mode is not None:
        return blend.mode
    return BY_DEFAULT if asked.text is not None and index.ranks_words and not arranged else Mode.PICTURE


def list_name(blend: Blend, mode: Mode, question: str) -> str:
    """Name the list that a question gets: 20 hex digits."""
    return hashlib.sha256(f"{mode} {blend.fusion} {blend.weights} {question}".encode()).hexdigest()[:20]


def fused_page(
    asked: Composed, blend: Blend, mode: Mode, *, limit: int, cursor: str | None, index: VectorIndex
) -> FusedPage:
    """Give a page of what pictures and words find together, or words alone. Raises InvalidCursor, Unavailable."""
    name = list_name(blend, mode, asked.fingerprint)
    words = tuple(words_asked(asked.text or ""))[:MAX_WORDS]
    if mode is Mode.WORDS:
        return _page_of_words(asked, words, name=name, limit=limit, cursor=cursor, index=index)
    lists = _look_up(asked, words, index=index)
    fused = fuse(lists.cosines, lists.scores, by=blend.fusion, weights=blend.weights)
    exact = exact_hits(words, lists.points.values())
    fused.sort(key=lambda one: one.id not in exact)  # a code is no matter of taste: what carries it comes first
    shown = _Shown(name) if cursor is None else _decoded(cursor, name=name)
    page, following = _turned(shown, fused, limit, asked=asked, lists=lists, index=index)
    return FusedPage(
        points=page,
        next_cursor=following,
        head=lists.first[:HEAD],
        explained=_explained(page, words, {one.id: one for one in fused}),
        exact=words if exact else (),
    )


def exact_hits(words: Sequence[str], hits: Iterable[ScoredPoint]) -> frozenset[PointId]:
    """Name the hits that carry all words asked, where one of these is a code: letters and digits, or a long number."""
    if not any(_is_code(word, alone=len(words) == 1) for word in words):
        return frozenset()
    return frozenset(point.id for point in hits if set(words) <= _words_of(point))


def with_words(match: Match, exact: Sequence[str]) -> Match:
    """Call a code that was found a match in its own right, whatever the picture says; the probability stays its own."""
    if not exact:
        return match
    return replace(match, matched=True, by_words=True, note=f"found by its words ({' '.join(exact)}); {match.note}")


def explain_hit(asset: Asset, cosine: float, text: str | None, fused: FusedPage | None) -> Explanation:
    """Say which part gave what to a hit; `fused` None: its list is of the picture alone."""
    if fused is not None:
        return fused.explained[asset.id]
    has = set(words_of(asset, ()).split())
    matched = tuple(word for word in words_asked(text or "")[:MAX_WORDS] if word in has)
    return Explanation(None, Place(None, cosine), None, matched)


def _is_code(word: str, *, alone: bool) -> bool:
    digits = sum(letter.isdigit() for letter in word)
    if digits == len(word):
        return digits >= 5 or alone
    return digits > 0 and len(word) >= 4


def _words_of(point: ScoredPoint) -> set[str]:
    return set(str(point.payload.get(WORDS) or "").split())


@dataclass(frozen=True, slots=True)
class _Lists:
    """The candidates: what each list has of them, and the first of the picture's own."""

    first: tuple[ScoredPoint, ...]  # DEPTH by the picture
    more: bool  # behind these
    points: Mapping[PointId, ScoredPoint]  # all candidates, with their cosines
    scores: Sequence[tuple[PointId, float]]  # BM25

    @property
    def cosines(self) -> list[tuple[PointId, float]]:
        return [(point.id, point.score) for point in self.points.values()]

    def asset(self, point: PointId) -> AssetId:
        return asset_of(self.points[point])


def _look_up(asked: Composed, words: tuple[str, ...], *, index: VectorIndex) -> _Lists:
    nearest = asked.nearest(DEPTH + 1, index=index)
    first = tuple(nearest[:DEPTH])
    points = {point.id: point for point in first}
    own, within = tenant_filter(asked.tenant, None), tenant_filter(asked.tenant, asked.filter)
    found = index.query_words([WordQuery(words, DEPTH, within, own)])[0] if words else []
    if found:
        unseen = [point for point in found if point.id not in points]
        points |= {point.id: point for point in _cosines(asked, map(asset_of, unseen), index=index)}
        silent = {point.id for point in found}
        also = [asset_of(point) for point in first if point.id not in silent]
        if also and len(found) >= DEPTH:  # else all that have one of the words are found
            among = And((within, _one_of(also)))
            found += index.query_words([WordQuery(words, len(also), among, own)])[0]
    scores = [(point.id, point.score) for point in found if point.id in points]
    return _Lists(first, len(nearest) > DEPTH, points, scores)


def _cosines(asked: Composed, assets: Iterable[AssetId], *, index: VectorIndex) -> list[ScoredPoint]:
    """Give the points of some pictures with their cosines, those that the question lets through."""
    ids = list(assets)
    if not ids:
        return []
    also = _one_of(ids)
    within = also if asked.filter is None else And((asked.filter, also))
    return replace(asked, filter=within).nearest(len(ids), index=index)


def _one_of(assets: Sequence[AssetId]) -> Filter:
    return AnyOf("asset_id", tuple(map(str, assets)))


def _explained(
    page: Sequence[ScoredPoint], words: Sequence[str], fused: Mapping[PointId, Fused]
) -> dict[AssetId, Explanation]:
    found = {}
    for point in page:
        one = fused.get(point.id)
        found[asset_of(point)] = Explanation(
            score=one.score if one is not None else None,
            picture=one.picture if one is not None else Place(None, point.score),
            words=one.words if one is not None else None,
            matched=_matched(words, point),
        )
    return found


@dataclass(frozen=True, slots=True)
class _Shown:
    """How far a fused list was shown: which of the candidates, and then the cursor of the picture's list behind them.

    Of a list that is fused anew for each page a score would not tell it: ranks move when pictures come in.
    """

    name: str
    candidates: frozenset[bytes] = frozenset()  # the last _DIGITS bytes of their ids
    behind: Cursor | None = None

    def has(self, asset: AssetId) -> bool:
        return asset.bytes[-_DIGITS:] in self.candidates

    def encode(self) -> str:
        behind = None if self.behind is None else self.behind.encode()
        header = json.dumps([self.name, behind], separators=(",", ":")).encode()
        data = len(header).to_bytes(2, "little") + header + b"".join(sorted(self.candidates))
        return _MARK + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str, *, name: str) -> _Shown:
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
        raise InvalidCursor("the cursor belongs to another question: repeat the question and all that it came from")
    return _Shown(name, shown, cursors.decode(behind, query=name) if behind is not None else None)


def _bytes_of(text: str, mark: str) -> bytes:
    if not text.startswith(mark) or len(text) > _MAX_CURSOR:
        raise ValueError(text[:20])
    coded = text[len(mark) :]
    return base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)


def _turned(
    shown: _Shown, fused: Sequence[Fused], limit: int, *, asked: Composed, lists: _Lists, index: VectorIndex
) -> tuple[tuple[ScoredPoint, ...], str | None]:
    """Give the next points, and the cursor behind them."""
    fresh = [lists.points[one.id] for one in fused if not shown.has(lists.asset(one.id))] if not shown.behind else []
    page, left = fresh[:limit], len(fresh) > limit
    now = frozenset(asset_of(point).bytes[-_DIGITS:] for point in page)
    shown = replace(shown, candidates=shown.candidates | now)
    if left or (len(page) == limit and lists.more):
        return tuple(page), shown.encode()
    if not lists.more and shown.behind is None:
        return tuple(page), None

    def others(count: int) -> list[ScoredPoint]:
        points = asked.nearest(count + len(shown.candidates), index=index)
        return [point for point in points if not shown.has(asset_of(point))][:count]

    points, more = page_behind(others, limit - len(page), before=shown.behind)
    if not more:
        return (*page, *points), None
    behind = cursors.after(points, query=shown.name, before=shown.behind)
    following = replace(shown, behind=behind).encode() if behind.seen < MAX_LISTED else None
    return (*page, *points), following


def page_behind(
    nearest: Callable[[int], list[ScoredPoint]], limit: int, *, before: Cursor | None
) -> tuple[list[ScoredPoint], bool]:
    """Give the points behind a cursor of a list by score, and whether there are more of them."""
    fetch = limit + 1 + (before.seen if before is not None else 0)
    while True:
        points = nearest(fetch)
        fresh = [point for point in points if before is None or not before.shown(point)]
        if len(fresh) > limit or len(points) < fetch or fetch >= 2 * MAX_LISTED:
            return fresh[:limit], len(fresh) > limit
        fetch *= 2  # pictures came in since the first page


@dataclass(frozen=True, slots=True)
class _WordCursor:
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
        fields = [self.name, self.began, self.score, self.id.hex, self.seen]
        return _WORDS_MARK + base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def _decoded_words(text: str, *, name: str) -> _WordCursor:
    try:
        of, began, score, last, seen = json.loads(_bytes_of(text, _WORDS_MARK))
        cursor = _WordCursor(str(of), utc_text(str(began)), float(score), PointId(UUID(hex=last)), int(seen))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InvalidCursor(_FOREIGN) from error
    if not (math.isfinite(cursor.score) and cursor.score > 0 and 0 < cursor.seen <= MAX_LISTED):
        raise InvalidCursor(_FOREIGN)
    if cursor.name != name:
        raise InvalidCursor("the cursor belongs to another question: repeat the question and all that it came from")
    return cursor


def _page_of_words(
    asked: Composed, words: tuple[str, ...], *, name: str, limit: int, cursor: str | None, index: VectorIndex
) -> FusedPage:
    before = None if cursor is None else _decoded_words(cursor, name=name)
    began = datetime.now(UTC).isoformat() if before is None else before.began
    head = tuple(asked.nearest(HEAD, index=index))
    if not words:
        return FusedPage((), None, head, {}, ())
    then = Range("added_at", lte=began)
    among, within = (And((tenant_filter(asked.tenant, one), then)) for one in (None, asked.filter))
    seen = 0 if before is None else before.seen
    found = index.query_words([WordQuery(words, seen + limit + 1, within, among, exact=True)])[0]
    places = {point.id: Place(rank, point.score) for rank, point in enumerate(found, 1)}
    fresh = [point for point in found if before is None or not before.shown(point)]
    now, more = fresh[:limit], len(fresh) > limit and seen + limit < MAX_LISTED
    cosines = {point.id: point for point in _cosines(asked, map(asset_of, now), index=index)}
    page = tuple(cosines[point.id] for point in now if point.id in cosines)
    following = _WordCursor(name, began, now[-1].score, now[-1].id, seen + len(now)) if more else None
    return FusedPage(
        points=page,
        next_cursor=following.encode() if following is not None else None,
        head=head,
        explained={
            asset_of(point): Explanation(None, None, places[point.id], _matched(words, point)) for point in page
        },
        exact=words if exact_hits(words, found[:HEAD]) else (),
    )


def _matched(words: Sequence[str], point: ScoredPoint) -> tuple[str, ...]:
    has = _words_of(point)
    return tuple(word for word in words if word in has)
