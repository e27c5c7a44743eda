"""A page of a list: by score, or arranged; each has its own kind of cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from phosphene.assemble import Engine
from phosphene.errors import InvalidQuery
from phosphene.filters import And, Equals, Filter, tenant_filter
from phosphene.nomatch.evidence import HEAD
from phosphene.types import TenantId
from phosphene.vectors.base import ScoredPoint, VectorIndex
from search_api import arrange, remainder
from search_api import cursor as cursors
from search_api.arrange import ARRANGED, Arrangement, Entry, arranged
from search_api.cursor import Cursor
from search_api.question import SearchQuery
from search_api.remainder import Remainder
from search_api.rerank import RerankQuestion, reranker_of

MAX_DEPTH = 20_000  # hits that can be paged through, those that come in meanwhile too; narrow the question beyond

Nearest = Callable[[int], list[ScoredPoint]]  # gives the best so many, best first; fewer: there are no more


def page_of(nearest: Nearest, limit: int, *, before: Cursor | None) -> tuple[list[ScoredPoint], bool]:
    """Give the points behind a cursor, and whether there are more of them."""
    fetch = limit + 1 + (before.seen if before else 0)
    while True:
        points = nearest(fetch)
        fresh = [point for point in points if before is None or not before.shown(point)]
        if len(fresh) > limit or len(points) < fetch or fetch >= 2 * MAX_DEPTH:
            return fresh[:limit], len(fresh) > limit
        fetch *= 2  # pictures came in since the first page


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list. `note` says what could not be done as asked."""

    entries: tuple[Entry, ...]
    next_cursor: str | None
    note: str | None = None


def by_score(points: Sequence[ScoredPoint], question: str, *, more: bool, before: Cursor | None) -> Page:
    """Give a page of a list by score, with the cursor behind it; `before` is the one that led to it."""
    following = cursors.after(points, query=question, before=before) if more else None
    return Page(tuple(map(Entry.of, points)), _cursor(question, (), following))


def arrangement_of(query: SearchQuery, *, engine: Engine, tenant: TenantId) -> Arrangement:
    """Hold what is asked against the tenant's fields and the deployment's hook. Raises InvalidQuery."""
    asked = query.arrangement
    configured = engine.settings.rerank is not None and not query.prior_search
    if asked.rerank and not configured:
        raise InvalidQuery("rerank: this deployment has no hook for it; PHOSPHENE_RERANK names one")
    how = replace(asked, rerank=configured if asked.rerank is None else asked.rerank)
    return arrange.checked(how, engine.fields(tenant)) if how.group_by is not None else how


def arranged_page(
    query: SearchQuery,
    how: Arrangement,
    *,
    question: RerankQuestion,
    name: str,
    nearest: Nearest,
    index: VectorIndex,
    engine: Engine,
) -> tuple[Page, list[ScoredPoint]]:
    """Put the best hits in order, or go on with a list that was; `name` names the list. Raises InvalidCursor.

    Gives also the first hits by score (HEAD, whatever the page).
    """
    if query.cursor is not None:
        return _next_page(query.cursor, query.limit, name=name, nearest=nearest), nearest(HEAD)
    pool = nearest(ARRANGED + 1)
    points, worth, note = pool[:ARRANGED], [point.score for point in pool[:ARRANGED]], None
    reranker = reranker_of(engine.settings) if how.rerank else None
    if reranker is not None:
        reranked = reranker(question, points)
        points, worth, note = reranked.points, reranked.worth, reranked.note
    entries = arranged(points, worth, how, vectors=index.vectors)
    behind = None
    if len(pool) > ARRANGED and not how.shortens:
        behind = cursors.after(pool[:ARRANGED], query=name, before=None)
    page, rest = entries[: query.limit], entries[query.limit :]
    return Page(tuple(page), _cursor(name, tuple(rest), behind), note), pool[:HEAD]


def _next_page(text: str, limit: int, *, name: str, nearest: Nearest) -> Page:
    if remainder.is_remainder(text):
        left = remainder.decode(text, query=name)
        entries, behind = left.entries, left.behind
    else:
        entries, behind = (), cursors.decode(text, query=name)
    page, rest = entries[:limit], entries[limit:]
    if len(page) < limit and behind is not None:
        points, more = page_of(nearest, limit - len(page), before=behind)
        page += tuple(map(Entry.of, points))
        behind = cursors.after(points, query=name, before=behind) if more else None
    return Page(page, _cursor(name, rest, behind))


def _cursor(name: str, rest: tuple[Entry, ...], behind: Cursor | None) -> str | None:
    if rest:
        return Remainder(name, rest, behind).encode()
    return behind.encode() if behind is not None and behind.seen < MAX_DEPTH else None


def group_count(value: str | int, key: str, *, tenant: TenantId, within: Filter | None, index: VectorIndex) -> int:
    """Count the pictures of a group, of all that the filter lets through."""
    own = Equals(key, value)
    return index.count(tenant_filter(tenant, own if within is None else And((within, own))))
