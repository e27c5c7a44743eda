"""Lists of made points: order, groups, cursors, edges of ranges."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pagination import add, made, walk
from phosphene.errors import InvalidCursor, InvalidQuery
from phosphene.types import AssetId, Float32, PixelSpec, PointId, Sha256, Space
from phosphene.vectors.base import Payload, ScoredPoint
from phosphene.vectors.edge import EdgeIndex
from search_api import remainder
from search_api.arrange import ARRANGED, NEAR_DUPLICATE, NEAR_DUPLICATES, Arrangement, Compared, Entry, arranged, spread
from search_api.facets import _date, _number, date_edges, number_edges
from search_api.remainder import Remainder

SPACE = Space("made", 32, Sha256("0" * 64), PixelSpec(32))


def test_ten_thousand_hits_are_walked_while_pictures_come_in(tmp_path: Path) -> None:
    index = EdgeIndex.open(tmp_path / "index", SPACE, profile="flat")
    add(index, [PointId(UUID(int=one + 1)) for one in range(11_000)], made(11_000, SPACE, seed=3))
    vector = np.asarray(made(1, SPACE, seed=1).unit().rows[0])
    done = walk(index, vector, limit=500, added_between=40)
    index.close()
    assert len(done.first_list) == 10_000
    assert done.came_in > 500
    assert done.repeated == 0
    assert done.missed == 0


def rows_of(seed: int, count: int, *, copies: int = 0) -> Float32:
    """(count, 16) of length 1; the last `copies` nearly equal the first ones."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 16))
    if copies:
        rows[-copies:] = rows[:copies] + 0.01 * random.normal(size=(copies, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def points_of(rows: Float32, payloads: Sequence[Payload] | None = None) -> tuple[list[ScoredPoint], list[float]]:
    scores = np.linspace(0.9, 0.1, len(rows)).tolist()
    said = payloads if payloads is not None else [{}] * len(rows)
    points = [
        ScoredPoint(PointId(UUID(int=place)), score, {**payload, "asset_id": str(UUID(int=place))})
        for place, (score, payload) in enumerate(zip(scores, said, strict=True))
    ]
    return points, scores


def order_of(entries: Sequence[Entry]) -> list[int]:
    return [entry.asset.int for entry in entries]


NOTHING = Compared()


def arrange(
    rows: Float32, how: Arrangement, payloads: Sequence[Payload] | None = None, known: Compared = NOTHING
) -> list[Entry]:
    points, worth = points_of(rows, payloads)
    return arranged(points, worth, how, vectors=lambda ids: {id_: rows[id_.int] for id_ in ids}, known=lambda _: known)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 40), st.floats(0, 1))
def test_diversity_only_reorders_and_none_of_it_leaves_the_order(seed: int, count: int, diversity: float) -> None:
    rows = rows_of(seed, count)
    scores = np.linspace(0.4, 0.2, count).tolist()
    assert sorted(spread(scores, rows, diversity)) == list(range(count))
    assert spread(scores, rows, 0.0) == list(range(count))
    if count:
        assert spread(scores, rows, diversity)[0] == 0


def test_more_diversity_brings_what_is_unlike_to_the_front() -> None:
    rows = np.repeat(rows_of(1, 4), 5, axis=0)  # four kinds of pictures, five nearly equal ones of each, kind by kind
    rows += np.asarray(0.01 * np.random.default_rng(2).normal(size=rows.shape), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kinds = {
        diversity: len({place // 5 for place in order_of(arrange(rows, Arrangement(diversity=diversity)))[:4]})
        for diversity in (0.0, 0.5, 1.0)
    }
    assert kinds == {0.0: 1, 0.5: kinds[0.5], 1.0: 4}
    assert kinds[0.5] > 1


def test_duplicates_fold_into_the_best_of_them() -> None:
    rows = rows_of(3, 20, copies=6)
    cosines = rows @ rows.T
    assert (np.diag(cosines[:6, -6:]) > NEAR_DUPLICATE).all()
    entries = arrange(rows, Arrangement(collapse=True))
    assert order_of(entries) == list(range(14))
    assert [entry.folded for entry in entries] == [1] * 6 + [0] * 8
    grouped = arrange(rows, Arrangement(group_by=NEAR_DUPLICATES))
    assert order_of(grouped) == list(range(14))
    assert [[other.int for other, _ in entry.others] for entry in grouped[:7]] == [[14 + one] for one in range(6)] + [
        []
    ]


def test_clusters_tell_duplicates_and_the_cosine_only_what_was_not_compared() -> None:
    rows = rows_of(3, 8, copies=4)  # 4 to 7 are near 0 to 3
    ids = [AssetId(UUID(int=place)) for place in range(8)]
    cluster, other = UUID(int=70), UUID(int=71)
    known = Compared({ids[0]: cluster, ids[5]: cluster, ids[2]: other, ids[7]: other}, set(ids) - {ids[6], ids[3]})
    entries = arrange(rows, Arrangement(collapse=True), known=known)
    # 5 is of the cluster of 0; 4 was compared with 0 and is another; 6 and 3 were not: 6 is near 2, and 7 near 3,
    # but 7 is of the cluster of 2
    assert order_of(entries) == [0, 1, 2, 3, 4]
    assert [(one.folded, one.by_cosine) for one in entries] == [(1, 0), (0, 0), (2, 1), (0, 0), (0, 0)]
    grouped = arrange(rows, Arrangement(group_by=NEAR_DUPLICATES, group_size=2), known=known)
    assert [(one.asset.int, [other.int for other, _ in one.others], one.folded, one.by_cosine) for one in grouped] == [
        (0, [5], 0, 0),
        (1, [], 0, 0),
        (2, [6], 1, 1),
        (3, [], 0, 0),
        (4, [], 0, 0),
    ]


def test_groups_stand_where_their_best_hit_stands_and_hold_the_next_ones() -> None:
    said: list[Payload] = [
        {"by": "ann", "keywords": ["sea", "sky"]},
        {"by": "bob"},
        {"by": "ann", "keywords": ["sky"]},
        {},
        {"by": "ann", "keywords": ["sea"]},
        {"by": "ann", "keywords": []},
        {},
    ]
    rows = rows_of(5, len(said))
    entries = arrange(rows, Arrangement(group_by="by", group_size=3), said)
    assert [(one.asset.int, one.value, [other.int for other, _ in one.others]) for one in entries] == [
        (0, "ann", [2, 4]),
        (1, "bob", []),
        (3, None, []),
        (6, None, []),
    ]
    by_first_keyword = arrange(rows, Arrangement(group_by="keywords"), said)
    assert [one.value for one in by_first_keyword] == ["sea", None, "sky", None, None, None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"diversity": 1.5},
        {"diversity": float("nan")},
        {"group_size": 0},
        {"collapse": True, "group_by": NEAR_DUPLICATES},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        Arrangement(**wrong)


hits = st.tuples(st.uuids().map(AssetId), st.floats(-1, 1, width=32))
entries_of = st.builds(
    lambda hit, others, value, folded: Entry(hit[0], hit[1], tuple(others), value, folded, folded // 2),
    hits,
    st.lists(hits, max_size=3),
    st.none() | st.text(max_size=8) | st.integers(-(2**40), 2**40),
    st.integers(0, 99),
)


@given(st.lists(entries_of, max_size=30))
def test_what_is_left_is_read_from_what_it_is_written_as(entries: list[Entry]) -> None:
    left = Remainder("q", tuple(entries), None)
    assert remainder.decode(left.encode(), query="q") == left


def test_the_cursor_of_a_full_list_stays_short() -> None:
    entries = tuple(Entry(AssetId(UUID(int=one * 7**40 % 2**128)), 0.1) for one in range(ARRANGED))
    assert len(Remainder("q" * 20, entries, None).encode()) < 16_384


def packed(header: Any, body: bytes = b"") -> str:  # noqa: ANN401  JSON
    said = json.dumps(header).encode()
    data = zlib.compress(len(said).to_bytes(4, "little") + said + body)
    return "L~" + base64.urlsafe_b64encode(data).decode().rstrip("=")


PICTURE = b"\0" * 16 + b"\0\0\0\x3f"
HOSTILE = {
    "empty": "L~",
    "no base64": "L~%%%",
    "no zlib": "L~aGVsbG8",
    "a bomb": "L~" + base64.urlsafe_b64encode(zlib.compress(b"\0" * 50_000_000)).decode(),
    "no list": packed({"q": 1}),
    "too few pictures": packed(["q", None, [[0, None, 0, 0], [0, None, 0, 0]]], PICTURE),
    "too many pictures": packed(["q", None, []], PICTURE),
    "half a picture": packed(["q", None, [[0, None, 0, 0]]], PICTURE[:9]),
    "too many entries": packed(["q", None, [[0, None, 0, 0]] * (ARRANGED + 1)], PICTURE * (ARRANGED + 1)),
    "negative": packed(["q", None, [[-1, None, 0, 0], [1, None, 0, 0]]], PICTURE),
    "an object for a value": packed(["q", None, [[0, {}, 0, 0]]], PICTURE),
    "more guessed than there are": packed(["q", None, [[0, None, 0, 501]]], PICTURE),
    "of another shape": packed(["q", None, [[0, None, 0]]], PICTURE),
    "NaN": packed(["q", None, [[0, None, 0, 0]]], b"\0" * 16 + b"\0\0\xc0\x7f"),
    "a number behind": packed(["q", 7, [[0, None, 0, 0]]], PICTURE),
    "long": "L~" + "A" * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor, match="none of ours"):
        remainder.decode(text, query="q")


def test_a_cursor_of_another_list_is_refused() -> None:
    text = Remainder("cats by creator", (Entry(AssetId(UUID(int=1)), 0.5),), None).encode()
    with pytest.raises(InvalidCursor, match="another question"):
        remainder.decode(text, query="cats")


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.integers(1, 30), st.booleans())
def test_ranges_of_numbers_hold_all_of_them(low: float, length: float, limit: int, whole: bool) -> None:  # noqa: FBT001
    low, high = (float(int(low)), float(int(low + length))) if whole else (low, low + length)
    edges = number_edges(low, high, limit, whole=whole)
    assert edges[0] <= low
    assert edges[-1] > high
    assert len(edges) - 1 <= limit
    assert all(a < b for a, b in pairwise(edges))


def test_ranges_of_numbers_are_round() -> None:
    assert number_edges(2004, 2007, 12, whole=True) == [2004, 2005, 2006, 2007, 2008]
    assert number_edges(1893, 2007, 6, whole=True) == [1850, 1900, 1950, 2000, 2050]
    assert number_edges(0.1, 0.4, 4, whole=False) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert number_edges(700, 900_000, 12, whole=True) == [500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6]
    assert number_edges(700, 900_000, 5, whole=True) == [100, 1e3, 1e4, 1e5, 1e6]
    assert len(number_edges(312.169147194205, 312.16914719420527, 10, whole=False)) == 2  # no finer than floats are
    assert number_edges(5, 5, 12, whole=True) == [5, 6]


SECONDS = st.integers(-60_000_000_000, 250_000_000_000).map(float)  # the years 68 to 9892


@given(SECONDS, SECONDS, st.integers(1, 30))
def test_ranges_of_dates_hold_all_of_them(one: float, two: float, limit: int) -> None:
    low, high = sorted((one, two))
    edges = date_edges(low, high, limit)
    assert edges[0] <= low
    assert edges[-1] > high
    assert len(edges) - 1 <= max(limit, 1)
    assert all(a < b for a, b in pairwise(edges))


def days(*dates: str) -> Iterator[float]:
    return (np.datetime64(date, "s").astype(float) for date in dates)


def test_ranges_of_dates_begin_with_days_months_and_years() -> None:
    low, high = days("2024-01-30", "2024-02-02")
    assert date_edges(low, high, 12) == list(
        days(*(f"2024-{day}" for day in ("01-30", "01-31", "02-01", "02-02", "02-03")))
    )
    low, high = days("2024-01-30", "2024-04-02")
    assert date_edges(low, high, 6) == list(days("2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01", "2024-05-01"))
    low, high = days("2004-07-01", "2007-03-01")
    assert date_edges(low, high, 6) == list(days("2004-01-01", "2005-01-01", "2006-01-01", "2007-01-01", "2008-01-01"))


@pytest.mark.parametrize("limit", [1, 12, 100])
def test_ranges_stop_where_numbers_and_the_calendar_end(limit: int) -> None:
    for low, high in ((1.0, 1.7e308), (-1.7e308, 1.7e308), (1e-300, 1e308), (0.0, 5e-324)):
        edges = number_edges(low, high, limit, whole=False)
        assert edges == sorted(edges)
        assert edges[-1] > min(high, 9e299)
    for first, last in (
        ("0001-01-01", "9999-12-31"),
        ("2020-01-01", "9999-12-31"),
        ("9999-12-31", "9999-12-31T23:59:30"),
    ):
        dates = [_date(edge) for edge in date_edges(_number(first), _number(last), limit)]
        assert dates == sorted(dates)
        assert dates[-1] > last
