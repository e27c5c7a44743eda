"""A handful of plain pictures with embeddings that can be told apart, and networks small enough for tests."""

from __future__ import annotations

import numpy as np
import torch

from phosphene.unclip.starter_layout import StarterNetworks, StarterShape
from training.unclip.album import Album
from training.unclip.captions import TEMPLATES, Captions
from training.unclip.embeddings import EmbeddingCache

DIMENSION = 16
PICTURES = DIMENSION
TILE = 64  # pixels
SHAPE = StarterShape(
    dimension=DIMENSION,
    prior_heads=2,
    prior_head_width=8,
    prior_layers=1,
    decoder_px=32,
    decoder_fold=2,
    decoder_widths=(16, 32),
    super_resolution_px=64,
    super_resolution_fold=4,
    super_resolution_widths=(16,),
)


def brightness(item: int) -> float:
    """Of every pixel of a picture, -1..1."""
    return round(255 * (item + 1) / (PICTURES + 1)) / 127.5 - 1


def album() -> Album:
    """Picture i is one opaque grey, its embedding is axis i in both views, its captions' are minus that."""
    axes = np.eye(PICTURES, dtype=np.float16)
    grey = np.array([round((brightness(item) + 1) * 127.5) for item in range(PICTURES)], np.uint8)
    tiles = np.full((PICTURES, TILE, TILE, 4), 255, np.uint8)
    tiles[..., :3] = grey[:, None, None, None]
    whole = np.tile(np.array([1, 0, 0, 1], np.float32), (2, PICTURES, 1))
    return Album(
        EmbeddingCache(np.stack([axes, axes]), np.stack([-axes] * len(TEMPLATES)), whole, np.arange(PICTURES)),
        Captions.of([[(f"grey {item}", 1.0)] for item in range(PICTURES)]),
        np.full(PICTURES, 1 / PICTURES),
        tiles,
    )


def networks(of: Album) -> StarterNetworks:
    """Build untrained ones, the same each time."""
    torch.manual_seed(0)
    mean, std = of.cache.whitening()
    return StarterNetworks.fresh(SHAPE, mean=mean, std=std)
