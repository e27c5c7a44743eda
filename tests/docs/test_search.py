"""Runs what the pages on asking, words, looks and near-duplicates show, and compares the pictures that come out.

On the demo catalogue: docs/search.md, docs/hybrid.md, docs/attributes.md, docs/duplicates.md.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_readme import CATALOGUE, Example, _examples, _run, _titles

EXAMPLES = [one for page in ("search", "hybrid", "attributes") for one in _examples(f"docs/{page}.md")]
DUPLICATES = _examples("docs/duplicates.md")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server over the demo catalogue, which the commands go through; its address is SERVED."""
    folder = tmp_path_factory.mktemp("search")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    environment = {
        **inherited,
        "PHOSPHENE_DATA": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HERE": str(folder),
        "COLUMNS": "120",
    }
    subprocess.run(["phosphene", "ingest", str(CATALOGUE)], env=environment, cwd=folder, check=True, timeout=600)
    with subprocess.Popen(
        ["phosphene", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        announced = re.search(r"http://\S+", process.stdout.readline())
        assert announced
        yield {**environment, "SERVED": announced[0]}
        process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("phosphene search")], ids=str)
def test_commands_find_what_the_page_shows(example: Example, environment: dict[str, str]) -> None:
    shown = _titles(example.printed)
    assert shown
    printed = _run(example.command, environment)
    assert _titles(printed) == shown
    assert re.findall(r"; has (.+)", printed) == re.findall(r"; has (.+)", example.printed)
    first, second = printed.splitlines()[:2]
    assert example.printed.startswith(first.partition(":")[0])
    if second.startswith("understood: "):
        assert second in example.printed
    else:
        assert "understood" not in example.printed


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("curl")], ids=str)
def test_requests_find_what_the_page_shows(example: Example, environment: dict[str, str]) -> None:
    answered = json.loads(_run(_to(example.command, environment), environment))
    assert [hit["title"] for hit in answered["hits"]] == re.findall(r'"title": "([^"]*)"', example.printed)


def test_near_duplicates_are_those_that_their_page_shows(environment: dict[str, str]) -> None:
    printed, (listed, asked) = _run(DUPLICATES[0].command, environment), DUPLICATES[1:]
    assert [line.rstrip() for line in printed.splitlines()] == DUPLICATES[0].printed.splitlines()

    (cluster,) = json.loads(_run(_to(listed.command, environment), environment))["clusters"]
    shown = re.findall(r'"title": "([^"]*)", "keep": (\w+)', listed.printed)
    assert [(one["title"], json.dumps(one["keep"])) for one in cluster["assets"]] == shown
    assert json.dumps(cluster["reason"]) in listed.printed
    (pair,) = cluster["pairs"]
    for name in ("probability", "bits", "likeness", "cosine"):
        said = re.search(rf'"{name}": ([\d.]+)', listed.printed)
        assert said is not None
        assert pair[name] == pytest.approx(float(said[1]), abs=0.01)
    assert json.loads(_run(_to(asked.command, environment), environment)) == json.loads(asked.printed)


def _to(command: str, environment: dict[str, str]) -> str:
    return command.replace("http://127.0.0.1:8000", environment["SERVED"])


def test_the_page_shows_both_kinds_and_nothing_untested() -> None:
    commands = [example.command.split()[0] for example in EXAMPLES]
    assert commands.count("curl") >= 4
    assert commands.count("phosphene") >= 4
    assert all(example.command.startswith(("phosphene search", "curl")) for example in EXAMPLES)
