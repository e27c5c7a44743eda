from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phosphene.errors import InvalidFilter
from phosphene.filters import And, AnyOf, Equals, Exists, Filter, Not, Or, Range, parse_filter, parse_terms, source_of
from phosphene.types import Field, FieldKind

FIELDS = [
    Field("category", FieldKind.KEYWORD),
    Field("keywords", FieldKind.KEYWORD),
    Field("year", FieldKind.INTEGER),
    Field("megapixels", FieldKind.FLOAT),
    Field("released", FieldKind.BOOL),
    Field("taken", FieldKind.DATETIME),
    Field("story", FieldKind.TEXT),
]


def test_every_form_is_understood() -> None:
    source = {
        "and": [
            {"field": "category", "equals": "animals"},
            {"or": [{"field": "year", "gte": 1990, "lt": 2000}, {"field": "keywords", "any_of": ["cat", "dog"]}]},
            {"not": {"field": "story", "exists": True}},
            {"field": "taken", "gt": "2024-05-17"},
            {"field": "released", "equals": True},
        ]
    }
    assert parse_filter(source, FIELDS) == And(
        (
            Equals("category", "animals"),
            Or((Range("year", gte=1990, lt=2000), AnyOf("keywords", ("cat", "dog")))),
            Not(Exists("story")),
            Range("taken", gt="2024-05-17"),
            Equals("released", True),
        )
    )


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
        ({"field": "taken", "gte": "last week"}, "dates like"),
        ({"field": "story", "equals": "once"}, "free text"),
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


def test_terms_of_the_command_line() -> None:
    terms = [
        "year>=1990",
        "keywords=cat|dog",
        "category!=signs",
        "taken=*",
        "released=yes",
        '{"field": "year", "lt": 2000}',
    ]
    assert parse_terms(terms, FIELDS) == And(
        (
            Range("year", gte=1990),
            AnyOf("keywords", ("cat", "dog")),
            Not(Equals("category", "signs")),
            Exists("taken"),
            Equals("released", True),
            Range("year", lt=2000),
        )
    )
    assert parse_terms([], FIELDS) is None


@pytest.mark.parametrize("term", ["year", "year~3", "year>=often", "{year", "nothing=1"])
def test_wrong_terms_say_what_is_wrong(term: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_terms([term], FIELDS)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["year", "category"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["field", "equals", "any_of", "gte", "lt", "exists", "and", "or", "not", "x"]),
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


CONDITIONS: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Equals, st.just("category"), st.text(max_size=5)),
    st.builds(AnyOf, st.just("year"), st.lists(st.integers(), min_size=1, max_size=3).map(tuple)),
    st.builds(Range, st.just("year"), gte=st.integers(-9, 9), lt=st.none() | st.integers(-9, 9)),
    st.builds(Exists, st.just("story")),
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
