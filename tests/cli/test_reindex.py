"""`phosphene reindex` as a user types it: here, and through a running server that goes on to answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.indexer.conftest import make_model, save_pictures

PICTURES = 30
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shell:
    """Runs `phosphene` on a data folder of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
        told = {"DATA": "data", "MODEL": "old", "THREADS": "1", "DECODE_PROCESSES": "1", "BATCH_SIZE": "8"}
        return inherited | {f"PHOSPHENE_{name}": value for name, value in told.items()} | {"PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "phosphene", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )

    @contextmanager
    def server(self) -> Iterator[str]:
        """Serve the folder; what it said on stderr is in server.log."""
        with (self.folder / "server.log").open("w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "phosphene", "serve", "--port", "0"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            assert server.stdout is not None
            try:
                said = server.stdout.readline()
                assert "Phosphene is at" in said, (self.folder / "server.log").read_text()
                yield said.split()[-1]
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)
                server.stdout.close()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    make_model(tmp_path / "old", seed=1)
    make_model(tmp_path / "new", seed=2)
    save_pictures(tmp_path / "pictures", PICTURES)
    shell = Shell(tmp_path)
    done = shell.run("ingest", "pictures")
    assert done.returncode == 0, done.stderr
    return shell


def test_here_and_back_and_to_the_end(shell: Shell) -> None:
    never = shell.run("reindex", "--status")
    assert never.returncode == 0
    assert "the model was never changed" in never.stdout
    done = shell.run("reindex", "--model", "new")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith(f"{shell.folder}/new answers (space new-")
    assert "swapped; both are kept in step" in said[1]
    embedded = f"{PICTURES} vectors for {PICTURES} embedded pictures, {PICTURES} in the space before"
    assert f"  counts: passed: {embedded}" in said

    found = shell.run("search", "a cat", "--limit", "3", "--json")
    assert json.loads(found.stdout)["space"].startswith("new-")
    assert found.stderr.count("PHOSPHENE_MODEL is") == 1
    examined = shell.run("doctor")
    assert f"model: PHOSPHENE_MODEL is {shell.folder}/old, but the catalogue answers with" in examined.stdout
    assert f"model: {shell.folder}/new: 32 dimensions" in examined.stdout

    back = shell.run("reindex", "--rollback", "--json")
    assert back.returncode == 0, back.stderr
    assert json.loads(back.stdout)["space"].startswith("old-")
    given_up = shell.run("reindex", "--abort")
    assert given_up.returncode == 0, given_up.stderr
    assert "given up" in given_up.stdout
    assert [path.name[:4] for path in (shell.folder / "data" / "vectors").iterdir()] == ["old-"]


def test_through_a_server_that_goes_on_to_answer(shell: Shell) -> None:
    with shell.server() as url:
        done = shell.run("reindex", "--model", "new", "--json")
        assert done.returncode == 0, done.stderr
        moved = json.loads(done.stdout)
        assert (moved["reindex"]["state"], moved["reindex"]["done"]) == ("swapped", PICTURES)
        (serving,) = moved["processes"]
        assert (serving["role"], serving["space"], moved["switched"]) == ("server", moved["space"], True)
        found = shell.run("search", "a cat", "--server", url, "--limit", "3", "--json")
        assert json.loads(found.stdout)["space"] == moved["space"]
        started = time.monotonic()
        back = shell.run("reindex", "--rollback", "--json")
        print(f"rollback by the command line: {time.monotonic() - started:.1f} s")  # noqa: T201  a figure
        assert json.loads(back.stdout)["space"].startswith("old-")
        again = shell.run("reindex", "--swap", "--json")
        assert json.loads(again.stdout)["reindex"]["state"] == "swapped", again.stderr
        finished = shell.run("reindex", "--finish", "--json")
        assert json.loads(finished.stdout)["reindex"]["dropped"], finished.stderr
    assert [path.name[:4] for path in (shell.folder / "data" / "vectors").iterdir()] == ["new-"]
    with shell.server():
        pass
    log = (shell.folder / "server.log").read_text()
    assert f"loading {shell.folder}/new" in log
    assert log.count("PHOSPHENE_MODEL is") == 1
    assert "Traceback" not in log


def test_what_can_not_be_done_is_said_in_one_line(shell: Shell) -> None:
    for arguments, said in {
        ("--model", "new", "--abort"): "give one of --model, --status, --swap",
        ("--model", "old"): "answers already",
        ("--model", "nowhere"): "nowhere",
        ("--rollback",): "no change of the model is under way",
        ("--model", "new", "--no-wait"): "start `phosphene serve`",
        ("--model", "new", "--golden", "missing.jsonl"): "missing.jsonl",
    }.items():
        failed = shell.run("reindex", *arguments)
        assert failed.returncode in (1, 2), arguments
        assert said in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr
