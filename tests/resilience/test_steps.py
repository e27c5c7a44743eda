"""Killed between two steps of writing a picture: what was acknowledged has its bytes, the rest is swept or mended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.jobs import handlers
from indexer.verify import Difference, verify
from phosphene.assemble import open_engine
from phosphene.blobs import original_key
from phosphene.catalog.records import AssetState
from phosphene.cli.local import LocalBackend
from phosphene.jobs import JobName
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import asset_id, sha256_of
from tests.indexer.conftest import make_model, save_pictures
from tests.resilience.api import serving
from tests.resilience.conftest import Figure
from tests.resilience.fleet import ROOT, SLOW_S, picture, process_environment, running_fleet

# The second upload dies there; what that leaves behind: a row, or only blobs that nobody needs.
pytestmark = pytest.mark.timeout(SLOW_S)

STEPS = {"after blobs 2": "blobs", "after row 2": "row", "after publish 2": "row"}


def test_an_api_that_is_killed_between_two_steps_of_an_upload(tmp_path: Path, figure: Figure) -> None:
    with running_fleet("redis", tmp_path) as fleet:
        jobs = fleet.jobs()
        number = 0
        for step, left in STEPS.items():
            first, second = picture(number), picture(number + 1)
            number += 2
            with serving(tmp_path, fleet.environment, {"dies": step}, name=step) as api:
                assert api.upload(first).status == 201, api.output()
                assert fleet.engine.blobs.exists(original_key(sha256_of(first)))
                assert api.upload(second).status is None, "an answer of a dead process"
                assert api.process.wait(60) == -signal.SIGKILL
            has_row = asset_id(T, sha256_of(second)) in fleet.engine.catalog.assets(T, [asset_id(T, sha256_of(second))])
            has_blob = fleet.engine.blobs.exists(original_key(sha256_of(second)))
            assert (has_row, has_blob) == (left == "row", True)
            fleet.known |= {asset_id(T, sha256_of(data)) for data in ((first, second) if has_row else (first,))}
            fleet.forget_tasks()  # as the broker may; nothing but the catalogue is asked
            handlers(fleet.engine, jobs)[JobName.SWEEP]()
            assert fleet.engine.catalog.count_assets(T, AssetState.INDEXED) == len(fleet.known)
            report = verify(engine=fleet.engine, repair=True)
            assert set(report.counts) == ({Difference.UNUSED_BLOB} if left == "blobs" else set())
            assert report.ok
            assert fleet.check() == (0, 0)
        jobs.close()
        figure(f"killed {', '.join(STEPS)}: {number} uploads, {len(fleet.known)} in the index, no orphans, none lost")


def test_an_ingest_that_is_killed_between_its_points_and_their_commit(tmp_path: Path, figure: Figure) -> None:
    pictures = tmp_path / "pictures"
    save_pictures(pictures, 40)
    chosen = {"model": str(make_model(tmp_path / "model", seed=1)), "threads": 1, "batch_size": 8}
    settings = Settings(data=tmp_path / "data", _env_file=None, **chosen)  # type: ignore[arg-type]  # values of several types
    named = {f"PHOSPHENE_{name.upper()}": str(value) for name, value in {**chosen, "data": tmp_path / "data"}.items()}
    environment = process_environment(named, {"dies": "before commit 2"}, notes=tmp_path / "notes.txt")
    command = [sys.executable, "-m", "phosphene", "ingest", str(pictures)]
    died = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with LocalBackend(settings, command="phosphene verify") as backend:
        found = backend.verify(repair=False).differences
        mended = backend.verify(repair=True)
        again = backend.verify(repair=False).differences
    with open_engine(settings, command="a test") as engine:
        points = engine.index.count()
        registered = engine.catalog.count_assets(T)
    figure(f"killed between upsert and commit: verify found {found}, then {again}; {points} of {registered} indexed")
    assert found[Difference.ORPHAN_POINT] == 8, "points that no row speaks of"
    assert Difference.LEFTOVER_WORK in found
    assert mended.ok
    assert again == {}
    assert points == registered > 0
