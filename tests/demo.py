"""The whole demo catalogue, ingested once a run, however many processes the tests have."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "phosphene" / "starter" / "demo"
CATALOGUE = DEMO / "catalogue.tar"
PICTURES = 1059


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, embedded by the starter; copy it before changing or serving it."""
    own = tmp_path_factory.getbasetemp()
    home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo-catalogue"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            ingest(home / "data")
            (home / "done").touch()
    return home / "data"


def ingest(data: Path) -> None:
    """Do what README says."""
    done = subprocess.run(
        [sys.executable, "-m", "phosphene", "ingest", str(CATALOGUE)],
        env=environment(data),
        cwd=data.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.stdout == f"added {PICTURES}, unchanged 0, updated 0, quarantined 0\n", done.stderr


def environment(data: Path) -> dict[str, str]:
    """An environment with this data folder and no other setting, and `phosphene` on PATH."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**inherited, "PHOSPHENE_DATA": str(data), "PATH": path, "COLUMNS": "120"}
