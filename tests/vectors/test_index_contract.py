"""What every vector index does, embedded or on a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from phosphene.errors import InvalidFilter, InvalidInput, InvalidQuery, NotFound, SpaceMismatch
from phosphene.filters import And, AnyOf, Equals, Exists, Filter, Not, Or, Range
from phosphene.types import Field, FieldKind, Float32, PointId, Space, UnitEmbeddings
from phosphene.vectors.base import Payload, PayloadValue, ScoredPoint, VectorIndex
from phosphene.vectors.conditions import stored_place
from phosphene.vectors.similar import best_groups, mean_direction, similar_to_all, similar_to_each
from tests.vectors.conftest import Opener
from tests.vectors.made import ask, comparable, embeddings, matches, nearest_by_numpy, numbered, payloads

COUNT = 600


def fill(index: VectorIndex, count: int = COUNT) -> tuple[list[PointId], Float32, list[Payload]]:
    ids, made, said = numbered(count), embeddings(count, space=index.space), payloads(count)
    index.upsert(ids, made, said)
    return ids, made.rows, said


def numbers(points: Sequence[ScoredPoint]) -> list[int]:
    return [point.id.int for point in points]


def stored(payload: Payload) -> dict[str, PayloadValue]:
    """Give a payload as it comes back: bools as numbers, places a little away from the poles."""
    kept = {name: int(value) if isinstance(value, bool) else value for name, value in payload.items()}
    if isinstance(place := kept.get("place"), dict):
        kept["place"] = stored_place(place)
    return kept


def test_finds_what_numpy_finds(index: VectorIndex) -> None:
    _, rows, said = fill(index)
    for row in (0, 77, 599):
        expected = nearest_by_numpy(rows, rows[row], 10)
        exact, usual = index.query([ask(rows[row], exact=True), ask(rows[row])])
        assert numbers(exact) == [number + 1 for number in expected]
        assert len(set(numbers(usual)) & set(numbers(exact))) >= 9
        np.testing.assert_allclose([point.score for point in exact], (rows @ rows[row])[expected], atol=1e-5)
        assert exact[0].payload == stored(said[row])


def test_scores_are_cosines_in_order(index: VectorIndex) -> None:
    _, rows, _ = fill(index)
    points = index.query([ask(-rows[3], limit=COUNT, exact=True)])[0]
    scores = [point.score for point in points]
    assert len(points) == COUNT
    assert scores == sorted(scores, reverse=True)
    assert numbers(points)[-1] == 4
    assert scores[-1] == pytest.approx(-1, abs=1e-5)
    assert min(scores) >= -1


def test_many_queries_at_once_answer_like_one_by_one(index: VectorIndex) -> None:
    _, rows, _ = fill(index)
    queries = [
        ask(rows[number], limit=1 + number % 7, where=Equals("tenant", f"t{number % 4}")) for number in range(80)
    ]
    together = index.query(queries)
    assert together == [index.query([query])[0] for query in queries]
    assert index.query([]) == []
    assert together[3] == []  # tenant t3 has nothing


def test_an_empty_index_answers(index: VectorIndex) -> None:
    assert index.query([ask(embeddings(1, space=index.space).rows[0])]) == [[]]
    assert index.count() == 0
    assert index.scroll(after=None, limit=10) == []
    assert index.vectors(numbered(2)) == {}


def test_writing_again_replaces(index: VectorIndex) -> None:
    ids, rows, _ = fill(index, 20)
    index.upsert(ids[:2], UnitEmbeddings(index.space, rows[[5, 6]]), [{"tenant": "new"}, {"tenant": "new"}])
    assert index.count() == 20
    assert index.count(Equals("tenant", "new")) == 2
    found = index.query([ask(rows[5], limit=2, exact=True)])[0]
    assert numbers(found) == [1, 6]
    assert found[0].payload == {"tenant": "new"}


def test_of_two_points_with_one_id_the_later_stays(index: VectorIndex) -> None:
    ids, made = numbered(1), embeddings(2, space=index.space)
    index.upsert([*ids, *ids], made, [{"tenant": "a"}, {"tenant": "b"}])
    assert index.count() == index.count(Equals("tenant", "b")) == 1
    np.testing.assert_allclose(index.vectors(ids)[ids[0]], made.rows[1], atol=1e-6)


def test_payloads_are_replaced_as_a_whole(index: VectorIndex) -> None:
    ids, rows, _ = fill(index, 300)
    unknown = PointId(UUID(int=10**6))
    fresh: list[Payload] = [{"tenant": "x", "year": number} for number in range(301)]
    index.set_payloads([*ids, unknown], fresh)
    assert index.count() == 300
    assert index.count(Exists("asset_id")) == 0
    assert index.count(Range("year", gte=100, lt=200)) == 100
    assert index.query([ask(rows[7], limit=1)])[0][0].payload == {"tenant": "x", "year": 7}
    index.set_payloads([unknown], [{"tenant": "x"}])
    assert index.count() == 300


def test_deleted_points_are_gone(index: VectorIndex) -> None:
    ids, rows, _ = fill(index, 300)
    index.delete([*ids[:280], PointId(UUID(int=10**6))])
    assert index.count() == 20
    assert set(index.vectors(ids)) == set(ids[280:])
    assert set(numbers(index.query([ask(rows[0], limit=50)])[0])) == set(range(281, 301))
    index.delete([])


def test_vectors_come_back_as_they_were(index: VectorIndex) -> None:
    ids, rows, _ = fill(index)
    found = index.vectors([*ids, PointId(UUID(int=10**6))])
    assert set(found) == set(ids)
    back = np.stack([found[identifier] for identifier in ids])
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, rows, atol=1e-6)


def test_scroll_lists_each_point_once_in_order(index: VectorIndex) -> None:
    ids, _, said = fill(index, 250)
    index.delete(ids[100:110])
    seen, after = [], None
    while page := index.scroll(after=after, limit=37):
        seen += page
        after = page[-1].id
    assert [point.id for point in seen] == ids[:100] + ids[110:]
    assert seen[0].payload["title"] == said[0]["title"]
    assert index.scroll(after=PointId(UUID(int=2**128 - 1)), limit=5) == []
    assert index.scroll(after=None, limit=0) == []


FILTERS: list[Filter] = [
    Equals("tenant", "t1"),
    Equals("title", "picture 3"),
    Equals("asset_id", str(UUID(int=5))),
    Equals("generated", value=True),
    Equals("generated", value=False),
    Equals("public", value=True),
    AnyOf("public", (True, False)),
    Equals("category", "animals"),
    Equals("category", ""),
    Equals("keywords", "cat"),
    Equals("keywords", "łódź"),
    AnyOf("keywords", ("dog", "a b", "none of all")),
    AnyOf("year", (1990, 2024)),
    AnyOf("category", ()),
    AnyOf("year", (1990, "animals", 2024.0)),
    Equals("rating", 3.25),
    Range("year", gte=1990),
    Range("year", gt=1990, lte=2024),
    Range("rating", lt=0),
    Range("rating", gte=-1.5, lte=4),
    Range("width", gte=2500.5),
    Range("taken", gte="2024-05-17"),
    Range("taken", gt="2024-05-17", lt="2024-05-17T11:00:00"),
    Range("taken", lte="2024-05-17T12:00:00+02:00"),
    Range("taken", gte="1999-12-31T23:59:59.400000Z", lt="1999-12-31T23:59:59.600000Z"),
    *(Exists(name) for name in ("category", "keywords", "year", "public", "taken", "notes", "nothing_has_this")),
    *(Not(Exists(name)) for name in ("category", "keywords", "rating", "notes", "nothing_has_this")),
    And(()),
    Or(()),
    Not(And(())),
    And((Equals("tenant", "t2"), Or((Equals("keywords", "dog"), Not(Exists("year")))), Not(Range("year", lt=2000)))),
    Or((And((Exists("category"), Exists("keywords"))), Not(Or((Exists("category"), Exists("keywords")))))),
]


def test_filters_mean_what_they_say(index: VectorIndex) -> None:
    ids, rows, said = fill(index)
    for source in FILTERS:
        expected = {identifier for identifier, payload in zip(ids, said, strict=True) if matches(source, payload)}
        found = index.query([ask(rows[0], limit=COUNT, where=source)])[0]
        assert {point.id for point in found} == expected, source
        assert index.count(source) == len(expected), source


def test_filters_hold_without_declared_fields_too(opener: Opener, index: VectorIndex) -> None:
    bare = opener(replace(index.space, model="test-undeclared-fields"))
    try:
        ids, _, said = fill(bare, 200)
        assert len(ids) == 200
        for source in FILTERS:
            assert bare.count(source) == sum(matches(source, payload) for payload in said), source
    finally:
        bare.drop()


def test_fields_declared_late_find_earlier_points(index: VectorIndex) -> None:
    fill(index, 90)
    index.declare([Field("title", FieldKind.KEYWORD)])
    index.declare([Field("title", FieldKind.KEYWORD)])
    assert index.count(Equals("title", "picture 3")) == 9
    index.declare([Field("title", FieldKind.TEXT)])
    assert index.count(Equals("title", "picture 3")) == 9


def test_a_filter_that_no_engine_can_take_is_refused(index: VectorIndex) -> None:
    vector = embeddings(1, space=index.space).rows[0]
    for wrong in (
        Equals("a.b", 1),
        Equals("keywords[]", "x"),
        Equals("", "x"),
        Equals("year", 2**70),
        Range("year", gte=float("nan")),
        Range("year", lte=float("inf")),
        Range("year"),
        Range("taken", gte="yesterday"),
        Range("taken", gte="2024-01-01", lt=5),
        Equals("category", "\ud800"),
    ):
        with pytest.raises(InvalidFilter):
            index.query([ask(vector, where=Not(wrong))])
        with pytest.raises(InvalidFilter):
            index.count(wrong)


@pytest.mark.parametrize(
    "payload",
    [
        {"tenant": "a", "rating": float("nan")},
        {"tenant": "a", "year": 2**63},
        {"tenant": "a", "title": "\udcff"},
        {"tenant": "a", "keywords": ["fine", "\udcff"]},
        {"tenant": "a", "keywords": [1]},
    ],
)
def test_a_bad_payload_stops_its_whole_batch(index: VectorIndex, payload: Payload) -> None:
    ids, made = numbered(3), embeddings(3, space=index.space)
    with pytest.raises(InvalidInput, match=r"rating|year|title|keywords"):
        index.upsert(ids, made, [{"tenant": "a"}, {"tenant": "a"}, payload])
    assert index.count() == 0
    index.upsert(ids, made, [{"tenant": "a"}] * 3)
    with pytest.raises(InvalidInput):
        index.set_payloads(ids, [{"tenant": "b"}, {"tenant": "b"}, payload])
    assert index.count(Equals("tenant", "a")) == 3


def test_other_spaces_and_wrong_shapes_are_refused(index: VectorIndex) -> None:
    other = replace(index.space, model="another", dimension=32)
    with pytest.raises(SpaceMismatch, match="another"):
        index.upsert(numbered(1), embeddings(1, space=other), [{}])
    with pytest.raises(InvalidInput, match="2 ids, 1 embeddings"):
        index.upsert(numbered(2), embeddings(1, space=index.space), [{}])
    with pytest.raises(SpaceMismatch, match="64"):
        index.query([ask(embeddings(1, space=other).rows[0])])
    vector = embeddings(1, space=index.space).rows[0]
    for wrong in (vector * 2, vector * np.float32("nan"), vector.astype(np.float64)):
        with pytest.raises(InvalidQuery):
            index.query([ask(wrong)])
    with pytest.raises(InvalidQuery, match="limit"):
        index.query([ask(vector, limit=0)])
    assert index.count() == 0


def test_equal_scores_come_in_the_order_of_ids_at_every_limit(index: VectorIndex) -> None:
    row = embeddings(1, space=index.space)
    others = embeddings(60, seed=5, space=index.space).rows
    same = np.repeat(row.rows, 40, axis=0)
    rows = np.concatenate([others[:30], same, others[30:]])
    shuffled = np.random.default_rng(1).permutation(100)
    ids = numbered(100)
    index.upsert(
        [ids[place] for place in shuffled], UnitEmbeddings(index.space, rows[shuffled]), [{"tenant": "a"}] * 100
    )
    for limit in (1, 3, 10, 39, 40, 41):
        for exact in (True, False):
            found = numbers(index.query([ask(row.rows[0], limit=limit, exact=exact)])[0])
            assert found[:40] == list(range(31, 71))[:limit]


def test_what_was_written_is_there_when_opened_again(opener: Opener, index: VectorIndex) -> None:
    space: Space = replace(index.space, model="test-opened-again")
    first = opener(space)
    first.declare([Field("year", FieldKind.INTEGER)])
    _, rows, said = fill(first)
    first.close()
    second = opener(space)
    try:
        assert second.count() == COUNT
        assert second.count(Range("year", gte=1990)) == sum(matches(Range("year", gte=1990), p) for p in said)
        assert numbers(second.query([ask(rows[4], limit=1)])[0]) == [5]
    finally:
        second.drop()
    third = opener(space)
    assert third.count() == 0
    third.drop()


def test_optimising_changes_no_answer(index: VectorIndex) -> None:
    ids, rows, said = fill(index, 1500)
    queries = [ask(rows[number], exact=True) for number in range(20)]
    before = index.query(queries)
    index.optimise()
    for earlier, later in zip(before, index.query(queries), strict=True):
        assert [(point.id, point.payload) for point in later] == [(point.id, point.payload) for point in earlier]
        assert [point.score for point in later] == pytest.approx([point.score for point in earlier], abs=1e-6)
    assert not index.optimise()
    index.delete(ids[:100])
    index.set_payloads(ids[100:200], [{"tenant": "late"}] * 100)
    index.upsert(ids[:50], UnitEmbeddings(index.space, rows[:50]), said[:50])
    assert index.count() == 1450
    assert index.count(Equals("tenant", "late")) == 100
    for source in FILTERS:
        expected = [*said[:50], *([{"tenant": "late"}] * 100), *said[200:]]
        assert index.count(source) == sum(matches(source, payload) for payload in expected), source


def test_similar_leaves_out_the_point_itself(index: VectorIndex) -> None:
    ids, rows, _ = fill(index)
    for own, points in zip(ids[:3], similar_to_each(index, ids[:3], limit=5, exact=True), strict=True):
        expected = [number + 1 for number in nearest_by_numpy(rows, rows[own.int - 1], 6) if number + 1 != own.int]
        assert numbers(points) == expected
    in_tenant = similar_to_each(index, ids[:1], limit=5, within=Equals("tenant", "t1"))[0]
    assert {point.payload["tenant"] for point in in_tenant} == {"t1"}
    with pytest.raises(NotFound, match="000f4240"):
        similar_to_each(index, [PointId(UUID(int=10**6))], limit=5)


def test_similar_to_several_is_near_their_mean(index: VectorIndex) -> None:
    ids, rows, _ = fill(index)
    mean = mean_direction([rows[1], rows[2]])
    assert np.linalg.norm(mean) == pytest.approx(1)
    expected = [number + 1 for number in nearest_by_numpy(rows, mean, 7) if number not in (1, 2)][:5]
    assert numbers(similar_to_all(index, ids[1:3], limit=5, exact=True)) == expected
    np.testing.assert_allclose(mean_direction([rows[1], rows[2]], [1, 0]), rows[1], atol=1e-6)
    for wrong in ([rows[0], -rows[0]], []):
        with pytest.raises(InvalidQuery):
            mean_direction(wrong)
    with pytest.raises(InvalidQuery):
        mean_direction([rows[0], rows[1]], [1])


def test_groups_hold_the_best_of_each_value(index: VectorIndex) -> None:
    ids, rows, said = fill(index)
    for key in ("keywords", "title", "year"):
        groups = best_groups(index, ask(rows[9], limit=3, where=Exists("category"), exact=True), key=key, per_group=4)
        expected: dict[str | int, list[int]] = {}
        for number in nearest_by_numpy(rows, rows[9], COUNT):
            if matches(Exists("category"), said[number]):
                value = said[number].get(key)
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, str | int):
                        expected.setdefault(one, []).append(ids[number].int)
        assert [(group.value, numbers(group.points)) for group in groups] == [
            (value, found[:4]) for value, found in list(expected.items())[:3]
        ]
    assert best_groups(index, ask(rows[9], limit=3), key="nothing_has_this", per_group=2) == []


def test_values_are_counted_under_a_filter(index: VectorIndex) -> None:
    said = payloads(120, seed=5)
    index.upsert(numbered(120), embeddings(120, space=index.space), said)
    for where in (None, Range("width", lt=2500)):
        let_through = [payload for payload in said if where is None or matches(where, payload)]
        for key in ("category", "keywords", "year", "public"):
            counted: Counter[object] = Counter()
            for payload in let_through:
                value = payload.get(key)
                counted.update(set(value) if isinstance(value, list) else [] if value is None else [value])
            found = index.facet(key, limit=50, filter=where)
            assert dict(found) == counted, (key, where)
            assert [count for _, count in found] == sorted(counted.values(), reverse=True)
            assert index.facet(key, limit=1, filter=where)[0][1] == max(counted.values())


def test_the_ends_of_numbers_and_dates_are_found_under_a_filter(index: VectorIndex) -> None:
    said = payloads(120, seed=6)
    index.upsert(numbered(120), embeddings(120, space=index.space), said)
    where = Range("year", gte=1991)
    for key in ("width", "rating", "year", "taken"):
        for asked in (None, where):
            let_through = [
                payload[key] for payload in said if asked is None or matches(asked, payload) if key in payload
            ]
            values = sorted(comparable(value) for value in let_through if isinstance(value, str | int | float))
            ends = index.extremes(key, filter=asked)
            assert ends is not None
            assert [comparable(end) for end in ends] == [values[0], values[-1]], (key, asked)
    assert index.extremes("width", filter=Equals("tenant", "nobody")) is None
