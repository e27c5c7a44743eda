from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.declared import DeclaredFields
from indexer.fields import (
    KindOfColumn,
    brought_to,
    describe,
    describe_caption,
    field_name,
    flatten,
    plain_value,
)
from phosphene.errors import PictureError, PictureFault
from phosphene.types import FIELD_NAME, RESERVED_NAMES, Field, FieldKind, FieldValue, Place

words = st.text(min_size=1, max_size=40)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    words,
    st.lists(words, max_size=5),
    st.dates().map(str),
    st.sampled_from(["1990", "007", "1e3", "-2.5", "yes", "2024-05-17T10:00:00+02:00", "x" * 200, ""]),
)


def kind_of(seen: list[Any], *, name: str = "field", textual: bool = True) -> FieldKind | None:
    column = KindOfColumn(name, textual=textual)
    for value in seen:
        column.see(plain_value(value))
    return column.kind


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (["1", "2", "-30"], FieldKind.INTEGER),
        (["0", "1"], FieldKind.INTEGER),
        (["1", "2.5"], FieldKind.FLOAT),
        (["true", "No"], FieldKind.BOOL),
        (["2024-05-17", "2024-05-17T10:00:00Z"], FieldKind.DATETIME),
        (["2024-13-40"], FieldKind.KEYWORD),
        (["01234", "99999"], FieldKind.KEYWORD),
        (["1990", "ca. 1990"], FieldKind.KEYWORD),
        (["red", "a sentence that goes on. " * 10], FieldKind.TEXT),
        (["two\nlines"], FieldKind.TEXT),
        ([["a", "b"]], FieldKind.KEYWORD),
        (["", None], None),
    ],
)
def test_a_column_of_words_gets_the_kind_that_holds_all_its_values(seen: list[Any], kind: FieldKind | None) -> None:
    assert kind_of(seen) is kind


def test_words_of_json_stay_words_since_json_has_numbers() -> None:
    assert kind_of(["1990"], textual=False) is FieldKind.KEYWORD
    assert kind_of([1990], textual=False) is FieldKind.INTEGER
    assert kind_of([True], textual=False) is FieldKind.BOOL
    assert kind_of(["a cat"], name="caption", textual=False) is FieldKind.TEXT


@given(st.lists(values, max_size=8), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_values_does_not_change_the_kind(seen: list[Any], textual: bool, chance: random.Random) -> None:  # noqa: FBT001
    shuffled = list(seen)
    chance.shuffle(shuffled)
    assert kind_of(seen, textual=textual) is kind_of(shuffled, textual=textual)


@given(st.lists(values, min_size=1, max_size=8), st.booleans())
def test_every_value_that_was_seen_fits_the_kind_that_was_found(seen: list[Any], textual: bool) -> None:  # noqa: FBT001
    kind = kind_of(seen, textual=textual)
    for value in map(plain_value, seen):
        if kind is not None:
            brought = brought_to(value, Field("field", kind))
            assert (brought is None) == (value is None)
            assert brought_to(brought, Field("field", kind)) == brought


@pytest.mark.parametrize(
    ("value", "kind", "brought"),
    [
        ("12", FieldKind.INTEGER, 12),
        (12.0, FieldKind.INTEGER, 12),
        (3, FieldKind.FLOAT, 3.0),
        (5, FieldKind.KEYWORD, "5"),
        (True, FieldKind.KEYWORD, "true"),
        (["a", "b"], FieldKind.TEXT, "a, b"),
        ("yes", FieldKind.BOOL, True),
        (0, FieldKind.BOOL, False),
        ("2024-05-17T12:00:00+02:00", FieldKind.DATETIME, "2024-05-17T10:00:00Z"),
        ("2024-05-17", FieldKind.DATETIME, "2024-05-17T00:00:00Z"),
    ],
)
def test_values_are_brought_to_a_declared_kind(value: FieldValue, kind: FieldKind, brought: FieldValue) -> None:
    assert brought_to(value, Field("field", kind)) == brought


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("ca. 1990", FieldKind.INTEGER),
        (2.5, FieldKind.INTEGER),
        (True, FieldKind.INTEGER),
        ("nan", FieldKind.FLOAT),
        (7, FieldKind.BOOL),
        (1990, FieldKind.DATETIME),
        (["1990"], FieldKind.INTEGER),
    ],
)
def test_what_would_lose_something_is_refused_with_field_and_value(value: FieldValue, kind: FieldKind) -> None:
    with pytest.raises(ValueError, match=f"field 'year' holds {kind} values, not "):
        brought_to(value, Field("year", kind))


@given(st.text(max_size=100))
def test_field_names_are_names_or_refused(name: str) -> None:
    try:
        made = field_name(name)
    except ValueError:
        assert not any(letter.isascii() and letter.isalnum() for letter in name.lower())
    else:
        assert FIELD_NAME.fullmatch(made)
        assert made not in RESERVED_NAMES
        assert field_name(made) == made


def test_reserved_names_are_told_apart_from_our_own() -> None:
    assert field_name("Width") == "source_width"
    assert field_name("tenant") == "source_tenant"
    assert field_name("Creator Name") == "creator_name"
    assert field_name("2nd") == "field_2nd"


def test_a_json_object_is_described() -> None:
    described = describe(
        {
            "title": "Red fox",
            "Year": 1990,
            "camera": {"make": "Nikon", "lens": {"mm": 50}},
            "tags": "fox; snow",
            "width": 3,
            "empty": "",
            "nothing": None,
        }
    )
    assert described.title == "Red fox"
    assert described.metadata == {
        "year": 1990,
        "camera_make": "Nikon",
        "camera_lens_mm": 50,
        "tags": ["fox", "snow"],
        "source_width": 3,
    }


def test_a_caption_is_title_and_text() -> None:
    described = describe_caption("\ufeffA fox.\nIn the snow.\n")
    assert described.title == "A fox."
    assert described.metadata == {"caption": "A fox.\nIn the snow."}
    assert describe({"caption": "A fox"}).metadata == {"caption": "A fox"}
    assert describe({"caption": "A fox"}).title == "A fox"


def test_names_that_would_make_one_field_are_refused() -> None:
    with pytest.raises(ValueError, match="both make the field 'place'"):
        describe({"Place": "a", "place!": "b"})


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(words, inner, max_size=3), max_leaves=20))
def test_flattening_ends_and_nests_no_deeper_than_three(source: object) -> None:
    if isinstance(source, dict):
        assert len(flatten(source)) <= 60


def declared_fields(*fields: Field) -> tuple[DeclaredFields, list[Field]]:
    told: list[Field] = []
    return DeclaredFields(fields, told.extend), told


def test_a_field_is_declared_once_by_the_first_pictures_that_carry_it() -> None:
    fields, told = declared_fields(Field("year", FieldKind.INTEGER))
    fields.learn([{"year": "1990", "creator": "Ann"}, {"score": 1}, {"score": 0.5}])
    fields.learn([{"creator": 7, "score": 2}])
    assert told == [Field("creator", FieldKind.KEYWORD), Field("score", FieldKind.FLOAT)]
    assert fields.hold({"year": "1991", "creator": 7, "score": 3}) == {"year": 1991, "creator": "7", "score": 3.0}


def test_a_value_against_its_field_is_bad_metadata() -> None:
    fields, _ = declared_fields(Field("year", FieldKind.INTEGER))
    with pytest.raises(PictureError, match=r"'year' holds integer values, not \"ca\. 1990\"") as caught:
        fields.hold({"year": "ca. 1990"})
    assert caught.value.fault is PictureFault.BAD_METADATA


def test_there_is_an_end_to_the_number_of_fields() -> None:
    fields, told = declared_fields()
    fields.learn([{f"field_{number}": number for number in range(1000)}])
    assert len(told) == 256
    with pytest.raises(PictureError, match="one more than 256"):
        fields.hold({"field_999": 1})


BERLIN = Place(lat=52.52, lon=13.405)


@pytest.mark.parametrize(
    "source",
    [
        {"lat": "52.52", "lon": "13.405"},
        {"Latitude": 52.52, "Longitude": 13.405},
        {"place": {"lat": 52.52, "lng": 13.405}},
    ],
)
def test_degrees_make_a_place(source: dict[str, object]) -> None:
    assert describe(source).metadata == {"place": BERLIN}


def test_a_place_of_its_own_name_and_lone_degrees_stay_what_they_are() -> None:
    said = describe({"shown": {"lat": 52.52, "lon": 13.405}, "lat": 3, "camera": {"lat": 1, "make": "X"}}).metadata
    assert said == {"shown": BERLIN, "lat": 3, "camera_lat": 1, "camera_make": "X"}
    with pytest.raises(ValueError, match=r"latitude 95.*beyond -90..90"):
        describe({"lat": 95, "lon": 13})


def test_places_are_a_kind_and_text_is_brought_to_it() -> None:
    assert kind_of([BERLIN, None]) is FieldKind.GEO
    assert kind_of([BERLIN, "Berlin"]) is FieldKind.KEYWORD
    field = Field("shown", FieldKind.GEO)
    assert brought_to("52.52, 13.405", field) == BERLIN == brought_to(BERLIN, field)
    assert brought_to(BERLIN, Field("shown", FieldKind.KEYWORD)) == "52.52,13.405"
    for wrong in ("Berlin", 52.52, "95,0", ["52", "13"]):
        with pytest.raises(ValueError, match="'shown'"):
            brought_to(wrong, field)
