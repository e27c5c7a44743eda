"""A calibrated catalogue, made once: starter model, embedded index, SQLite, pictures of the demo catalogue."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from phosphene.assemble import Engine, open_engine
from phosphene.types import DEFAULT_TENANT
from tests.search_api.served import ingested_folder, settings_for


@pytest.fixture(scope="session")
def calibrated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy it before changing anything in it."""
    folder = Path(shutil.copytree(ingested_folder(), tmp_path_factory.mktemp("calibrated") / "data"))
    with open_engine(settings_for(folder), command="tests") as engine:
        outcomes = engine.calibrate(DEFAULT_TENANT)
    assert [one.reason for one in outcomes] == [None, None]
    return folder


@pytest.fixture
def engine(calibrated_folder: Path, tmp_path: Path) -> Iterator[Engine]:
    """Calibrated, and one's own."""
    folder = Path(shutil.copytree(calibrated_folder, tmp_path / "data"))
    with open_engine(settings_for(folder), command="tests") as opened:
        yield opened


@pytest.fixture
def uncalibrated(tmp_path: Path) -> Iterator[Engine]:
    folder = Path(shutil.copytree(ingested_folder(), tmp_path / "plain"))
    with open_engine(settings_for(folder), command="tests") as opened:
        yield opened
