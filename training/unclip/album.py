"""The training set as the lessons draw from it: pictures, their views, captions and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.clip.picture import read_pictures
from training.clip.targets import sampling_weights
from training.unclip.captions import Captions, draw_templates
from training.unclip.embeddings import EmbeddingCache, training_captions
from training.unclip.views import draw_views
from training.unclip.workspace import UnclipWorkspace


@dataclass(frozen=True)
class Shots:
    """Views of pictures: item and view, (n,) each."""

    items: NDArray[np.int64]
    views: NDArray[np.int64]


@dataclass(frozen=True)
class Album:
    """Pictures with all that was computed of them."""

    cache: EmbeddingCache
    captions: Captions
    shares: NDArray[np.float64]  # (n,) how often each picture is drawn; the sum is 1
    tiles: NDArray[np.uint8]  # the pixel cache, RGBA; its rows are `cache.rows`

    @classmethod
    def load(cls, workspace: UnclipWorkspace) -> Self:
        """Read what step `embeddings` wrote."""
        cache = EmbeddingCache.load(workspace.embeddings)
        pictures = read_pictures(workspace.clip.pictures)
        weights = np.array(sampling_weights([pictures[row] for row in cache.rows]))
        tiles = np.load(workspace.clip.pixels, mmap_mode="r")
        return cls(cache, training_captions(pictures, cache.rows), weights / weights.sum(), tiles)

    def draw(self, count: int, chance: np.random.Generator) -> Shots:
        """Draw pictures by their shares, each in one of its views."""
        items = chance.choice(len(self.shares), count, p=self.shares)
        return Shots(items, chance.integers(0, len(self.cache.images), count))

    def images(self, shots: Shots) -> Tensor:
        """Give the unit image embeddings of the views, (n, d) float32."""
        return _unit(self.cache.images[shots.views, shots.items])

    def draw_texts(self, shots: Shots, chance: np.random.Generator) -> Tensor:
        """Give the unit embedding of a caption of each picture, in some template: (n, d) float32."""
        texts = self.captions.draw(shots.items, chance)
        return _unit(self.cache.texts[draw_templates(len(texts), chance), texts])

    def pictures(self, shots: Shots, *, side: int) -> Tensor:
        """Draw the views: (n, 3, side, side) float32 in -1..1."""
        tiles = np.asarray(self.tiles[self.cache.rows[shots.items]])
        return draw_views(tiles, self.cache.placed[shots.views, shots.items], side=side)


def _unit(rows: NDArray[np.float16]) -> Tensor:
    return functional.normalize(torch.from_numpy(rows.astype(np.float32)), dim=-1)
