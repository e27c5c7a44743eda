"""Every test of the catalogue runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from phosphene.catalog.catalog import Catalog
from phosphene.types import DEFAULT_TENANT, IngestId
from tests.catalog.samples import SPACE


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a database without tables."""
    if request.param == "sqlite":
        return str(tmp_path / "catalog.sqlite")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Catalog]:
    opened = Catalog.at(catalog_url, migrate=True)
    opened.record_space(SPACE)
    yield opened
    opened.close()


@pytest.fixture
def ingest(catalog: Catalog) -> IngestId:
    return catalog.start_ingest(DEFAULT_TENANT, ["pictures"])
