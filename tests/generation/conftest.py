"""Engines that imagine: a small encoder and tiny generators, both with random weights. Plumbing, not meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phosphene.assemble import Engine, open_engine
from phosphene.encoders import load_encoder
from phosphene.settings import Settings
from tests.indexer.conftest import make_model
from tests.unclip import starter_models

OpenEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny", seed=1)


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Write a generator of random weights in the space of the small encoder."""
    space = load_encoder(str(tiny_model)).space
    folder = tmp_path_factory.mktemp("generators") / "tiny"
    return starter_models.save(folder, space=space.id, dimension=space.dimension)


@pytest.fixture
def open_with(tmp_path: Path, tiny_model: Path, tiny_generator: Path) -> OpenEngine:
    """Open the engine of this test's data folder."""

    def open_it(**settings: Any) -> Engine:  # noqa: ANN401  whatever Settings takes
        chosen = {
            "model": str(tiny_model),
            "generator": str(tiny_generator),
            "blocked_score": 1,  # random embeddings lie anywhere: that is not for the guard rails to judge
            "threads": 1,
            "decode_processes": 1,
            **settings,
        }
        return open_engine(Settings(data=tmp_path / "data", _env_file=None, **chosen), command="a test")

    return open_it


@pytest.fixture
def engine(open_with: OpenEngine) -> Iterator[Engine]:
    with open_with() as engine:
        yield engine
