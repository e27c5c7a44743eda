"""One server that tests only read from; those that write start their own over a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.search_api.served import Served, ingested_folder, serving


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of one's own with the sample in it."""
    return Path(shutil.copytree(ingested_folder(), tmp_path / "data"))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served") / "data"
    shutil.copytree(ingested_folder(), folder)
    with serving(folder) as running:
        yield running
