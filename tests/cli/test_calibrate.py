"""`phosphene calibrate` as a user types it, here and through a running server, and what search and doctor say then."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.search_api.served import ingested_folder


@dataclass(frozen=True)
class Shell:
    """Runs `phosphene` on a data folder of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
        return {**inherited, "PHOSPHENE_DATA": str(self.folder / "data"), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *python, "-m", "phosphene", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("shell")
    shutil.copytree(ingested_folder(), folder / "data")
    return Shell(folder)


def test_before_during_and_after(shell: Shell) -> None:
    asked = shell.run("search", "a dog", "--limit", "2")
    assert asked.returncode == 0, asked.stderr
    assert "by a rule of thumb" in asked.stdout.splitlines()[0]
    assert "run `phosphene calibrate`" in asked.stdout.splitlines()[0]
    examined = shell.run("doctor", "--json")
    assert {"subject": "matches", "verdict": "warn"}.items() <= _finding(examined.stdout, "matches").items()

    done = shell.run("calibrate", "--plot", "curves.png", "--false-match-rate", "0.15")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"text questions: a match from \d+%; 15% of wrong best hits .*", done.stdout.splitlines()[0])
    assert done.stdout.splitlines()[1].startswith("image questions: ")
    assert done.stderr.count("AUROC") == 2
    with Image.open(shell.folder / "curves.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 5

    asked = shell.run("search", "a dog", "--limit", "2", "--json", python=("-X", "importtime"))
    match = json.loads(asked.stdout)["match"]
    assert match["calibrated"]
    assert "phosphene.nomatch.logistic" in asked.stderr  # the list of what was imported
    assert "sklearn" not in asked.stderr  # it is there to calibrate with, and takes a second
    told = shell.run("search", "a dog", "--limit", "2").stdout.splitlines()[0]
    assert told == match["note"]
    assert told.startswith("a match: " if match["matched"] else "nearest, not a match: ")
    assert _finding(shell.run("doctor", "--json").stdout, "matches")["verdict"] == "ok"


def test_through_a_running_server(shell: Shell) -> None:
    command = [sys.executable, "-m", "phosphene", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert "Phosphene is at" in server.stdout.readline()
        done = shell.run("calibrate", "--json")
        server.send_signal(signal.SIGTERM)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert [one["false_match_rate"] for one in made["calibrations"]] == [0.1, 0.1]
    assert made["failed"] == []


def test_what_can_not_be_done_is_said_in_one_line(shell: Shell, tmp_path: Path) -> None:
    wrong = shell.run("calibrate", "--false-match-rate", "1.5")
    assert wrong.returncode == 2
    assert "phosphene: the false-match rate lies between 0 and 1, not at 1.5" in wrong.stderr.splitlines()
    nowhere = shell.run("calibrate", "--plot", "no-such-folder/curves.png")
    assert nowhere.returncode == 2
    assert "no-such-folder for --plot" in nowhere.stderr
    empty = Shell(tmp_path).run("calibrate")
    assert empty.returncode == 1
    assert empty.stdout == ""
    assert empty.stderr.count("too little to learn from") == 2
    assert "Traceback" not in empty.stderr + wrong.stderr


def _finding(printed: str, subject: str) -> dict[str, str]:
    found: dict[str, str] = next(one for one in json.loads(printed) if one["subject"] == subject)
    return found
