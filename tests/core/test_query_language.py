from __future__ import annotations

import string
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phosphene.errors import InvalidQuery
from phosphene.filters import And, AnyOf, Equals, Exists, Filter, Not, Range, Within
from phosphene.query_language import (
    MAX_EXCLUDED,
    MAX_PARTS,
    MAX_QUERY,
    ParsedQuery,
    Term,
    parse_query,
    write_filter,
    write_query,
)
from phosphene.types import SYSTEM_FIELDS, AssetId, Field, FieldKind

FIELDS = (
    Field("year", FieldKind.INTEGER),
    Field("licence", FieldKind.KEYWORD),
    Field("keywords", FieldKind.KEYWORD),
    Field("caption", FieldKind.TEXT),
    Field("place", FieldKind.GEO),
    *SYSTEM_FIELDS,
)
ASSET = AssetId(UUID("0d8d6f4c-2f0e-5c0b-9a53-3f1d5a7e2b10"))


def read(source: str) -> ParsedQuery:
    return parse_query(source, FIELDS)


def test_a_colour_is_looked_for_among_those_of_the_palette() -> None:
    near = read("car colour:#ff0000").filter
    assert isinstance(near, AnyOf)
    assert near.field == "palette"
    wider = read("car colour:#ff0000~0.2").filter
    assert isinstance(wider, AnyOf)
    assert set(near.values) < set(wider.values)
    assert read("car -colour:#ff0000") == ParsedQuery((Term("car"),), filter=Not(near))
    assert write_filter(Not(near)) == "-colour:#ff0000~0.1"
    assert read("car -colour:#ff0000~0.1").filter == Not(near)
    with pytest.raises(InvalidQuery, match="character 12"):
        read("car colour:#ff")


def texts(terms: tuple[Term, ...]) -> list[tuple[str | None, float]]:
    return [(term.text, term.weight) for term in terms]


def test_the_example_of_the_search_box() -> None:
    found = read("2:dog + beach -snow orientation:landscape licence:cc0 NOT people")
    assert texts(found.parts) == [("dog", 2), ("beach", 1), ("snow", -0.5)]
    assert texts(found.excluded) == [("people", 1)]
    assert found.filter == And((Equals("orientation", "landscape"), Equals("licence", "cc0")))


@pytest.mark.parametrize(
    "text",
    [
        "a black-and-white cat",
        "New York - Paris",
        "- a list of things",
        "16:9 at 10:30",
        '17" screen',
        "C++",
        "1 + 1 = 2",
        "e=mc2",
        "https://example.org/a-picture.jpg",
        "Star Wars: a new hope",
        "what is it?",
        "it's 5 o'clock -5 degrees",
        "DO NOT ENTER",
        "no entry sign",
        "no smoking",
        "yes or no",
        "to be or not to be",
        "No. 5",
        "Dr. No",
        "a room with no one in it",
        "dog +",
        "NOT",
        "a & b | c (d) [e] {f} <g> ~h ^i *j",
        "-",
        "--",
        "+",
        ":)",
    ],
)
def test_plain_text_stays_plain(text: str) -> None:
    assert read(text) == ParsedQuery((Term(text),))


@pytest.mark.parametrize(
    ("text", "shown", "excluded"),
    [
        ("no people", None, ["people"]),
        ("a beach without people at sunset", "a beach at sunset", ["people"]),
        ("a dog without a leash", "a dog", ["leash"]),
        ("not a dog", None, ["dog"]),
        ("man with no hat", "man", ["hat"]),
        ("city street, no people and no cars", "city street", ["people", "cars"]),
        ("house without a roof or windows", "house", ["roof", "windows"]),
        ("an animal but not a cat", "an animal", ["cat"]),
        ("a street with no people in it", "a street", ["people"]),
        ("a picture that does not show people", "a picture", ["people"]),
        ("beach NOT people NOT dogs", "beach", ["people", "dogs"]),
        ('"a sign" NOT "no parking"', "a sign", ["no parking"]),
    ],
)
def test_what_shall_not_be_seen_is_excluded(text: str, shown: str | None, excluded: list[str]) -> None:
    found = read(text)
    assert [part.text for part in found.parts] == ([] if shown is None else [shown])
    assert [part.text for part in found.excluded] == excluded


@pytest.mark.parametrize("text", ['"a beach without people"', '"no people"', '"2:dog" "+" "-snow"', '"year:2005"'])
def test_what_is_quoted_is_not_looked_into(text: str) -> None:
    assert read(text) == ParsedQuery((Term(text.replace('"', "")),))


@pytest.mark.parametrize(
    ("condition", "parsed"),
    [
        ("year:2005", Equals("year", 2005)),
        ("year:>=2005", Range("year", gte=2005)),
        ("year>=2005", Range("year", gte=2005)),
        ("year:2000..2010", Range("year", gte=2000, lte=2010)),
        ("year:..2010", Range("year", lte=2010)),
        ("keywords:cat|dog", AnyOf("keywords", ("cat", "dog"))),
        ('keywords:"red cat"|dog', AnyOf("keywords", ("red cat", "dog"))),
        ("keywords:*", Exists("keywords")),
        ('keywords:"*"', Equals("keywords", "*")),
        ("-orientation:portrait", Not(Equals("orientation", "portrait"))),
        ("NOT orientation:portrait", Not(Equals("orientation", "portrait"))),
        ("orientation!=portrait", Not(Equals("orientation", "portrait"))),
        ("generated:no", Equals("generated", value=False)),
        ("added_at:>2024-05-17", Range("added_at", gt="2024-05-17")),
        ("place:52.52,13.4,5km", Within("place", 52.52, 13.4, 5000)),
    ],
)
def test_conditions_are_read_where_they_stand(condition: str, parsed: Filter) -> None:
    for typed in (f"red {condition} car", f"{condition} red car", f"red car {condition}"):
        assert read(typed) == ParsedQuery((Term("red car"),), filter=parsed), typed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dog licens:cc0", "character 5: there is no field 'licens': did you mean licence:?"),
        ("colour:red", "put it in quotation marks"),
        ('a "red', "character 3: this quotation mark is not closed"),
        ("licence:", "character 9: expected a value of 'licence'"),
        ("keywords:cat|", "character 14: expected a value"),
        ("year:abc", "character 6: 'year' holds integer values"),
        ("caption:dog", "character 9: 'caption' is free text"),
        ("dog 0:cat", "character 5: a weight is above 0"),
        ("NOT 2:dog a", "character 5: after NOT comes what shall not be seen"),
        ("asset:12", "character 7: expected the id of an asset"),
        ('""', "character 1: expected words"),
        ('licence:"a"b', "character 12: expected a space or |"),
        ("year>=2000|2001", "character 7: after year>= comes one value"),
        ("a" * (MAX_QUERY + 1), "4,000 are allowed"),
        (" ", "empty"),
        (" + ".join("a" * 17), "17 parts"),
        (" NOT ".join(f"a{i}" for i in range(10)), "9 things"),
    ],
)
def test_errors_tell_where_and_what(text: str, told: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        read(text)
    assert told in str(error.value)


words = st.text(string.ascii_letters + string.digits + ' "\\-+:|.äß漢', min_size=1, max_size=20).map(
    lambda text: " ".join(text.split())
)
texts_of = words.filter(bool)
sources = st.one_of(texts_of.map(lambda text: (text, None)), st.uuids().map(lambda id_: (None, AssetId(id_))))
weights = st.floats(0.01, 100).map(lambda number: round(number, 3))
parts = st.builds(lambda source, weight: Term(source[0], source[1], weight), sources, weights)
excluded = st.builds(lambda source: Term(source[0], source[1]), sources)
values = texts_of
years = st.integers(-(10**6), 10**6)
conditions = st.one_of(
    values.map(lambda value: Equals("licence", value)),
    st.lists(values, min_size=2, max_size=3).map(lambda many: AnyOf("keywords", tuple(many))),
    years.map(lambda year: Equals("year", year)),
    st.tuples(years, years).map(lambda pair: Range("year", gte=pair[0], lte=pair[1])),
    years.map(lambda year: Range("year", lt=year)),
    st.booleans().map(lambda flag: Equals("generated", flag)),
    st.just(Exists("caption")),
)
negatable = st.one_of(conditions, conditions.map(Not))
filters = st.one_of(
    st.none(), negatable, st.lists(negatable, min_size=2, max_size=4).map(lambda all_: And(tuple(all_)))
)
queries = st.builds(
    lambda near, far, out, asked: ParsedQuery(
        (*near, *(Term(one.text, one.asset_id, -one.weight) for one in far)), tuple(dict.fromkeys(out)), asked
    ),
    st.lists(parts, max_size=5),
    st.lists(parts, max_size=3),
    st.lists(excluded, max_size=MAX_EXCLUDED),
    filters,
).filter(lambda query: bool(query.parts or query.excluded or query.filter))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(query=queries)
def test_what_is_written_is_read_as_the_same(query: ParsedQuery) -> None:
    assert read(write_query(query)) == query


SIGNS = st.text(st.sampled_from(list('abNOT nowithut"\\:+-|=<>.*2 \n\t\0é年\u2028')), max_size=60)


PIECES = st.lists(
    st.sampled_from(
        ["NOT", "no", "-", "+", "without", "2:", "asset:", "year:", '"', "a", "or", "2:x", "-y", "-3:z", "licence:z"]
    ),
    max_size=12,
).map(" ".join)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(text=st.one_of(SIGNS, st.text(max_size=60), PIECES))
@example("NOT NOT NOT")
@example("no no no no")
@example("without")
@example('-"')
@example("2:")
def test_whatever_is_typed_is_read_or_refused_and_reads_the_same_again(text: str) -> None:
    try:
        found = read(text)
    except InvalidQuery as error:
        assert len(str(error)) < 1000
        return
    assert len(found.parts) <= MAX_PARTS
    assert read(write_query(found)) == found


def test_the_longest_queries_are_read_soon() -> None:
    repeated = ["-", '"', "no ", "a:", "1", "\\", '"\\', "NOT ", "+ ", "a|", "1.", "-1:", "without a "]
    for text in [*(piece * (MAX_QUERY // len(piece)) for piece in repeated), "year:" + "1" * 3900]:
        try:
            read(text)
        except InvalidQuery:
            continue
