"""The step of a search that looks words up beside the picture: two ranked lists become one.

The first DEPTH of each list are candidates, and each of them gets its place in both, whichever it came from: a picture
that a thousand others share its words with would else be found by chance. What is behind follows by the picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Protocol

from phosphene.catalog.records import Asset
from phosphene.errors import InvalidQuery
from phosphene.filters import And, AnyOf, Filter, Range, tenant_filter
from phosphene.nomatch.decision import Match
from phosphene.nomatch.evidence import HEAD
from phosphene.types import AssetId, PointId
from phosphene.vectors.base import ScoredPoint, VectorIndex, WordQuery, asset_of
from phosphene.vectors.conditions import WORDS
from phosphene.words.fusion import Blend, Mode, Place, fuse
from phosphene.words.said import words_of
from phosphene.words.tokens import words_asked
from search_api import cursor as cursors
from search_api.arrange import ARRANGED
from search_api.compose import Composed
from search_api.listing import Stretch, page_of
from search_api.word_cursors import DEPTH, MAX_LISTED, Shown, WordCursor, decoded, decoded_words

MAX_WORDS = 64  # of a question: the first are looked up


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which part gave what to a hit; score 0..1 is what the list is ordered by, None in a list of one part."""

    score: float | None
    picture: Place | None  # score: cosine
    words: Place | None  # score: BM25
    matched: tuple[str, ...]  # of the words asked, those that the picture has


class WordedList(Protocol):
    """A list that words are looked up for, from one question."""

    head: tuple[ScoredPoint, ...]  # the first by the picture alone
    exact: tuple[str, ...]  # the words of the question, where a first hit has all of them and one is a code

    def stretch(self, limit: int, cursor: str | None) -> Stretch:
        """Give the hits behind a cursor; points have their cosines. Raises InvalidCursor, Unavailable."""
        ...

    def explain(self, asset: Asset, cosine: float) -> Explanation:
        """Say which part gave what to a hit of the list."""
        ...

    def only(self) -> Filter | None:
        """Give a filter for all that the list can have; None where that is whatever the question lets through."""
        ...


def mode_of(blend: Blend, asked: Composed, *, index: VectorIndex, pictures_only: bool) -> Mode:
    """Say what a question is compared with. Raises InvalidQuery where there are no words to look up.

    AUTO is both where the question is one text and the engine looks words up, unless `pictures_only`; else the picture.
    """
    if blend.mode is Mode.AUTO:
        return Mode.HYBRID if asked.text is not None and index.ranks_words and not pictures_only else Mode.PICTURE
    if blend.mode is not Mode.PICTURE and asked.text is None:
        raise InvalidQuery(f"mode {blend.mode} looks words up: ask with a text, or leave the mode out")
    return blend.mode


def list_name(blend: Blend, mode: Mode, question: str) -> str:
    """Name the list that a question gets: 20 hex digits."""
    if mode is Mode.PICTURE:
        return question
    return hashlib.sha256(f"{mode} {blend.fusion} {blend.weights} {question}".encode()).hexdigest()[:20]


def worded_list(asked: Composed, blend: Blend, mode: Mode, *, name: str, index: VectorIndex) -> WordedList | None:
    """Look words up as a mode asks; None: by the picture alone. `name` names the list. Raises Unavailable."""
    if mode is Mode.PICTURE:
        return None
    if mode is Mode.WORDS:
        return _ByWords(asked, name=name, index=index)
    return _Fused(asked, blend, name=name, index=index)


def exact_hits(words: Sequence[str], hits: Iterable[ScoredPoint]) -> frozenset[PointId]:
    """Name the hits that carry all words asked, where one of these is a code: letters and digits, or a long number."""
    if not _has_code(words):
        return frozenset()
    return frozenset(point.id for point in hits if set(words) <= _words_of(point))


def with_words(match: Match, exact: Sequence[str]) -> Match:
    """Call a code that was found a match in its own right, whatever the picture says; the probability stays its own."""
    if not exact:
        return match
    return replace(match, matched=True, by_words=True, note=f"found by its words ({' '.join(exact)}); {match.note}")


def explain_picture(asset: Asset, cosine: float, text: str | None) -> Explanation:
    """Say the same of a hit in a list of the picture alone."""
    return Explanation(None, Place(None, cosine), None, _matched(_asked_words(text), _carried(asset, {})))


class _Fused:
    """Both: the candidates are put in order when it is made, what is behind them follows by the picture."""

    def __init__(self, asked: Composed, blend: Blend, *, name: str, index: VectorIndex) -> None:
        self._asked, self._name, self._index = asked, name, index
        self._words = _asked_words(asked.text)
        self._lists = lists = _look_up(asked, self._words, index=index)
        exact = exact_hits(self._words, lists.points.values())
        fused = fuse(lists.cosines, lists.scores, by=blend.fusion, weights=blend.weights)
        fused.sort(key=lambda one: one.id not in exact)  # a code is no matter of taste: what carries it comes first
        self._fused = fused
        self._places = {lists.asset(one.id): one for one in fused}
        self._said = {asset_of(point): _words_of(point) for point in lists.points.values()}
        self.head = lists.first[:HEAD]
        self.exact = self._words if exact else ()

    def stretch(self, limit: int, cursor: str | None) -> Stretch:
        shown = Shown(self._name) if cursor is None else decoded(cursor, name=self._name)
        scores = [one.score for one in self._fused]
        worth = [*accumulate(reversed(scores), max)][::-1]  # a code counts no less than what it was put before
        fresh = [
            (self._lists.points[one.id], worth_of)
            for one, worth_of in zip(self._fused, worth, strict=True)
            if not shown.behind and not shown.has(self._lists.asset(one.id))
        ]
        page, left = fresh[:limit], len(fresh) > limit
        points = [point for point, _ in page]
        gains = [gain for _, gain in page]
        shown = shown.with_shown(points)
        if left or (len(page) == limit and self._lists.more):
            return Stretch(points, gains, shown.encode())
        if not self._lists.more and shown.behind is None:
            return Stretch(points, gains, None)
        behind, following = self._behind(shown, limit - len(page))
        return Stretch([*points, *behind], [*gains, *(0.0 for _ in behind)], following, shown.has)

    def _behind(self, shown: Shown, limit: int) -> tuple[list[ScoredPoint], str | None]:
        """Give what comes behind the candidates."""

        def others(count: int) -> list[ScoredPoint]:
            points = self._asked.nearest(count + len(shown.candidates), index=self._index)
            return [point for point in points if not shown.has(asset_of(point))][:count]

        points, more = page_of(others, limit, before=shown.behind)
        self._said |= {asset_of(point): _words_of(point) for point in points}
        if not more:
            return points, None
        behind = cursors.after(points, query=shown.name, before=shown.behind)
        return points, replace(shown, behind=behind).encode() if behind.seen < MAX_LISTED else None

    def explain(self, asset: Asset, cosine: float) -> Explanation:
        one = self._places.get(asset.id)
        matched = _matched(self._words, _carried(asset, self._said))
        if one is None:
            return Explanation(None, Place(None, cosine), None, matched)
        return Explanation(one.score, one.picture, one.words, matched)

    def only(self) -> Filter | None:
        return None


class _ByWords:
    """Words alone: of the pictures that there are when the first page is asked for."""

    def __init__(self, asked: Composed, *, name: str, index: VectorIndex) -> None:
        self._asked, self._name, self._index = asked, name, index
        self._words = _asked_words(asked.text)
        self._places: dict[AssetId, Place] = {}
        self._said: dict[AssetId, set[str]] = {}
        self.head = tuple(asked.nearest(HEAD, index=index))
        first = self._best(HEAD, datetime.now(UTC).isoformat()) if _has_code(self._words) else []
        self.exact = self._words if exact_hits(self._words, first) else ()

    def stretch(self, limit: int, cursor: str | None) -> Stretch:
        before = None if cursor is None else decoded_words(cursor, name=self._name)
        began = datetime.now(UTC).isoformat() if before is None else before.began
        seen = 0 if before is None else before.seen
        found = self._best(seen + limit + 1, began)
        fresh = [point for point in found if before is None or not before.shown(point)]
        now, more = fresh[:limit], len(fresh) > limit and seen + limit < MAX_LISTED
        cosines = {point.id: point for point in points_of(self._asked, map(asset_of, now), index=self._index)}
        there = [point for point in now if point.id in cosines]
        following = WordCursor(self._name, began, now[-1].score, now[-1].id, seen + len(now)) if more else None
        return Stretch(
            [cosines[point.id] for point in there],
            [point.score / found[0].score for point in there],
            following.encode() if following is not None else None,
        )

    def _best(self, limit: int, began: str) -> list[ScoredPoint]:
        """Give the first so many hits, with BM25, and note their places."""
        if not self._words:
            return []
        then = Range("added_at", lte=began)
        own, within = (And((tenant_filter(self._asked.tenant, one), then)) for one in (None, self._asked.filter))
        found = self._index.query_words([WordQuery(self._words, limit, within, own, exact=True)])[0]
        for rank, point in enumerate(found, 1):
            self._places[asset_of(point)] = Place(rank, point.score)
            self._said[asset_of(point)] = _words_of(point)
        return found

    def explain(self, asset: Asset, cosine: float) -> Explanation:  # noqa: ARG002  the list goes by words
        if not self._places:  # a page that its cursor carried
            self._best(ARRANGED, datetime.now(UTC).isoformat())
        matched = _matched(self._words, _carried(asset, self._said))
        return Explanation(None, None, self._places.get(asset.id), matched)

    def only(self) -> Filter | None:
        return _one_of([asset_of(point) for point in self._best(MAX_LISTED, datetime.now(UTC).isoformat())])


def _asked_words(text: str | None) -> tuple[str, ...]:
    return tuple(words_asked(text or ""))[:MAX_WORDS]


def _has_code(words: Sequence[str]) -> bool:
    return any(_is_code(word, alone=len(words) == 1) for word in words)


def _is_code(word: str, *, alone: bool) -> bool:
    digits = sum(letter.isdigit() for letter in word)
    if digits == len(word):
        return digits >= 5 or alone
    return digits > 0 and len(word) >= 4


def _words_of(point: ScoredPoint) -> set[str]:
    return set(str(point.payload.get(WORDS) or "").split())


def _carried(asset: Asset, said: Mapping[AssetId, set[str]]) -> set[str]:
    """Give the words that a picture carries; where its point was not looked at, those of its file names are missing."""
    known = said.get(asset.id)
    return set(words_of(asset, ()).split()) if known is None else known


def _matched(words: Sequence[str], carried: set[str]) -> tuple[str, ...]:
    return tuple(word for word in words if word in carried)


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
        points |= {point.id: point for point in points_of(asked, map(asset_of, unseen), index=index)}
        silent = {point.id for point in found}
        also = [asset_of(point) for point in first if point.id not in silent]
        if also and len(found) >= DEPTH:  # else all that have one of the words are found
            among = And((within, _one_of(also)))
            found += index.query_words([WordQuery(words, len(also), among, own)])[0]
    scores = [(point.id, point.score) for point in found if point.id in points]
    return _Lists(first, len(nearest) > DEPTH, points, scores)


def points_of(asked: Composed, assets: Iterable[AssetId], *, index: VectorIndex) -> list[ScoredPoint]:
    """Give the points of some pictures with their cosines, those that the question lets through."""
    ids = list(assets)
    if not ids:
        return []
    also = _one_of(ids)
    within = also if asked.filter is None else And((asked.filter, also))
    return replace(asked, filter=within).nearest(len(ids), index=index)


def _one_of(assets: Sequence[AssetId]) -> Filter:
    return AnyOf("asset_id", tuple(map(str, assets)))
