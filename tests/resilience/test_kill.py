"""Ingests that are killed or interrupted half-way, through the command line as a user runs it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indexer.verify import verify
from phosphene.assemble import open_engine
from phosphene.catalog.records import AssetState, IngestState
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT
from tests.indexer.conftest import make_model, save_pictures
from tests.resilience.conftest import Figure
from tests.resilience.fleet import SLOW_S, scaled

pytestmark = pytest.mark.timeout(SLOW_S)

PICTURES = scaled(2000, 220)
KILLS = scaled(50, 3)
ROOT = Path(__file__).parents[2]


class Command:
    """`phosphene ingest` on one data folder, over and over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = folder / "pictures"
        self.data = folder / "data"
        self.model = make_model(folder / "model", seed=1)
        self.settings = {"model": str(self.model), "threads": 1, "decode_processes": 2, "batch_size": 16}

    def start(self) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
        environment |= {f"PHOSPHENE_{name.upper()}": str(value) for name, value in self.settings.items()}
        environment |= {"PHOSPHENE_DATA": str(self.data), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "phosphene", "ingest", str(self.pictures), "--json"],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kept(self) -> int:
        """Count the originals that are on disk so far."""
        return sum(len(files) for _, _, files in os.walk(self.data / "blobs" / "originals"))

    def wait_for(self, kept: int, process: subprocess.Popen[str]) -> None:
        while self.kept() < kept and process.poll() is None:
            time.sleep(0.001)

    def check(self, pictures: int, broken: int) -> None:
        """See that all is there once, and nothing else."""
        settings = Settings(data=self.data, _env_file=None, **self.settings)  # type: ignore[arg-type]  # values of several types
        with open_engine(settings, command="a test") as engine:
            space = engine.encoder.space
            assert engine.catalog.count_assets(None, AssetState.INDEXED) == pictures
            assert engine.catalog.count_assets(None) == pictures
            assert engine.catalog.pending_work(space.id) == 0
            points = engine.index.scroll(after=None, limit=10_000)
            assert len({point.payload["asset_id"] for point in points}) == len(points) == pictures
            assert len(engine.catalog.quarantined(DEFAULT_TENANT, None, after=None, limit=100)) == broken
            report = verify(engine=engine, repair=False, deep=True)
            assert report.counts == {}
            temporary = [name for _, _, names in os.walk(self.data / "blobs") for name in names if ".tmp-" in name]
            assert temporary == []


@pytest.fixture
def command(tmp_path: Path) -> Command:
    command = Command(tmp_path)
    save_pictures(command.pictures, PICTURES)
    (command.pictures / "0100-broken.png").write_bytes(b"no picture")
    (command.pictures / "0200-broken.png").write_bytes(b"")
    (command.pictures / "0007.json").write_text(json.dumps({"title": "Seven", "year": 1977}))
    return command


def test_killed_at_any_point_the_same_command_completes_with_nothing_twice_and_nothing_lost(
    command: Command, chance: random.Random, figure: Figure
) -> None:
    killed = 0
    for _ in range(KILLS):
        process = command.start()
        command.wait_for(command.kept() + chance.randint(1, PICTURES // KILLS), process)
        time.sleep(chance.random() * 0.2)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 1
    began = time.monotonic()
    last = command.start()
    out, err = last.communicate()
    took = time.monotonic() - began
    assert last.returncode == 0, err
    done = json.loads(out)
    assert done["state"] == "finished"
    assert done["counts"]["quarantined"] == 2
    assert done["counts"]["added"] + done["counts"]["unchanged"] == PICTURES
    command.check(PICTURES, broken=2)
    figure(f"{PICTURES} pictures, killed {killed} times: lost 0, duplicates 0; done {took:.1f} s after the last start")
    settings = Settings(data=command.data, _env_file=None, **command.settings)  # type: ignore[arg-type]  # as above
    with open_engine(settings, command="a test") as engine:
        states = [run.state for run in engine.catalog.ingests(DEFAULT_TENANT, 100)]
        assert states[0] is IngestState.FINISHED
        assert IngestState.RUNNING not in states
        assert states.count(IngestState.INTERRUPTED) <= killed
        assert "Seven" in [
            asset.title for asset in engine.catalog.page_assets(tenant=None, after=None, limit=2 * PICTURES)
        ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_soon_and_the_same_command_goes_on(command: Command, number: signal.Signals) -> None:
    process = command.start()
    command.wait_for(20, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0, err
    assert "Traceback" not in err
    again = command.start()
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert json.loads(out)["counts"]["unchanged"] >= 1
    command.check(PICTURES, broken=2)
    settings = Settings(data=command.data, _env_file=None, **command.settings)  # type: ignore[arg-type]  # as above
    with open_engine(settings, command="a test") as engine:
        states = [run.state for run in engine.catalog.ingests(DEFAULT_TENANT, 100)]
        assert states == [IngestState.FINISHED, IngestState.INTERRUPTED]
