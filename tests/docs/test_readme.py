"""Runs what README shows, on the demo catalogue, and compares what it shows with what comes out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
CATALOGUE = REPOSITORY / "phosphene" / "starter" / "demo" / "catalogue.tar"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One command of README, and what README says it prints."""

    command: str
    printed: str


def _examples(page: str = "README.md") -> list[Example]:
    examples = []
    for block in BLOCK.findall((REPOSITORY / page).read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            examples.append(Example(command, printed.strip()))
    return examples


EXAMPLES = _examples()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A data folder with the demo catalogue in it, and `phosphene` on PATH."""
    folder = tmp_path_factory.mktemp("readme")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    environment = {
        **inherited,
        "PHOSPHENE_DATA": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CATALOGUE": str(CATALOGUE),
        "HERE": str(folder),
        "COLUMNS": "120",
    }
    for command in (["phosphene", "ingest", str(CATALOGUE)], ["phosphene", "calibrate"]):
        subprocess.run(command, env=environment, cwd=folder, check=True, timeout=600)
    return environment


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[str]:
    with subprocess.Popen(
        ["phosphene", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        announced = re.search(r"http://\S+", process.stdout.readline())
        assert announced
        yield announced[0]
        process.send_signal(signal.SIGTERM)


def _run(command: str, environment: dict[str, str]) -> str:
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
    return done.stdout


def _titles(table: str) -> list[str]:
    """Titles of a printed hit list: the second column, in order."""
    rows = [re.split(r"\s{2,}", row.strip()) for row in table.splitlines()]
    return [row[1] for row in rows if len(row) > 1 and re.fullmatch(r"-?\d\.\d{3}", row[0])]


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("phosphene search")], ids=str)
def test_searches_find_what_readme_shows(example: Example, environment: dict[str, str]) -> None:
    shown = _titles(example.printed)
    assert shown, "README shows no hits for this search"
    printed = _run(example.command, environment)
    assert _titles(printed) == shown
    verdict, _, probability = printed.splitlines()[0].partition(": ")
    assert verdict == example.printed.partition(": ")[0]
    assert re.fullmatch(r"probability \d+%, a match from \d+%", probability)
    drawn = [line for line in example.printed.splitlines() if line.startswith("imagined: ")]
    assert drawn == [line for line in printed.splitlines() if line.startswith("imagined: ")]
    assert bool(drawn) is ("--generate" in example.command)


def test_a_picture_is_drawn_as_readme_shows(environment: dict[str, str]) -> None:
    example = next(one for one in EXAMPLES if one.command.startswith("phosphene generate"))
    name, seed, _ = re.split(r"\s{2,}", _run(example.command, environment).strip())
    assert [name, seed] == re.split(r"\s{2,}", example.printed)[:2]
    with Image.open(Path(environment["HERE"]) / name) as picture:
        red, green, blue = np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(axis=0)
        assert picture.size == (128, 128)
    assert red > max(green, blue) + 40  # it is a red heart on white


def test_calibrating_prints_what_readme_shows(environment: dict[str, str]) -> None:
    example = next(one for one in EXAMPLES if one.command == "phosphene calibrate")
    printed = _run(example.command, environment)
    assert re.sub(r"\d+%", "N%", printed.strip()) == re.sub(r"\d+%", "N%", example.printed)


def test_evaluating_prints_what_its_page_shows(environment: dict[str, str]) -> None:
    (example,) = _examples("docs/evaluate.md")
    printed, shown = _run(example.command, environment).strip(), example.printed
    number = re.compile(r"\d[\d,]*(?:\.\d+)?")
    assert number.sub("N", printed) == number.sub("N", shown)
    times = re.compile(r", [\d.]+ ms, exact [\d.]+ ms")
    pairs = zip(number.findall(times.sub("", printed)), number.findall(times.sub("", shown)), strict=True)
    for found, expected in pairs:
        assert float(found.replace(",", "")) == pytest.approx(float(expected.replace(",", "")), rel=0.03, abs=0.02)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("curl")], ids=str)
def test_requests_answer_what_readme_shows(example: Example, environment: dict[str, str], server: str) -> None:
    answered = json.loads(_run(example.command.replace("http://127.0.0.1:8000", server), environment))
    assert [hit["title"] for hit in answered["hits"]] == re.findall(r'"title": "([^"]*)"', example.printed)


def test_readme_shows_searches_requests_and_nothing_untested() -> None:
    commands = [example.command.split()[0] + " " + example.command.split()[1] for example in EXAMPLES]
    assert commands.count("phosphene search") >= 3
    assert sum(command.startswith("curl") for command in commands) >= 1
    tested = ("phosphene search", "phosphene generate", "phosphene calibrate", "curl")
    assert [command for command in commands if not command.startswith(tested)] == ["phosphene ingest"] * 2


def test_the_ingest_and_its_status_read_as_shown(environment: dict[str, str], tmp_path: Path) -> None:
    shown = [example for example in EXAMPLES if example.command.startswith("phosphene ingest")]
    pictures = tmp_path / "Pictures"
    pictures.mkdir()
    first, second = (shown[0].printed, shown[1].printed)
    assert re.fullmatch(r"added \d+, unchanged \d+, updated \d+, quarantined \d+", first.splitlines()[0])
    (pictures / "holiday.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (pictures / "letter.jpg").write_text("Dear librarian, this is no picture.")
    fresh = {**environment, "PHOSPHENE_DATA": str(tmp_path / "data")}
    _run(f"phosphene ingest {pictures}", fresh)
    reasons = {line.split(": ", 1)[1] for line in _run("phosphene ingest status", fresh).splitlines() if ".jpg" in line}
    assert reasons == {line.split(": ", 1)[1] for line in second.splitlines() if ".jpg" in line}
