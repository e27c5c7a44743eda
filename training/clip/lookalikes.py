"""Group near-copies, so that no held-out picture has a twin in the training set."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.clip.picture import Picture

THUMBNAIL = 10  # pixels a side; SIDE is a multiple of it
MIN_CORRELATION = 0.97
MAX_RMS_DIFFERENCE = 0.07  # of the full range
_BLOCK = 1000


def group_lookalikes(pictures: Sequence[Picture], tiles: NDArray[np.uint8]) -> list[Picture]:
    """Put into one group the pictures that look alike, share title and author, or belong to one series.

    `tiles` is (n, side, side, 4) uint8 in the order of `pictures`.
    """
    groups = _DisjointSets(len(pictures))
    for first, second in _similar_pairs(tiles):
        groups.join(first, second)
    seen: dict[tuple[str, str], int] = {}
    for index, picture in enumerate(pictures):
        path = PurePosixPath(picture.source)
        series = re.sub(r"[\d_-]+", "", path.stem.lower())
        for key in ((str(path.parent), series), (picture.label, picture.creator)):
            groups.join(index, seen.setdefault(key, index))
    return [replace(picture, group=groups.find(index)) for index, picture in enumerate(pictures)]


def _similar_pairs(tiles: NDArray[np.uint8]) -> list[tuple[int, int]]:
    thumbnails = np.concatenate([_thumbnails(tiles[start : start + 256]) for start in range(0, len(tiles), 256)])
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-6
    power = (thumbnails**2).mean(axis=1)
    pairs = []
    for start in range(0, len(tiles), _BLOCK):
        block = slice(start, start + _BLOCK)
        correlation = centred[block] @ centred.T
        product = thumbnails[block] @ thumbnails.T / thumbnails.shape[1]
        mean_square = power[block, None] + power[None] - 2 * product
        alike = (correlation > MIN_CORRELATION) & (mean_square < MAX_RMS_DIFFERENCE**2)
        for first, second in zip(*np.nonzero(alike), strict=True):
            if start + first < second:
                pairs.append((start + int(first), int(second)))
    return pairs


def _thumbnails(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, side, side, 4) uint8 -> (n, THUMBNAIL * THUMBNAIL * 3) float32 in 0..1, over white."""
    step = tiles.shape[1] // THUMBNAIL
    rgba = tiles.astype(np.float32) / 255
    alpha = rgba[..., 3:]
    rgb = rgba[..., :3] * alpha + 1 - alpha
    blocks = rgb.reshape(len(tiles), THUMBNAIL, step, THUMBNAIL, step, 3).mean(axis=(2, 4))
    thumbnails: NDArray[np.float32] = blocks.reshape(len(tiles), -1)
    return thumbnails


class _DisjointSets:
    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, first: int, second: int) -> None:
        self._parent[self.find(second)] = self.find(first)
