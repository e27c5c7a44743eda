"""A tiny starter unCLIP with random weights, as a folder: plumbing, not meaning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from phosphene.unclip.base import Sampling
from phosphene.unclip.starter_layout import StarterNetworks, StarterShape

SHAPE = StarterShape(
    dimension=256,  # that of the starter model, which embeds the captions of the tests
    prior_heads=2,
    prior_head_width=8,
    prior_layers=1,
    decoder_px=16,
    decoder_fold=2,
    decoder_widths=(16, 32),
    super_resolution_px=32,
    super_resolution_fold=2,
    super_resolution_widths=(8, 16),
)
SAMPLING = Sampling(prior_steps=4, decoder_steps=3, super_resolution_steps=2)


def fresh(shape: StarterShape = SHAPE, *, seed: int = 0) -> StarterNetworks:
    """Build random networks whose whitening is that of some unit vectors."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((256, shape.dimension)) + 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mean, std = vectors.mean(axis=0).astype(np.float32), vectors.std(axis=0).astype(np.float32)
    return StarterNetworks.fresh(shape, mean=mean, std=std)


def save(folder: Path, *, space: str, dimension: int = 256) -> Path:
    """Write a whole model."""
    fresh(replace(SHAPE, dimension=dimension)).save(folder, space=space, sampling=SAMPLING)
    return folder
