"""Views of a drawing: the same picture smaller, elsewhere, in a mirror, always on white.

What the starter sees in a view conditions the decoder that draws this very view, so views change nothing that the
decoder should not learn to draw: no outlines, tints or coloured grounds, as the CLIP recipe has them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SMALLEST = 0.75  # share of the frame's side that a drawing fills


def place_views(mirrored: NDArray[np.bool_], *, views: int, seed: int) -> NDArray[np.float32]:
    """Choose where each picture stands in each view: (views, n, 4) float32 of size, right, down, flip.

    mirrored (n,) says which may be mirrored. The first view is the picture as it is. `size` is a share of the frame,
    right and down are shifts in halves of it, which never push a drawing out; flip is 1 or -1.
    """
    chance = np.random.default_rng(seed)
    shape = (views, len(mirrored))
    size = chance.uniform(SMALLEST, 1, shape)
    right, down = ((1 - size) * chance.uniform(-1, 1, shape) for _ in range(2))
    flip = np.where((chance.random(shape) < 0.5) & mirrored, -1, 1)
    placed = np.stack([size, right, down, flip], axis=2).astype(np.float32)
    placed[0] = (1, 0, 0, 1)
    return placed


def draw_views(tiles: NDArray[np.uint8], placed: NDArray[np.float32], *, side: int) -> Tensor:
    """Draw RGBA tiles (n, s, s, 4) uint8, s >= side, as `placed` (n, 4) says: (n, 3, side, side) float32 in -1..1."""
    rgba = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
    premultiplied = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    size, right, down, flip = torch.from_numpy(placed).unbind(dim=1)
    nothing = torch.zeros_like(size)
    to_tile = torch.stack(  # from where a pixel of the view is taken
        [
            torch.stack([flip / size, nothing, -right * flip / size], 1),
            torch.stack([nothing, 1 / size, -down / size], 1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(to_tile, list(premultiplied.shape), align_corners=False)
    drawn = functional.grid_sample(premultiplied, grid, align_corners=False)
    drawn = functional.interpolate(drawn, size=(side, side), mode="bilinear", antialias=True)
    on_white = drawn[:, :3] + (1 - drawn[:, 3:])
    return (on_white * 2 - 1).clamp(-1, 1)
