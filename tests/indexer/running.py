"""Shared by the tests of ingest: run one, look at what it left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from indexer.pipeline import ingest
from indexer.sources import SourceOptions
from indexer.verify import verify
from phosphene.assemble import Engine
from phosphene.catalog.records import Asset, AssetState, Ingest, Quarantined
from phosphene.filters import And, Equals, Filter
from phosphene.jobs import JSON, JobName
from phosphene.types import DEFAULT_TENANT, Pixels


def run(engine: Engine, *specs: Path | str, **options: object) -> Ingest:
    source_options = SourceOptions(**options)  # type: ignore[arg-type]  # given by name
    return ingest([str(spec) for spec in specs], engine=engine, tenant=DEFAULT_TENANT, options=source_options)


def counts(done: Ingest) -> tuple[int, int, int, int]:
    return done.counts.added, done.counts.unchanged, done.counts.updated, done.counts.quarantined


def assets(engine: Engine) -> list[Asset]:
    return engine.catalog.page_assets(tenant=None, after=None, limit=10_000)


def quarantined(engine: Engine) -> dict[str, Quarantined]:
    entries = engine.catalog.quarantined(DEFAULT_TENANT, None, after=None, limit=1000)
    return {entry.uri.rpartition("/")[2]: entry for entry in entries}


def found(engine: Engine, wanted: Filter) -> int:
    return engine.index.count(And((Equals("tenant", DEFAULT_TENANT), wanted)))


def assert_all_is_well(engine: Engine, pictures: int) -> None:
    assert engine.index.count() == pictures
    assert engine.catalog.count_assets(None, AssetState.INDEXED) == pictures
    assert engine.catalog.pending_work(engine.encoder.space.id) == 0
    report = verify(engine=engine, repair=False)
    assert report.counts == {}
    assert report.ok


def red(path: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (40, 40), (255, 0, 0)).save(path)
    return path


def fail_on_red(pixels: Pixels) -> None:
    if any(np.array_equal(one[0, 0], (255, 0, 0)) for one in pixels):
        raise RuntimeError("red is too much\nsecond line")


class RecordedJobs:
    """Stands in for a broker: keeps what was sent, to be worked on when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[JobName, dict[str, JSON]]] = []

    def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:
        self.sent.append((name, json.loads(json.dumps(arguments))))

    def close(self) -> None:
        pass


def registered_only(engine: Engine, folder: Path) -> list[Asset]:
    """Register a folder as a coordinator does, so that its pictures wait for their embeddings."""
    ingest([str(folder)], engine=engine, tenant=DEFAULT_TENANT, jobs=RecordedJobs())
    return assets(engine)
