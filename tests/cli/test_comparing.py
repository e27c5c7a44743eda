"""`phosphene embed` and `phosphene similarity` as a user types them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.search_api.served import ingested_folder, png


@dataclass(frozen=True)
class Shell:
    """Runs `phosphene` on a data folder of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
        return {**inherited, "PHOSPHENE_DATA": str(self.folder / "data"), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "phosphene", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("shell")
    shutil.copytree(ingested_folder(), folder / "data")
    for seed in range(3):
        (folder / f"noise{seed}.png").write_bytes(png(seed))
    return Shell(folder)


def test_vectors_come_as_lines_and_as_a_file_here_and_from_a_server(shell: Shell) -> None:
    lines = shell.run("embed", "a cat", "@noise*.png", "--from", "-", typed="text:@home\n\na dog\n")
    assert lines.returncode == 0, lines.stderr
    said = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [one["input"] for one in said] == [
        "a cat",
        "@noise0.png",
        "@noise1.png",
        "@noise2.png",
        "text:@home",
        "a dog",
    ]
    assert len({one["space"] for one in said}) == 1

    command = [sys.executable, "-m", "phosphene", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert "Phosphene is at" in server.stdout.readline()
        stored = shell.run("embed", "a cat", "@noise*.png", "-o", "four.npy", "--json")
        compared = shell.run("similarity", "a cat", "a dog", "--with", "@four.npy", "--json")
        np.save(shell.folder / "old.npy", np.load(shell.folder / "four.npy"))
        (shell.folder / "old.npy.json").write_text('{"space": "old-0123456789ab"}')
        outdated = shell.run("similarity", "a cat", "--with", "@old.npy")
        server.send_signal(signal.SIGTERM)
    assert stored.returncode == 0, stored.stderr
    assert outdated.returncode == 2
    assert "not in old-0123456789ab: embed again with it" in outdated.stderr
    rows = np.load(shell.folder / "four.npy")
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [one["embedding"] for one in said[:4]], atol=1e-4)
    beside = json.loads((shell.folder / "four.npy.json").read_text())
    assert beside == {"space": said[0]["space"], "dimension": rows.shape[1], "inputs": [o["input"] for o in said[:4]]}
    assert json.loads(stored.stdout)["vectors"] == 4
    assert not list(shell.folder.glob(".four*")), "nothing half-written is left"

    assert compared.returncode == 0, compared.stderr
    answer = json.loads(compared.stdout)
    assert answer["space"] == said[0]["space"]
    assert answer["right"][0] == "@four.npy[0]"
    expected = np.array([said[0]["embedding"], said[-1]["embedding"]]) @ rows.T
    np.testing.assert_allclose(answer["cosines"], expected, atol=1e-4)


def test_lines_of_base64_and_a_table(shell: Shell) -> None:
    done = shell.run("embed", "a cat", "--encoding", "base64", "-o", "one.jsonl")
    assert done.returncode == 0, done.stderr
    vector = json.loads((shell.folder / "one.jsonl").read_text())["embedding"]
    assert np.linalg.norm(np.frombuffer(base64.b64decode(vector), "<f4")) == pytest.approx(1, abs=1e-4)
    table = shell.run("similarity", "a cat", "--with", "text:a cat", "--with", "@noise1.png", "--with", "a kitten")
    assert table.returncode == 0, table.stderr
    first = table.stdout.splitlines()[1].split()
    assert first[:2] == ["1.000", "2.500"]
    assert len(table.stdout.splitlines()) == 4


def test_what_can_not_be_done_is_one_line(shell: Shell) -> None:
    (shell.folder / "letter.txt").write_text("Dear librarian")
    for arguments, said in (
        (("embed",), "nothing to embed"),
        (("embed", "@nowhere.png"), "no such file"),
        (("embed", "@data"), "is a folder"),
        (("embed", "a cat", "-o", "a.csv"), ".npy or .jsonl"),
        (("embed", "asset:12"), "is not the id of an asset"),
        (("embed", "@letter.txt"), "images.0"),
        (("similarity", "a cat", "--pairs"), "as many on the right"),
    ):
        done = shell.run(*arguments)
        assert done.returncode in (1, 2), (arguments, done.stdout)
        assert said in done.stderr, arguments
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
