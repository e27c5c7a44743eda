"""Which jobs `phosphene demo` asks for, and what a calibration that comes to nothing leaves in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from indexer.jobs import handlers
from phosphene.assemble import open_engine
from phosphene.catalog.records import IngestState
from phosphene.cli.serving import fill_and_calibrate
from phosphene.jobs import JSON, JobName
from phosphene.types import DEFAULT_TENANT
from tests.catalog.samples import new
from tests.search_api.served import settings_for

CATALOGUE = Path("catalogue.tar")


class NotedJobs:
    """Stands in for a broker: notes what is sent, and no worker takes it."""

    def __init__(self) -> None:
        self.sent: list[JobName] = []

    def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:
        assert arguments["tenant"] == DEFAULT_TENANT
        self.sent.append(name)

    def close(self) -> None:
        pass


def test_a_calibration_is_asked_for_only_when_it_comes_after_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_engine(settings_for(tmp_path / "data"), command="tests") as engine:
        workers = NotedJobs()
        fill_and_calibrate(engine, workers, CATALOGUE, in_order=False)
        assert workers.sent == [JobName.INGEST]
        assert "run `phosphene calibrate`" in capsys.readouterr().err

        here = NotedJobs()
        fill_and_calibrate(engine, here, CATALOGUE, in_order=True)
        assert here.sent == [JobName.INGEST, JobName.CALIBRATE]

        for ingest in engine.catalog.ingests(DEFAULT_TENANT, limit=10):
            engine.catalog.finish_ingest(ingest.id, IngestState.FINISHED)
        finished = NotedJobs()
        fill_and_calibrate(engine, finished, CATALOGUE, in_order=False)
        assert finished.sent == [JobName.CALIBRATE]

        engine.catalog.register(None, DEFAULT_TENANT, engine.encoder.space.id, [new("waits for its embedding")])
        waiting = NotedJobs()
        fill_and_calibrate(engine, waiting, CATALOGUE, in_order=False)
        assert waiting.sent == []


def test_a_calibration_that_comes_to_nothing_says_why_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_engine(settings_for(tmp_path / "data"), command="tests") as engine, caplog.at_level(logging.WARNING):
        handlers(engine)[JobName.CALIBRATE](tenant=DEFAULT_TENANT)
    for modality in ("text", "image"):
        assert (
            f"tenant {DEFAULT_TENANT}: {modality} questions are not calibrated: too little to learn from" in caplog.text
        )
