from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.errors import InvalidCursor
from phosphene.types import AssetId, PointId
from phosphene.vectors.base import ScoredPoint
from search_api import cursor as cursors
from search_api import remainder
from search_api.aim import Scale
from search_api.arrange import Entry
from search_api.compose import join_cursor, split_cursor
from search_api.cursor import MAX_NEAR, MAX_SEEN, SAME_SCORE, Cursor
from search_api.listing import page_of
from search_api.remainder import Remainder
from search_api.word_cursors import Shown, WordCursor, decoded, decoded_words


@dataclass
class ListedIndex:
    """Stands in for an index whose scores are known: a list, sorted; it may waver in the last bits, and among ties."""

    scores: dict[PointId, float]
    waver: random.Random = field(default_factory=lambda: random.Random(0))

    def nearest(self, limit: int) -> list[ScoredPoint]:
        now = [(id_, score + self.waver.uniform(-1e-6, 1e-6)) for id_, score in self.scores.items()]
        self.waver.shuffle(now)
        best = sorted(now, key=lambda one: -one[1])[:limit]
        best.sort(key=lambda one: (-one[1], one[0]))
        return [ScoredPoint(id_, score, {}) for id_, score in best]


def pages(index: ListedIndex, limit: int, additions: list[dict[PointId, float]]) -> list[list[PointId]]:
    found = []
    before: Cursor | None = None
    while True:
        points, more = page_of(index.nearest, limit, before=before)
        found.append([point.id for point in points])
        if not more:
            return found
        assert len(found) * limit <= len(index.scores), "more pages than there are points: they would never end"
        before = cursors.decode(cursors.after(points, query="q", before=before).encode(), query="q")
        if additions:
            index.scores |= additions.pop()


ids = st.uuids(version=4).map(PointId)
scores = st.one_of(
    st.sampled_from([0.1, 0.2, 0.2 + SAME_SCORE / 2, 0.2 - SAME_SCORE, 0.3]), st.floats(-1, 1, allow_nan=False)
)
catalogues = st.dictionaries(ids, scores, max_size=40)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(first=catalogues, additions=st.lists(catalogues, max_size=4), limit=st.integers(1, 9), seed=st.integers(0, 99))
def test_pages_miss_nothing_and_repeat_nothing_while_pictures_come_in(
    first: dict[PointId, float], additions: list[dict[PointId, float]], limit: int, seed: int
) -> None:
    known = dict(first)
    fresh = [{id_: score for id_, score in more.items() if id_ not in known} for more in additions]
    seen = [id_ for page in pages(ListedIndex(known, random.Random(seed)), limit, fresh) for id_ in page]
    assert len(seen) == len(set(seen))
    assert set(first) <= set(seen)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(first=catalogues, limit=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
def test_pages_miss_nothing_and_repeat_nothing_while_pictures_are_deleted(
    first: dict[PointId, float], limit: int, seed: int, data: st.DataObject
) -> None:
    deleted = set(data.draw(st.lists(st.sampled_from(sorted(first)), unique=True))) if first else set()
    index = ListedIndex(dict(first), random.Random(seed))
    left, seen = sorted(deleted), []
    before: Cursor | None = None
    more = True
    while more:
        points, more = page_of(index.nearest, limit, before=before)
        seen += [point.id for point in points]
        if more:
            before = cursors.after(points, query="q", before=before)
        for id_ in left[:2]:
            del index.scores[id_]
        left = left[2:]
    assert len(seen) == len(set(seen))
    assert set(first) - deleted <= set(seen)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(catalogue=catalogues, limit=st.integers(1, 9))
def test_pages_are_the_whole_list_in_order(catalogue: dict[PointId, float], limit: int) -> None:
    found = pages(ListedIndex(dict(catalogue)), limit, [])
    assert all(len(page) == limit for page in found[:-1])
    in_order = [catalogue[id_] for page in found for id_ in page]
    assert all(a >= b - SAME_SCORE for a, b in pairwise(in_order))


def test_a_thousand_equal_scores_are_paged_through() -> None:
    same = {PointId(UUID(int=i)): 0.5 for i in range(1000)}

    class Steady(ListedIndex):
        def nearest(self, limit: int) -> list[ScoredPoint]:
            return [ScoredPoint(id_, 0.5, {}) for id_ in sorted(self.scores)[:limit]]

    seen = [id_ for page in pages(Steady(same), 100, []) for id_ in page]
    assert seen == sorted(same)
    assert len(same) > 3 * MAX_NEAR


def cursor_of(fields: Any) -> str:  # noqa: ANN401  JSON
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


NONE_OF_OURS = {
    "empty": "",
    "no base64": "%%%",
    "no json": base64.urlsafe_b64encode(b"hello").decode(),
    "too few": cursor_of(["q", 0.5]),
    "an object": cursor_of({"q": 1}),
    "no id": cursor_of(["q", 0.5, "zz", 1, []]),
    "NaN": cursor_of(["q", float("nan"), UUID(int=1).hex, 1, []]),
    "infinite": cursor_of(["q", float("inf"), UUID(int=1).hex, 1, []]),
    "huge": cursor_of(["q", 0.5, UUID(int=1).hex, 10**30, []]),
    "negative": cursor_of(["q", 0.5, UUID(int=1).hex, -5, []]),
    "farther than any page": cursor_of(["q", 0.5, UUID(int=1).hex, MAX_SEEN + 1, []]),
    "many": cursor_of(["q", 0.5, UUID(int=1).hex, 5, [str(i) for i in range(MAX_NEAR + 1)]]),
    "deep": base64.urlsafe_b64encode(b"[" * 9000).decode(),
    "long": "A" * 100_000,
}


@pytest.mark.parametrize("text", NONE_OF_OURS.values(), ids=NONE_OF_OURS.keys())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor, match="none of ours"):
        cursors.decode(text, query="q")


def test_endless_numbers_before_a_cursor_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(split_cursor(cursor_of([[0.1234, 0.2345]] * 256) + ".rest")[0]) == 256
    endless = cursor_of([[0, 1]] * 10_000) + ".rest"

    def read(*_: object) -> None:
        raise AssertionError("half a minute for 32 MB")

    monkeypatch.setattr(json, "loads", read)
    with pytest.raises(InvalidCursor, match="none of ours"):
        split_cursor(endless)


def test_a_cursor_of_another_question_is_refused() -> None:
    point = ScoredPoint(PointId(UUID(int=1)), 0.5, {})
    text = cursors.after([point], query="cats", before=None).encode()
    assert cursors.decode(text, query="cats").shown(point)
    with pytest.raises(InvalidCursor, match="another question"):
        cursors.decode(text, query="dogs")


plain_cursors = st.builds(
    lambda id_, score, seen: Cursor("q", score, id_, seen, frozenset([id_.hex[-12:]])),
    ids,
    st.floats(-1, 1),
    st.integers(1, 10_000),
)
entries = st.builds(Entry, ids.map(AssetId), st.floats(-1, 1, width=32))
of_each_kind = st.fixed_dictionaries(
    {
        "by score": plain_cursors,
        "arranged": st.builds(
            lambda listed, behind: Remainder("q", tuple(listed), behind),
            st.lists(entries, max_size=5),
            st.none() | plain_cursors.map(Cursor.encode),
        ),
        "of both": st.builds(
            lambda shown, behind: Shown("q", shown, behind),
            st.frozensets(st.binary(min_size=5, max_size=5), max_size=5),
            st.none() | plain_cursors,
        ),
        "of words": st.builds(
            lambda id_, score: WordCursor("q", "2026-11-23T12:00:00Z", score, id_, 10),
            ids,
            st.floats(0.001, 100),
        ),
    }
)
READERS: dict[str, Callable[[str], Any]] = {
    "by score": lambda text: cursors.decode(text, query="q"),
    "arranged": lambda text: remainder.decode(text, query="q"),
    "of both": lambda text: decoded(text, name="q"),
    "of words": lambda text: decoded_words(text, name="q"),
}
scales = st.lists(st.builds(Scale, st.floats(-1, 1), st.floats(1e-6, 1)), max_size=3).map(tuple)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(written=of_each_kind, carried=scales)
def test_a_cursor_of_one_kind_is_never_taken_for_one_of_another(
    written: dict[str, Any], carried: tuple[Scale, ...]
) -> None:
    for kind, cursor in written.items():
        told, text = split_cursor(join_cursor(carried, cursor.encode()))
        assert text is not None
        assert (told, text) == (carried, cursor.encode())
        assert READERS[kind](text) == cursor
        for other, read in READERS.items():
            strange = [text] if other != kind else []
            strange += [join_cursor(carried, text)] if carried else []
            for one in strange:
                with pytest.raises(InvalidCursor):
                    read(one)
