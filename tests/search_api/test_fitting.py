"""How well pictures fit a board, on vectors where the answer is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from phosphene.types import Float32
from search_api.fitting import fits, robust_z


def around(centre: int, count: int, *, noise: float, seed: int) -> Float32:
    """Unit vectors of 16 numbers about one axis."""
    rows = np.random.default_rng(seed).normal(0, noise, (count, 16)).astype(np.float32)
    rows[:, centre] += 1
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_two_themes_leave_room_for_both_and_not_for_what_lies_between() -> None:
    board = np.concatenate([around(0, 5, noise=0.05, seed=1), around(1, 5, noise=0.05, seed=2)])
    between = np.zeros((1, 16), dtype=np.float32)
    between[0, :2] = 2**-0.5
    asked = np.concatenate([around(0, 1, noise=0.05, seed=3), around(1, 1, noise=0.05, seed=4), between])
    first, second, middle = fits(asked, board)
    assert min(first, second) > 0.9
    assert middle < 0.8
    assert robust_z(fits(board, board, leave_one_out=True)).min() > -3.5


def test_the_stranger_on_a_board_is_told() -> None:
    board = np.concatenate([around(0, 12, noise=0.1, seed=5), around(7, 1, noise=0.1, seed=6)])
    z = robust_z(fits(board, board, leave_one_out=True))
    assert int(z.argmin()) == 12
    assert z[12] < -10
    assert z[:12].min() > -3.5


def test_nobody_is_their_own_neighbour() -> None:
    board = np.eye(16, dtype=np.float32)[:6]
    assert (fits(board, board, leave_one_out=True) == 0).all()
    np.testing.assert_allclose(fits(board, board), 1 / 3, atol=1e-6)


def test_a_large_board_is_compared_in_parts_with_the_same_result() -> None:
    board = around(3, 1100, noise=0.5, seed=7)
    found = fits(board, board, leave_one_out=True)
    cosines = board @ board.T
    np.fill_diagonal(cosines, -np.inf)
    np.testing.assert_allclose(found, np.sort(cosines, axis=1)[:, -3:].mean(axis=1), atol=1e-5)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=60), st.floats(0.25, 4), st.floats(-2, 2))
def test_the_z_score_does_not_depend_on_unit_or_origin(thousandths: list[int], scale: float, shift: float) -> None:
    values = np.array(thousandths, dtype=np.float32) / np.float32(1000)
    z = robust_z(values)
    assert np.isfinite(z).all()
    assert [thousandths[at] for at in np.argsort(z, kind="stable")] == sorted(thousandths)
    moved = robust_z(np.asarray(np.array(thousandths) / 1000 * scale + shift, dtype=np.float32))
    np.testing.assert_allclose(moved, z, rtol=0.02, atol=0.02)


def test_where_most_are_alike_the_mean_deviation_is_the_scale() -> None:
    z = robust_z(np.array([0.5, 0.5, 0.5, 0.5, 0.1], dtype=np.float32))
    assert (z[:4] == 0).all()
    assert z[4] < -3.5
    assert (robust_z(np.full(6, 0.3, dtype=np.float32)) == 0).all()
