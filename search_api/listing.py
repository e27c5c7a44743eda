"""A page of a list: by score, or arranged; each has its own kind of cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from indexer.duplicates import RULE
from phosphene.assemble import Engine
from phosphene.errors import InvalidQuery
from phosphene.filters import And, Equals, Filter, tenant_filter
from phosphene.types import AssetId, TenantId
from phosphene.vectors.base import ScoredPoint, VectorIndex, asset_of
from search_api import arrange, remainder
from search_api import cursor as cursors
from search_api.arrange import ARRANGED, Arrangement, Compared, Entry, arranged
from search_api.cursor import SAME_SCORE, Cursor
from search_api.question import SearchQuery
from search_api.remainder import Remainder
from search_api.rerank import RerankQuestion, reranker_of

MAX_DEPTH = cursors.MAX_SEEN  # hits, those that come in meanwhile too

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
class Stretch:
    """Some hits of a list, best first. `worth`: what each counts for beside the others, as its score, never rising.

    `ahead`: whether a picture was put before these whatever its cosine is.
    """

    points: Sequence[ScoredPoint]
    worth: Sequence[float]
    next_cursor: str | None
    ahead: Callable[[AssetId], bool] = lambda _: False

    @property
    def page(self) -> Page:
        """Show it as it comes."""
        return Page(tuple(map(Entry.of, self.points)), self.next_cursor)


Stretches = Callable[[int, str | None], Stretch]  # gives so many hits of a list, behind a cursor or from the first on
Cosines = Callable[[Sequence[AssetId]], Mapping[AssetId, float]]  # of those pictures that the question lets through


def stretches_by_score(nearest: Nearest, name: str) -> Stretches:
    """Give the list by score; `name` names it in its cursors."""

    def stretch(limit: int, cursor: str | None) -> Stretch:
        before = None if cursor is None else cursors.decode(cursor, query=name)
        points, more = page_of(nearest, limit, before=before)
        return Stretch(points, [point.score for point in points], _behind(points, name, more=more, before=before))

    return stretch


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list. `note` says what could not be done as asked."""

    entries: tuple[Entry, ...]
    next_cursor: str | None
    note: str | None = None


def by_score(points: Sequence[ScoredPoint], question: str, *, more: bool, before: Cursor | None) -> Page:
    """Give a page of a list by score, with the cursor behind it; `before` is the one that led to it."""
    return Page(tuple(map(Entry.of, points)), _behind(points, question, more=more, before=before))


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
    stretches: Stretches,
    cosines: Cosines | None,
    index: VectorIndex,
    engine: Engine,
) -> Page:
    """Put the best hits of a list in order, or go on where that was done; `name` names it. Raises InvalidCursor.

    `cosines`: what the list goes by behind them; None where it does not, and a list without duplicates ends there.
    """
    if query.cursor is not None:
        following = partial(_entries, stretches)
        if how.collapse and cosines is not None:
            following = partial(_unlike, stretches, cosines=cosines, engine=engine, tenant=question.tenant)
        return _next_page(query.cursor, query.limit, name=name, following=following)
    best = stretches(ARRANGED, None)
    points, worth, note = best.points, best.worth, None
    reranker = reranker_of(engine.settings) if how.rerank else None
    if reranker is not None:
        reranked = reranker(question, points, worth)
        points, worth, note = reranked.points, reranked.worth, reranked.note
    entries = arranged(points, worth, how, vectors=index.vectors, known=partial(_known, engine, question.tenant))
    ends = how.group_by is not None or (how.collapse and cosines is None)
    behind = None if ends else best.next_cursor
    page, rest = entries[: query.limit], entries[query.limit :]
    return Page(tuple(page), _cursor(name, tuple(rest), behind), note)


def _known(engine: Engine, tenant: TenantId, assets: Sequence[AssetId]) -> Compared:
    """Give what the catalogue knows of near-duplicates among some pictures."""
    duplicates = engine.catalog.duplicates
    return Compared(duplicates.cluster_of(tenant, assets), duplicates.compared(tenant, assets, rule=RULE))


Following = Callable[[int, str], tuple[tuple[Entry, ...], str | None]]  # so many places behind a cursor, and the next


def _next_page(text: str, limit: int, *, name: str, following: Following) -> Page:
    entries: tuple[Entry, ...] = ()
    behind: str | None = text
    if remainder.is_remainder(text):
        left = remainder.decode(text, query=name)
        entries, behind = left.entries, left.behind
    while len(entries) < limit and behind is not None:  # again where most that follows are duplicates
        more, behind = following(limit, behind)
        entries += more
    page, rest = entries[:limit], entries[limit:]
    return Page(page, _cursor(name, rest, behind))


def _entries(stretches: Stretches, limit: int, cursor: str) -> tuple[tuple[Entry, ...], str | None]:
    """Give a stretch as it comes."""
    page = stretches(limit, cursor).page
    return page.entries, page.next_cursor


def _unlike(
    stretches: Stretches, limit: int, cursor: str, *, cosines: Cosines, engine: Engine, tenant: TenantId
) -> tuple[tuple[Entry, ...], str | None]:
    """Give a stretch without those pictures of which another one of the same cluster comes before it.

    Which one does is told by the cosines of all of the cluster, so that nothing needs to be kept of what was shown.
    """
    stretch = stretches(limit, cursor)
    assets = [asset_of(point) for point in stretch.points]
    duplicates = engine.catalog.duplicates
    cluster_of = duplicates.cluster_of(tenant, assets)
    members = duplicates.members(tenant, sorted(set(cluster_of.values())))
    scores = cosines([one for several in members.values() for one in several]) if members else {}
    entries = []
    for point, asset in zip(stretch.points, assets, strict=True):
        own = scores.get(asset, point.score)
        alike = members[cluster_of[asset]] if asset in cluster_of else []
        others = [one for one in alike if one != asset and one in scores]
        if not any(stretch.ahead(one) or _before(scores[one], one, own, asset) for one in others):
            entries.append(Entry(asset, point.score, folded=len(others)))
    return tuple(entries), stretch.next_cursor


def _before(score: float, one: AssetId, own: float, asset: AssetId) -> bool:
    """Whether one comes before the other; of scores that may be the same the smaller id decides, on every page."""
    return one < asset if abs(score - own) <= SAME_SCORE else score > own


def _cursor(name: str, rest: tuple[Entry, ...], behind: str | None) -> str | None:
    return Remainder(name, rest, behind).encode() if rest else behind


def _behind(points: Sequence[ScoredPoint], name: str, *, more: bool, before: Cursor | None) -> str | None:
    """Give the cursor behind some points of a list by score."""
    if not more:
        return None
    cursor = cursors.after(points, query=name, before=before)
    return cursor.encode() if cursor.seen < MAX_DEPTH else None


def group_count(value: str | int, key: str, *, tenant: TenantId, within: Filter | None, index: VectorIndex) -> int:
    """Count the pictures of a group, of all that the filter lets through."""
    own = Equals(key, value)
    return index.count(tenant_filter(tenant, own if within is None else And((within, own))))
