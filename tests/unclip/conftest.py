"""Tiny generators with random weights, one of each layout: plumbing, not meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phosphene.encoders import Encoder, load_encoder
from phosphene.types import PixelSpec, RawEmbeddings, Sha256, Space
from phosphene.unclip.base import Generator
from phosphene.unclip.loading import load_generator
from tests.unclip import published_models, starter_models

LAYOUTS = ("starter", "karlo", "kandinsky", "stable")
PRIORS = {"kandinsky": "kandinsky_prior", "stable": "karlo"}


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return load_encoder("starter")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("generators")
    return {
        "starter": starter_models.save(base / "starter", space=encoder.space.id),
        "karlo": published_models.save_karlo(base / "karlo"),
        "kandinsky": published_models.save_kandinsky_decoder(base / "kandinsky"),
        "kandinsky_prior": published_models.save_kandinsky_prior(base / "kandinsky_prior"),
        "stable": published_models.save_stable_unclip(base / "stable"),
    }


@pytest.fixture(scope="session", params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def load(folders: dict[str, Path], encoder: Encoder) -> Callable[[str], Generator]:
    """Load a generator anew, from its folder."""

    def load_layout(layout: str) -> Generator:
        prior = str(folders[PRIORS[layout]]) if layout in PRIORS else None
        return load_generator(str(folders[layout]), prior=prior, encoder=encoder, device="cpu")

    return load_layout


@pytest.fixture(scope="session")
def generator(load: Callable[[str], Generator], layout: str) -> Generator:
    return load(layout)


@pytest.fixture(scope="session")
def pictures(generator: Generator, encoder: Encoder) -> list[RawEmbeddings]:
    """Embeddings of three pictures in the generator's CLIP space, one row each, as long as its own are."""
    clip = generator.card.clip
    space = encoder.space
    if clip.space is None:
        space = Space(clip.models[0], clip.dimension, Sha256("a" * 64), PixelSpec(224))
    rows = np.random.default_rng(5).standard_normal((3, clip.dimension))
    rows *= (clip.norm or 14.0) / np.linalg.norm(rows, axis=1, keepdims=True)
    return [RawEmbeddings(space, row[None].astype(np.float32)) for row in rows]
