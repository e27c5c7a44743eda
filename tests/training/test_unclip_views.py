"""Views of training pictures are whole, on white, and mirrored only where that changes no meaning."""

from __future__ import annotations

import numpy as np
import torch

from training.unclip.views import SMALLEST, draw_views, place_views

SIDE = 64
WHOLE = np.array([[1, 0, 0, 1]], np.float32)


def black() -> np.ndarray:
    tile = np.zeros((1, SIDE, SIDE, 4), np.uint8)
    tile[..., 3] = 255
    return tile


def test_the_first_view_is_the_picture_as_it_is_on_white() -> None:
    tile = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 4), dtype=np.uint8)
    drawn = draw_views(tile, place_views(np.array([True]), views=2, seed=0)[0], side=SIDE)
    colour, alpha = tile[0, ..., :3] / 255, tile[0, ..., 3:] / 255
    expected = torch.from_numpy((colour * alpha + 1 - alpha) * 2 - 1).permute(2, 0, 1).float()
    torch.testing.assert_close(drawn[0], expected, atol=1e-3, rtol=0)


def test_no_view_cuts_a_drawing_off() -> None:
    placed = place_views(np.ones(50, np.bool_), views=4, seed=1)
    assert placed[1:, :, 0].min() >= SMALLEST
    assert len(np.unique(placed[1:, :, 1])) > 100  # they do move
    for size, right, down, flip in placed[1:].reshape(-1, 4)[:20]:
        drawn = draw_views(black(), np.array([[size, right, down, flip]], np.float32), side=SIDE)
        darkness = float((1 - drawn[0, 0]).sum() / 2)
        assert abs(darkness - (size * SIDE) ** 2) < 0.05 * SIDE**2


def test_right_and_down_are_where_they_say() -> None:
    drawn = draw_views(black(), np.array([[0.5, 0.5, -0.5, 1]], np.float32), side=SIDE)[0, 0]
    half = SIDE // 2
    assert float(drawn[: half - 2, half + 2 :].max()) == -1  # above, right: all black
    assert float(drawn[half + 2 :].min()) == 1
    assert float(drawn[:, : half - 2].min()) == 1


def test_only_pictures_that_may_be_are_mirrored() -> None:
    may = np.arange(200) % 2 == 0
    flip = place_views(may, views=3, seed=0)[..., 3]
    assert (flip[:, ~may] == 1).all()
    assert (flip[0] == 1).all()
    assert 0.3 < (flip[1:, may] == -1).mean() < 0.7
    tile = np.random.default_rng(2).integers(0, 256, (1, SIDE, SIDE, 4), dtype=np.uint8)
    mirrored = draw_views(tile, WHOLE * np.array([1, 1, 1, -1], np.float32), side=SIDE)
    torch.testing.assert_close(mirrored, draw_views(tile, WHOLE, side=SIDE).flip(3), atol=1e-3, rtol=0)
