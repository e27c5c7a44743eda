"""The whole demo catalogue, ingested once."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from indexer.sources import SourceOptions
from phosphene.assemble import Engine, open_engine
from phosphene.types import DEFAULT_TENANT
from tests.search_api.served import settings_for

DEMO = Path(str(files("phosphene") / "starter" / "demo"))
PICTURES = 1059


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy it before changing anything in it."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    with open_engine(settings_for(folder), command="tests") as engine:
        done = ingest(
            [str(DEMO / "catalogue.tar")],
            engine=engine,
            tenant=DEFAULT_TENANT,
            options=SourceOptions(),
            jobs=None,
            progress=SilentProgress(),
        )
    assert done.counts.added == PICTURES
    return folder


@pytest.fixture(scope="session")
def demo(demo_folder: Path) -> Iterator[Engine]:
    """Only read from it."""
    with open_engine(settings_for(demo_folder), command="tests") as engine:
        yield engine
