"""The demo catalogue, opened once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from phosphene.assemble import Engine, open_engine
from tests.search_api.served import settings_for


@pytest.fixture(scope="session")
def demo(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Only read from it."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    shutil.copytree(demo_folder, folder)
    with open_engine(settings_for(folder), command="tests") as engine:
        yield engine
