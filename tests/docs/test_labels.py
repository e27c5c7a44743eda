"""Runs what docs/labels.md shows, on the demo catalogue through a running server, and compares what comes out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_readme import CATALOGUE, Example, _examples

EXAMPLES = _examples("docs/labels.md")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server with the demo catalogue, that `phosphene` on PATH speaks to."""
    folder = tmp_path_factory.mktemp("labels")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**inherited, "PATH": path, "HERE": str(folder), "COLUMNS": "120"}
    own = {**environment, "PHOSPHENE_DATA": str(folder / "data")}
    subprocess.run(["phosphene", "ingest", str(CATALOGUE)], env=own, cwd=folder, check=True, timeout=600)
    with subprocess.Popen(["phosphene", "serve", "--port", "0"], env=own, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        announced = re.search(r"http://\S+", server.stdout.readline())
        assert announced
        yield {**environment, "PHOSPHENE_SERVER": announced[0]}
        server.send_signal(signal.SIGTERM)


def run(command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        cwd=environment["HERE"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def same(printed: str, example: Example) -> None:
    """Say that words, and so pictures, are those of the page, and numbers near."""
    lines, shown = printed.splitlines(), example.printed.splitlines()
    assert len(lines) == len(shown), printed
    for line, expected in zip(map(first_words, lines), map(first_words, shown), strict=True):
        assert NUMBER.sub("N", line) == NUMBER.sub("N", expected), example.command
        for found, number in zip(NUMBER.findall(line), NUMBER.findall(expected), strict=True):
            near = pytest.approx(float(number.replace(",", "")), rel=0.05, abs=0.02)
            assert float(found.replace(",", "")) == near, (example.command, line)


def first_words(line: str) -> str:
    """Leave out the tail of the list of words, where many are as frequent."""
    return ",".join(line.split(",")[:3]) if line.startswith("most: ") else line


def test_all_that_the_page_shows_comes_out_in_its_order(environment: dict[str, str]) -> None:
    assert len(EXAMPLES) >= 5
    alone = {name: value for name, value in environment.items() if name != "PHOSPHENE_SERVER"}
    for example in EXAMPLES:
        of_a_model = example.command.startswith("phosphene evaluate")  # asks no catalogue, and so no server
        same(run(example.command, alone if of_a_model else environment), example)
