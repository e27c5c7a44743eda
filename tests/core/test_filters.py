from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phosphene.errors import InvalidFilter
from phosphene.filter_terms import parse_terms
from phosphene.filters import (
    And,
    AnyOf,
    Equals,
    Exists,
    Filter,
    Inside,
    Not,
    Or,
    Range,
    Within,
    fields_of,
    parse_filter,
    source_of,
    without_field,
)
from phosphene.types import Field, FieldKind

FIELDS = [
    Field("category", FieldKind.KEYWORD),
    Field("keywords", FieldKind.KEYWORD),
    Field("year", FieldKind.INTEGER),
    Field("megapixels", FieldKind.FLOAT),
    Field("released", FieldKind.BOOL),
    Field("taken", FieldKind.DATETIME),
    Field("story", FieldKind.TEXT),
    Field("place", FieldKind.GEO),
]


def test_every_form_is_understood() -> None:
    source = {
        "and": [
            {"field": "category", "equals": "animals"},
            {"or": [{"field": "year", "gte": 1990, "lt": 2000}, {"field": "keywords", "any_of": ["cat", "dog"]}]},
            {"not": {"field": "story", "exists": True}},
            {"field": "taken", "gt": "2024-05-17"},
            {"field": "released", "equals": True},
            {"field": "place", "within": {"lat": 52.52, "lon": 13.4, "radius_m": 5000}},
            {"field": "place", "box": {"south": -20, "west": 170, "north": -10, "east": -170}},
        ]
    }
    assert parse_filter(source, FIELDS) == And(
        (
            Equals("category", "animals"),
            Or((Range("year", gte=1990, lt=2000), AnyOf("keywords", ("cat", "dog")))),
            Not(Exists("story")),
            Range("taken", gt="2024-05-17"),
            Equals("released", True),
            Within("place", 52.52, 13.4, 5000),
            Inside("place", -20, 170, -10, -170),
        )
    )


CIRCLE = {"lat": 52.52, "lon": 13.4, "radius_m": 5000}
BOX = {"south": 47, "west": 5, "north": 55, "east": 15}


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("year", "a filter is an object"),
        ({}, "is not a filter"),
        ({"field": "yeer", "gte": 1}, "did you mean 'year'"),
        ({"field": "year", "gte": "1990"}, 'holds integer values, not "1990"'),
        ({"field": "year", "equals": 1990.5}, "holds integer values"),
        ({"field": "year", "equals": True}, "holds integer values, not true"),
        ({"field": "year", "gte": 1, "equals": 1}, "the condition on 'year'"),
        ({"field": "year"}, "no operator"),
        ({"field": "category", "gt": "a"}, "no order"),
        ({"field": "category", "any_of": []}, "1 to 1000 values"),
        ({"field": "megapixels", "equals": 1.0}, "ask for a range"),
        ({"field": "megapixels", "gte": float("inf")}, "holds float values"),
        ({"field": "year", "lt": 10**400}, "holds integer values"),
        ({"field": "category", "equals": "x" * 10_001}, "at most 10,000 characters"),
        ({"field": "taken", "gte": "last week"}, "dates like"),
        ({"field": "story", "equals": "once"}, "free text"),
        ({"field": "place", "equals": "52,13"}, 'ask for "within" or "box"'),
        ({"field": "place", "gte": 3}, "no order"),
        ({"field": "year", "within": CIRCLE}, "holds integer values, not places"),
        ({"field": "place", "within": [52, 13]}, "an object of lat, lon, radius_m"),
        ({"field": "place", "within": {**CIRCLE, "radius_km": 5}}, "an object of lat, lon, radius_m"),
        ({"field": "place", "within": {**CIRCLE, "lat": 91}}, "latitude 91 lies beyond"),
        ({"field": "place", "within": {**CIRCLE, "lon": float("nan")}}, "longitude nan lies beyond"),
        ({"field": "place", "within": {**CIRCLE, "lat": "52"}}, "degrees are numbers"),
        ({"field": "place", "within": {**CIRCLE, "lat": True}}, "latitude True lies beyond"),
        ({"field": "place", "within": {**CIRCLE, "radius_m": 0}}, "metres above 0"),
        ({"field": "place", "within": {**CIRCLE, "radius_m": 1e9}}, "up to 20,100,000"),
        ({"field": "place", "within": {**CIRCLE, "radius_m": "5km"}}, "a number of metres"),
        ({"field": "place", "box": {**BOX, "north": 40}}, "north of its north"),
        ({"field": "place", "box": BOX, "within": CIRCLE}, "the condition on 'place'"),
        ({"and": []}, "takes a list"),
        ({"and": "year"}, "takes a list"),
        ({"not": None}, "a filter is an object, not null"),
    ],
)
def test_wrong_filters_say_what_is_wrong(source: object, complaint: str) -> None:
    with pytest.raises(InvalidFilter, match=complaint):
        parse_filter(source, FIELDS)


def test_depth_and_size_are_limited() -> None:
    nested: object = {"field": "year", "gte": 1}
    for _ in range(50):
        nested = {"not": nested}
    with pytest.raises(InvalidFilter, match="deep"):
        parse_filter(nested, FIELDS)
    with pytest.raises(InvalidFilter, match="at most 256"):
        parse_filter({"or": [{"field": "year", "equals": year} for year in range(300)]}, FIELDS)
    with pytest.raises(InvalidFilter, match="at most 10,000 values in all, not 11,000"):
        parse_filter({"or": [{"field": "year", "any_of": list(range(1000))}] * 11}, FIELDS)


@pytest.mark.parametrize("source", [{"field": "y" * 10**6}, {"field": "taken", "gte": "2" * 10**6}])
def test_what_is_long_is_not_repeated(source: object) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(source, FIELDS)
    assert len(str(caught.value)) < 400


def test_terms_of_the_command_line() -> None:
    terms = [
        "year>=1990",
        "keywords=cat|dog",
        "category!=signs",
        "taken=*",
        "released=yes",
        "place=52.52,13.4,5km",
        "place=52.52, 13.4, 500 m",
        "place!=-20,170..-10,-170",
        '{"field": "year", "lt": 2000}',
    ]
    assert parse_terms(terms, FIELDS) == And(
        (
            Range("year", gte=1990),
            AnyOf("keywords", ("cat", "dog")),
            Not(Equals("category", "signs")),
            Exists("taken"),
            Equals("released", True),
            Within("place", 52.52, 13.4, 5000),
            Within("place", 52.52, 13.4, 500),
            Not(Inside("place", -20, 170, -10, -170)),
            Range("year", lt=2000),
        )
    )
    assert parse_terms([], FIELDS) is None


@pytest.mark.parametrize(
    "term", ["year", "year~3", "year>=often", "{year", "nothing=1", "place=52.5", "place=Berlin", "place=1,2,3miles"]
)
def test_wrong_terms_say_what_is_wrong(term: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_terms([term], FIELDS)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["year", "category", "place"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["field", "equals", "any_of", "gte", "lt", "exists", "and", "or", "not", "within", "box"])
            | st.sampled_from(["lat", "lon", "radius_m", "south", "west", "north", "east"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_filter_or_a_clear_error(source: object) -> None:
    try:
        parse_filter(source, FIELDS)
    except InvalidFilter as error:
        assert str(error)


DEGREES = (st.floats(-90, 90), st.floats(-180, 180))
CONDITIONS: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Equals, st.just("category"), st.text(max_size=5)),
    st.builds(AnyOf, st.just("year"), st.lists(st.integers(), min_size=1, max_size=3).map(tuple)),
    st.builds(Range, st.just("year"), gte=st.integers(-9, 9), lt=st.none() | st.integers(-9, 9)),
    st.builds(Exists, st.just("story")),
    st.builds(Within, st.just("place"), DEGREES[0], DEGREES[1], st.floats(1e-3, 2e7)),
    st.builds(
        lambda lats, west, east: Inside("place", min(lats), west, max(lats), east),
        st.tuples(DEGREES[0], DEGREES[0]),
        DEGREES[1],
        DEGREES[1],
    ),
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


@given(FILTERS)
def test_what_is_written_is_read_back_the_same(wanted: Filter) -> None:
    assume(_depth(wanted) <= 8)
    assert parse_filter(source_of(wanted), FIELDS) == wanted


def _depth(part: Filter) -> int:
    match part:
        case And(parts) | Or(parts):
            return 1 + max(map(_depth, parts))
        case Not(inner):
            return 1 + _depth(inner)
    return 0


@given(FILTERS)
def test_a_filter_without_a_field_asks_for_less_and_not_for_that_field_alone(wanted: Filter) -> None:
    for name in fields_of(wanted):
        left = without_field(wanted, name)
        assert left is None or fields_of(left) <= fields_of(wanted)
        parts = left.parts if isinstance(left, And) else () if left is None else (left,)
        assert all(fields_of(part) != {name} for part in parts)
    assert without_field(wanted, "megapixels") == wanted


def test_the_conditions_of_one_field_are_taken_out_and_the_others_stay() -> None:
    cats, new, wide = Equals("category", "cats"), Range("year", gte=2000), Range("megapixels", gte=1)
    assert without_field(And((cats, new, wide)), "year") == And((cats, wide))
    assert without_field(And((And((cats, new)), wide)), "year") == And((And((cats,)), wide))
    assert without_field(Or((cats, new)), "year") == Or((cats, new))  # one thing that is asked: it can't be taken apart
    assert without_field(new, "year") is None
    assert without_field(None, "year") is None
