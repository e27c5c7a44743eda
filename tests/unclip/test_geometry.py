"""Walks on the sphere of embeddings: what must hold for any."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phosphene.errors import InvalidQuery
from phosphene.unclip.geometry import Direction, angle, direction, slerp, spherical_mean, text_diff

ELEMENTS = st.floats(-10, 10, allow_nan=False, width=32)
VECTORS = arrays(np.float64, 5, elements=ELEMENTS).filter(lambda vector: float(np.linalg.norm(vector)) > 0.01)
DIRECTIONS = VECTORS.map(direction)
SHARES = st.floats(0, 1)
Data = st.DataObject
WEIGHTS = st.floats(0.1, 10)


def hemisphere(directions: list[Direction]) -> list[Direction]:
    """Turn directions to one side, where every blend is defined."""
    return [direction(one if one @ directions[0] >= 0 else -one) for one in directions]


@given(DIRECTIONS, DIRECTIONS, SHARES)
def test_slerp_divides_the_angle(a: Direction, b: Direction, t: float) -> None:
    assume(math.pi - angle(a, b) > 1e-3)
    between = slerp(a, b, t)
    assert abs(np.linalg.norm(between) - 1) < 1e-12
    assert abs(angle(a, between) - t * angle(a, b)) < 1e-6
    assert abs(angle(between, b) - (1 - t) * angle(a, b)) < 1e-6
    np.testing.assert_allclose(between, slerp(b, a, 1 - t), atol=1e-9)


def test_slerp_is_no_straight_line() -> None:
    a, b = direction(np.array([1.0, 0, 0])), direction(np.array([0, 1.0, 0]))
    np.testing.assert_allclose(slerp(a, b, 1 / 3), [math.cos(math.pi / 6), math.sin(math.pi / 6), 0], atol=1e-12)


@given(DIRECTIONS)
def test_opposite_embeddings_have_no_way_between(a: Direction) -> None:
    with pytest.raises(InvalidQuery, match="opposite"):
        slerp(a, direction(-a), 0.5)
    with pytest.raises(InvalidQuery, match=r"cancel|opposite"):
        spherical_mean([a, direction(-a)], [1, 1])
    with pytest.raises(InvalidQuery, match="opposite"):
        spherical_mean([a, direction(-a)], [1, 2])


@given(DIRECTIONS, DIRECTIONS, WEIGHTS, WEIGHTS)
def test_a_blend_of_two_is_slerp(a: Direction, b: Direction, v: float, w: float) -> None:
    assume(math.pi - angle(a, b) > 0.1)
    np.testing.assert_allclose(spherical_mean([a, b], [v, w]), slerp(a, b, w / (v + w)), atol=1e-7)


@given(st.lists(DIRECTIONS, min_size=1, max_size=5), st.data())
def test_a_blend_depends_neither_on_order_nor_on_the_unit_of_weights(
    some: list[Direction], data: st.DataObject
) -> None:
    points = hemisphere(some)
    weights = data.draw(st.lists(WEIGHTS, min_size=len(points), max_size=len(points)))
    order = data.draw(st.permutations(range(len(points))))
    blend = spherical_mean(points, weights)
    assert abs(np.linalg.norm(blend) - 1) < 1e-12
    shuffled = spherical_mean([points[at] for at in order], [3 * weights[at] for at in order])
    np.testing.assert_allclose(blend, shuffled, atol=1e-6)


@given(DIRECTIONS, st.lists(WEIGHTS, min_size=1, max_size=4))
def test_blending_one_picture_with_itself_changes_nothing(a: Direction, weights: list[float]) -> None:
    np.testing.assert_allclose(spherical_mean([a] * len(weights), weights), a, atol=1e-7)


@given(DIRECTIONS, DIRECTIONS, DIRECTIONS, SHARES)
def test_a_text_diff_turns_the_picture_by_theta_of_the_way_to_the_change(
    image: Direction, before: Direction, after: Direction, theta: float
) -> None:
    assume(angle(before, after) > 1e-2)
    change = direction(after - before)
    assume(math.pi - angle(image, change) > 1e-2)
    turned = text_diff(image, before=before, after=after, theta=theta)
    assert abs(angle(image, turned) - theta * angle(image, change)) < 1e-6
    assert turned @ change >= image @ change - 1e-9


def test_captions_that_mean_the_same_edit_nothing() -> None:
    a, b = direction(np.array([1.0, 0])), direction(np.array([0, 1.0]))
    with pytest.raises(InvalidQuery, match="mean the same"):
        text_diff(a, before=b, after=b, theta=0.5)


@pytest.mark.parametrize("vector", [[0.0, 0], [math.nan, 1], [math.inf, 1]])
def test_what_has_no_direction_is_refused(vector: list[float]) -> None:
    with pytest.raises(InvalidQuery, match="no direction"):
        direction(np.array(vector))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0], [1.0, -1], [1.0, math.nan], [1.0, math.inf]])
def test_weights_that_make_no_blend_are_refused(weights: list[float]) -> None:
    a, b = direction(np.array([1.0, 0])), direction(np.array([0, 1.0]))
    with pytest.raises(InvalidQuery):
        spherical_mean([a, b], weights)


@pytest.mark.parametrize("t", [-0.1, 1.1, math.nan])
def test_a_place_beyond_the_way_is_refused(t: float) -> None:
    with pytest.raises(InvalidQuery, match=r"0\.\.1"):
        slerp(direction(np.array([1.0, 0])), direction(np.array([0, 1.0])), t)
