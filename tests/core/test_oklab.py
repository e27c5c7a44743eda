"""Colours: OKLab, names, and the steps that filters ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene.errors import InvalidFilter
from phosphene.filter_terms import parse_terms
from phosphene.filters import AnyOf, NearColour, Not, parse_filter
from phosphene.oklab import MAX_TOLERANCE, STEP, hex_of, rgb_of, step_of, steps_within, to_oklab, to_rgb
from phosphene.types import SYSTEM_FIELDS, Field, FieldKind

COLOUR = st.tuples(*[st.integers(0, 255)] * 3)


def test_oklab_has_the_values_of_its_author() -> None:
    # https://bottosson.github.io/posts/oklab/ gives white as (1, 0, 0); primaries as in CSS Color 4's sample values
    assert to_oklab([255, 255, 255]) == pytest.approx([1, 0, 0], abs=1e-4)
    assert to_oklab([0, 0, 0]) == pytest.approx([0, 0, 0], abs=1e-6)
    assert to_oklab([255, 0, 0]) == pytest.approx([0.62796, 0.22486, 0.12585], abs=1e-4)
    assert to_oklab([0, 0, 255]) == pytest.approx([0.45201, -0.03246, -0.31153], abs=1e-4)


@given(COLOUR)
def test_colours_come_back_from_oklab_and_from_hex(colour: tuple[int, int, int]) -> None:
    assert to_rgb(to_oklab(colour)) == colour
    assert rgb_of(hex_of(colour)) == colour


def test_short_and_bare_hex_are_read() -> None:
    assert rgb_of("#f80") == rgb_of("FF8800") == (255, 136, 0)


@given(COLOUR, COLOUR, st.floats(0, MAX_TOLERANCE))
def test_a_filter_finds_what_is_near_and_nothing_that_is_far(
    asked: tuple[int, int, int], seen: tuple[int, int, int], tolerance: float
) -> None:
    distance = float(np.linalg.norm(to_oklab(asked) - to_oklab(seen)))
    found = step_of(to_oklab(seen)) in steps_within(hex_of(asked), tolerance)
    half_a_step = STEP * 3**0.5 / 2
    if distance <= tolerance - half_a_step - 0.002:
        assert found
    if distance > tolerance + 4 * half_a_step:  # beyond what a screen can show several steps are written alike
        assert not found


def test_what_is_no_colour_is_not_repeated_at_length() -> None:
    with pytest.raises(InvalidFilter, match="is no colour") as refused:
        parse_filter({"colour": "x" * 100_000}, SYSTEM_FIELDS)
    assert len(str(refused.value)) < 200


@given(COLOUR)
def test_a_colour_is_found_by_itself_without_any_tolerance(colour: tuple[int, int, int]) -> None:
    assert step_of(to_oklab(colour)) in steps_within(hex_of(colour), 0)


def test_colour_filters_are_written_in_json_and_as_terms() -> None:
    near = AnyOf("palette", steps_within("#ff8800", 0.1), NearColour("#ff8800", 0.1))
    assert parse_filter({"colour": "#ff8800"}, SYSTEM_FIELDS) == near
    assert parse_filter({"not": {"colour": "f80", "tolerance": 0.1}}, SYSTEM_FIELDS) == Not(near)
    both = parse_terms(["colour=#ff8800", "colour!=#f80~0.05"], SYSTEM_FIELDS)
    assert both == parse_filter(
        {"and": [{"colour": "#ff8800"}, {"not": {"colour": "#f80", "tolerance": 0.05}}]}, SYSTEM_FIELDS
    )


def test_a_field_of_ones_own_may_be_called_colour() -> None:
    fields = [*SYSTEM_FIELDS, Field("colour", FieldKind.KEYWORD)]
    assert parse_terms(["colour=walnut"], fields) == parse_filter(
        {"and": [{"field": "colour", "equals": "walnut"}]}, fields
    )


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ({"colour": "orange"}, '"colours", "equals": "orange"'),
        ({"colour": "#ff88"}, "#ff8800"),
        ({"colour": 255}, '"#ff8800"'),
        ({"colour": "#ff8800", "tolerance": 3}, "0 to 0.2"),
        ({"colour": "#ff8800", "tolerance": -0.1}, "0 to 0.2"),
        ({"colour": "#ff8800", "tolerance": float("nan")}, "0 to 0.2"),
        ({"colour": "#ff8800", "tolerance": True}, "0 to 0.2"),
        ({"colour": "#ff8800", "tolerance": 10**400}, "too large"),
        ({"colour": "#ff8800", "shade": 1}, "is not a filter"),
        ({"field": "color", "equals": "red"}, "did you mean 'colours'"),
    ],
)
def test_what_is_no_colour_is_refused_with_what_to_write(source: object, named: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        parse_filter(source, SYSTEM_FIELDS)
    assert named in str(refused.value)


@pytest.mark.parametrize("term", ["colour=", "colour=red", "colour=#ff8800~much", "colour=~", "colour>#ff8800"])
def test_terms_that_are_no_colour_are_refused(term: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_terms([term], SYSTEM_FIELDS)
