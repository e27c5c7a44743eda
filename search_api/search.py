"""The search itself: a question becomes an embedding, its nearest points, and the assets they stand for.

text, picture, asset or vector -> unit embedding -> points of the tenant, nearest first -> rows of the catalogue; and
whether the first of them is a match at all. Where it is none, and the question says so, pictures are searched once more
with what the generator's prior expects a text to look like.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Literal

from phosphene import metrics, tracing
from phosphene.assemble import Engine
from phosphene.catalog.records import Asset
from phosphene.errors import InvalidCursor, InvalidInput, InvalidQuery, Overloaded, SpaceMismatch
from phosphene.generation.retrieve import towards
from phosphene.nomatch.decision import Match, Question
from phosphene.nomatch.evidence import HEAD
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, SpaceId, TenantId
from phosphene.vectors.base import ScoredPoint, asset_of
from phosphene.words.fusion import Mode
from search_api import cursor as cursors
from search_api.arrange import Entry
from search_api.compose import compose, split_cursor
from search_api.cursor import Cursor
from search_api.facets import Facet, checked_facets, count_facets
from search_api.hybrid import Explanation, list_name, mode_of, with_words
from search_api.listed import Listed
from search_api.listing import (
    Nearest,
    Page,
    arranged_page,
    arrangement_of,
    by_score,
    group_count,
    page_of,
)
from search_api.question import SearchQuery
from search_api.rerank import RerankQuestion

__all__ = ["Hit", "SearchAnswer", "SearchQuery", "Timing", "run_search"]


@dataclass(frozen=True, slots=True)
class Group:
    """What hits were grouped by, where they were: its value, and the other hits of the group, best first.

    `pictures` has the value, of all that the question lets through; None where the group has no value.
    """

    value: str | int | None
    pictures: int | None
    others: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that was found; score is its cosine with what was searched with, -1..1.

    Found by the prior: the text by itself has not shown it by this place of its list. `folded` counts the duplicates
    that it stands for; of these, and of a group of duplicates, `by_cosine` are told by the cosine alone.
    """

    asset: Asset
    score: float
    found_by: Literal["search", "prior"] = "search"
    group: Group | None = None
    folded: int = 0
    by_cosine: int = 0
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a search spent; embed includes decoding of a picture, and the prior."""

    embed: float
    vectors: float
    catalogue: float
    match: float
    total: float


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits, best first; next_cursor leads to those after them. `match` is of the question: the same on every page.

    All of it is of one space.
    """

    space: SpaceId
    hits: tuple[Hit, ...]
    match: Match
    next_cursor: str | None
    timing_ms: Timing
    facets: tuple[Facet, ...] = ()
    note: str | None = None  # what could not be done as asked
    mode: Mode = Mode.PICTURE  # what the question was compared with


def run_search(query: SearchQuery, *, engine: Engine, tenant: TenantId) -> SearchAnswer:
    """Answer a question from the pictures of a tenant.

    A page can be shorter than the limit where pictures were deleted meanwhile; next_cursor tells whether it goes on.
    All of an answer comes from one space. While the model is being changed, a cursor goes on in the space that it came
    from. Raises InvalidQuery, InvalidCursor, PictureError, NotFound (asset_id), Unavailable, and SpaceMismatch where
    the question, or a vector in it, names another space; with prior_search also ModelError, and SpaceMismatch where
    there is no generator of the catalogue's CLIP space.
    """
    with engine.answering() as space:
        try:
            return _answer(query, space, engine=engine, tenant=tenant)
        except (InvalidQuery, SpaceMismatch) as error:  # as a vector of the other space
            if query.cursor is None:
                raise
            refused: InvalidInput = error
        except InvalidCursor as error:
            refused = error
    for other in engine.written():
        if other is not space:
            with (
                engine.spaces.while_open(other) as there,
                contextlib.suppress(InvalidCursor, InvalidQuery, SpaceMismatch),
            ):
                if there:
                    return _answer(query, other, engine=engine, tenant=tenant)
    raise refused


def _answer(query: SearchQuery, space: OpenSpace, *, engine: Engine, tenant: TenantId) -> SearchAnswer:
    watch = _Stopwatch()
    how = arrangement_of(query, engine=engine, tenant=tenant)
    wanted = checked_facets(query.facets, engine.fields(tenant)) if query.facets else []
    carried, cursor = split_cursor(query.cursor)
    query = replace(query, cursor=cursor)
    asked = compose(query, space=space, engine=engine, tenant=tenant, carried=carried)
    watch.lap("embed")

    mode = mode_of(query.blend, asked, index=space.index, pictures_only=query.prior_search)
    question = how.names(list_name(query.blend, mode, asked.fingerprint))
    listed = Listed.of(asked, query.blend, mode, name=question, index=space.index)
    before, by_prior = _cursor(query, question) if how.plain and listed.worded is None else (None, False)
    if how.plain and listed.worded is None:
        shown = None if by_prior else before
        page, head = _first_and_page(listed.nearest, query.limit, before=shown, question=question)
    elif how.plain:
        page, head = listed.stretches(query.limit, query.cursor).page, listed.head()
    else:
        about = RerankQuestion(tenant, asked.text, asked.embedding.rows[0])
        page = arranged_page(
            query,
            how,
            question=about,
            name=question,
            stretches=listed.stretches,
            cosines=None if mode is Mode.WORDS else listed.cosines,
            index=space.index,
            engine=engine,
        )
        head = listed.head()
    facets = count_facets(wanted, within=asked.filter, tenant=tenant, index=space.index, of=listed)
    watch.lap("vectors")
    vector, judged = asked.judged(head, index=space.index)
    match = space.judge.judge(
        Question(
            tenant,
            vector,
            asked.modality,
            judged,
            asked.filter,
            left_out=asked.left_out,
            composed=asked.kind == "composed",
        )
    )
    match = with_words(match, listed.worded.exact) if listed.worded is not None else match
    watch.lap("match")

    expected: frozenset[AssetId] | None = None  # what the text by itself shows by this place, where the prior searches
    if asked.text is not None and (by_prior or (query.prior_search and before is None and head and not match.matched)):
        try:
            mixed = towards(asked.embedding, space.predictor.predict(asked.text))
        except Overloaded as error:
            if by_prior:
                raise  # the page before was of a list that can't be gone on with now
            match = replace(match, note=f"{match.note}; not searched by the prior: {error}")
        else:
            watch.lap("embed")
            question = _by_prior(question)
            by_mixed = partial(asked.instead(mixed).nearest, index=space.index)
            page, expected = _expected(
                by_mixed, own=listed.nearest, limit=query.limit, before=before, question=question
            )
            match = replace(
                match, note=f"{match.note}; this is of the text by itself, hits of the prior are not judged"
            )
            watch.lap("vectors")

    hits = _hits(page.entries, how.group_by, expected, listed=listed, engine=engine)
    if query.explain:
        hits = tuple(replace(hit, explanation=listed.explain(hit.asset, hit.score)) for hit in hits)
    watch.lap("catalogue")
    watch.tell()
    metrics.SEARCHES.labels(asked.kind, "yes" if match.matched else "no").inc()
    return SearchAnswer(
        space=space.space.id,
        hits=hits,
        match=match,
        next_cursor=asked.carry(page.next_cursor) if page.next_cursor is not None else None,
        timing_ms=watch.timing(),
        facets=facets,
        note=page.note,
        mode=mode,
    )


def _hits(
    entries: Sequence[Entry],
    group_by: str | None,
    expected: frozenset[AssetId] | None,
    *,
    listed: Listed,
    engine: Engine,
) -> tuple[Hit, ...]:
    """Look up the pictures; one that was deleted meanwhile is left out, and what was grouped under it moves up."""
    tenant, asked = listed.asked.tenant, listed.asked.filter
    within = listed.let_in(asked)[0] if any(entry.value is not None for entry in entries) else None
    wanted = [asset for entry in entries for asset in (entry.asset, *(other for other, _ in entry.others))]
    assets = engine.catalog.assets(tenant, wanted) if wanted else {}
    hits = []
    for entry in entries:
        found = [(assets[id_], score) for id_, score in ((entry.asset, entry.score), *entry.others) if id_ in assets]
        if not found:
            continue
        (first, score), *others = found
        by_prior = expected is not None and first.id not in expected
        group = None
        if group_by is not None:
            pictures = None
            if entry.value is not None:
                pictures = group_count(entry.value, group_by, tenant=tenant, within=within, index=listed.index)
            group = Group(entry.value, pictures, tuple(Hit(asset, below) for asset, below in others))
        hits.append(Hit(first, score, "prior" if by_prior else "search", group, entry.folded, entry.by_cosine))
    return tuple(hits)


def _first_and_page(
    nearest: Nearest, limit: int, *, before: Cursor | None, question: str
) -> tuple[Page, list[ScoredPoint]]:
    """Give the page, and the first hits of all (HEAD, whatever the page)."""
    head, more = page_of(nearest, max(limit, HEAD), before=None)
    if before is None:
        return by_score(head[:limit], question, more=more or len(head) > limit, before=None), head[:HEAD]
    points, more = page_of(nearest, limit, before=before)
    return by_score(points, question, more=more, before=before), head[:HEAD]


def _expected(
    nearest: Nearest, *, own: Nearest, limit: int, before: Cursor | None, question: str
) -> tuple[Page, frozenset[AssetId]]:
    """Give a page of what the prior expects, and what the question's own list shows by the end of that page."""
    points, more = page_of(nearest, limit, before=before)
    shown = len(points) + (before.seen if before is not None else 0)
    expected = frozenset(map(asset_of, own(shown))) if shown else frozenset()
    return by_score(points, question, more=more, before=before), expected


def _cursor(query: SearchQuery, question: str) -> tuple[Cursor | None, bool]:
    """Read the cursor, and whether it goes on with a list of the prior: that was decided on the first page."""
    if query.cursor is None:
        return None, False
    if query.prior_search:
        with contextlib.suppress(InvalidCursor):
            return cursors.decode(query.cursor, query=_by_prior(question)), True
    return cursors.decode(query.cursor, query=question), False


def _by_prior(question: str) -> str:
    """Name the list that the prior finds for a question."""
    return hashlib.sha256(f"prior {question}".encode()).hexdigest()[:20]


class _Stopwatch:
    """Adds up what each part of a search takes."""

    def __init__(self) -> None:
        self._start = self._last = perf_counter()
        self._spent = dict.fromkeys(("embed", "vectors", "catalogue", "match"), 0.0)

    def lap(self, part: str) -> None:
        now = perf_counter()
        tracing.past_span(f"search.{part}", now - self._last)
        self._spent[part] += now - self._last
        self._last = now

    def tell(self) -> None:
        for part, seconds in self._spent.items():
            metrics.SEARCH_STAGES.labels(part).observe(seconds)

    def timing(self) -> Timing:
        spent = {part: round(1000 * seconds, 3) for part, seconds in self._spent.items()}
        return Timing(**spent, total=round(1000 * (perf_counter() - self._start), 3))
