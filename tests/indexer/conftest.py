"""Engines on a small open_clip model with random weights: speed and plumbing are real, meaning is not."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phosphene.assemble import Engine, open_engine
from phosphene.encoders import Encoder
from phosphene.settings import Settings
from phosphene.types import Pixels, RawEmbeddings, Space

MODEL_CFG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}

OpenEngine = Callable[..., Engine]


def make_model(folder: Path, *, seed: int) -> Path:
    """Write an open_clip model of random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    model = open_clip.CLIP(**MODEL_CFG)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL_CFG, "preprocess_cfg": preprocess}))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny", seed=1)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "other", seed=2)


@pytest.fixture
def open_with(tmp_path: Path, tiny_model: Path) -> OpenEngine:
    """Open the engine of this test's data folder."""

    def open_it(**settings: Any) -> Engine:  # noqa: ANN401  whatever Settings takes
        chosen = {"model": str(tiny_model), "threads": 1, "decode_processes": 2, "batch_size": 16, **settings}
        return open_engine(Settings(data=tmp_path / "data", _env_file=None, **chosen), command="a test")

    return open_it


@pytest.fixture
def engine(open_with: OpenEngine) -> Iterator[Engine]:
    with open_with() as engine:
        yield engine


def let_pass(_: Pixels) -> None:
    """Do nothing before a batch."""


class WatchedEncoder:
    """An encoder that notes its batches and lets a test step in before each."""

    def __init__(self, inner: Encoder, before: Callable[[Pixels], None] = let_pass) -> None:
        self.inner = inner
        self.before = before
        self.batches: list[int] = []

    @property
    def space(self) -> Space:
        return self.inner.space

    @property
    def logit_scale(self) -> float:
        return self.inner.logit_scale

    @property
    def pictures(self) -> int:
        return sum(self.batches)

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        self.batches.append(len(pixels))
        self.before(pixels)
        return self.inner.encode_pixels(pixels)

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        return self.inner.encode_texts(texts)


def watch(engine: Engine, before: Callable[[Pixels], None] = let_pass) -> WatchedEncoder:
    """Put a watch on an engine's encoder."""
    watched = WatchedEncoder(engine.encoder, before)
    engine.current._encoder = watched
    return watched


def save_picture(path: Path, *, seed: int, side: int = 48) -> Path:
    """Write a picture whose bytes and looks are given by its seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.frombuffer(random.Random(seed).randbytes(6 * 6 * 3), dtype=np.uint8).reshape(6, 6, 3)
    Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST).save(path)
    return path


def save_pictures(folder: Path, number: int, *, first: int = 0, suffix: str = ".png") -> list[Path]:
    """Write so many different pictures."""
    return [save_picture(folder / f"{seed:04}{suffix}", seed=seed) for seed in range(first, first + number)]
