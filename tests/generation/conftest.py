"""Engines that imagine: the starter's encoder, and tiny generators of random weights. Plumbing, not meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phosphene.assemble import Engine, open_engine
from phosphene.settings import Settings
from tests.unclip import starter_models

OpenEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def tiny_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a generator of random weights in the space of the starter's encoder."""
    from phosphene.encoders import load_encoder

    return starter_models.save(
        tmp_path_factory.mktemp("generators") / "tiny", space=load_encoder("starter").space.id
    )


@pytest.fixture
def open_with(tmp_path: Path, tiny_generator: Path) -> OpenEngine:
    """Open the engine of this test's data folder."""

    def open_it(**settings: Any) -> Engine:  # noqa: ANN401  whatever Settings takes
        # Random embeddings mean nothing: where they happen to lie is not for the guard rails to judge.
        chosen = {"threads": 1, "decode_processes": 1, "generator": str(tiny_generator), "blocked_score": 1, **settings}
        return open_engine(Settings(data=tmp_path / "data", _env_file=None, **chosen), command="a test")

    return open_it


@pytest.fixture
def engine(open_with: OpenEngine) -> Iterator[Engine]:
    with open_with() as engine:
        yield engine
