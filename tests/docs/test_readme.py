"""Runs what README shows, on the demo catalogue, and compares what it shows with what comes out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.demo import PICTURES, environment
from tests.docs.examples import Example, Shell, described, examples, serving, titles

EXAMPLES = examples("README.md")


@pytest.fixture(scope="module")
def calibrated(shell: Shell) -> Shell:
    shell.run("phosphene calibrate")
    return shell


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("phosphene search")], ids=str)
def test_searches_find_what_readme_shows(example: Example, calibrated: Shell) -> None:
    shown = titles(example.printed)
    assert shown, "README shows no hits for this search"
    printed = calibrated.run(example.command)
    assert titles(printed) == shown
    assert described(printed) == described(example.printed)
    verdict, _, probability = printed.splitlines()[0].partition(": ")
    assert verdict == example.printed.partition(": ")[0]
    assert re.fullmatch(r"probability \d+%, a match from \d+%", probability)
    drawn = [line for line in example.printed.splitlines() if line.startswith("imagined: ")]
    assert drawn == [line for line in printed.splitlines() if line.startswith("imagined: ")]
    assert bool(drawn) is ("--generate" in example.command)


def test_a_picture_is_drawn_as_readme_shows(calibrated: Shell) -> None:
    example = next(one for one in EXAMPLES if one.command.startswith("phosphene generate"))
    name, seed, _ = re.split(r"\s{2,}", calibrated.run(example.command).strip())
    assert [name, seed] == re.split(r"\s{2,}", example.printed)[:2]
    with Image.open(calibrated.folder / name) as picture:
        red, green, blue = np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(axis=0)
        assert picture.size == (128, 128)
    assert red > max(green, blue) + 40  # it is a red heart on white


def test_calibrating_prints_what_readme_shows(calibrated: Shell) -> None:
    example = next(one for one in EXAMPLES if one.command == "phosphene calibrate")
    printed = calibrated.run(example.command)
    assert re.sub(r"\d+%", "N%", printed.strip()) == re.sub(r"\d+%", "N%", example.printed)


def test_evaluating_prints_what_its_page_shows(calibrated: Shell) -> None:
    (example,) = examples("docs/evaluate.md")
    printed, shown = calibrated.run(example.command).strip(), example.printed
    number = re.compile(r"\d[\d,]*(?:\.\d+)?")
    assert number.sub("N", printed) == number.sub("N", shown)
    times = re.compile(r", [\d.]+ ms, exact [\d.]+ ms")
    pairs = zip(number.findall(times.sub("", printed)), number.findall(times.sub("", shown)), strict=True)
    for found, expected in pairs:
        assert float(found.replace(",", "")) == pytest.approx(float(expected.replace(",", "")), rel=0.03, abs=0.02)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("curl")], ids=str)
def test_requests_answer_what_readme_shows(example: Example, calibrated: Shell) -> None:
    with serving(calibrated) as server:
        answered = json.loads(server.run(example.command))
    assert [hit["title"] for hit in answered["hits"]] == re.findall(r'"title": "([^"]*)"', example.printed)


def test_readme_shows_searches_requests_and_nothing_untested() -> None:
    commands = [example.command.split()[0] + " " + example.command.split()[1] for example in EXAMPLES]
    assert commands.count("phosphene search") >= 3
    assert sum(command.startswith("curl") for command in commands) >= 1
    tested = ("phosphene search", "phosphene generate", "phosphene calibrate", "curl")
    assert [command for command in commands if not command.startswith(tested)] == ["phosphene ingest"] * 2


def test_the_ingest_and_its_status_read_as_shown(tmp_path: Path) -> None:
    shown = [example for example in EXAMPLES if example.command.startswith("phosphene ingest")]
    pictures = tmp_path / "Pictures"
    pictures.mkdir()
    first, second = (shown[0].printed, shown[1].printed)
    assert first == f"added {PICTURES}, unchanged 0, updated 0, quarantined 0"  # as the demo's folder was made
    (pictures / "holiday.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (pictures / "letter.jpg").write_text("Dear librarian, this is no picture.")
    fresh = Shell(tmp_path, environment(tmp_path / "data"))
    fresh.run(f"phosphene ingest {pictures}")
    printed = fresh.run("phosphene ingest status").replace(str(pictures), "/home/ada/Pictures").splitlines()
    first_line, *faults = second.splitlines()
    assert printed[0].split("  ", 2)[2] == first_line.split("  ", 2)[2]
    assert printed[1:] == faults
