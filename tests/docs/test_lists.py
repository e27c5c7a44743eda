"""Runs what docs/lists.md shows, on the demo catalogue, and compares pictures and counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_readme import CATALOGUE, Example, _examples, _run, _titles

EXAMPLES = _examples("docs/lists.md")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("lists")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    environment = {
        **inherited,
        "PHOSPHENE_DATA": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HERE": str(folder),
        "COLUMNS": "120",
    }
    subprocess.run(["phosphene", "ingest", str(CATALOGUE)], env=environment, cwd=folder, check=True, timeout=600)
    return environment


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_commands_find_and_count_what_the_page_shows(example: Example, environment: dict[str, str]) -> None:
    shown = _titles(example.printed)
    assert shown
    printed = _run(example.command, environment)
    assert _titles(printed) == shown
    assert _counts(printed) == _counts(example.printed)
    assert printed.count("like it") == example.printed.count("like it")


def _counts(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if " (of " in line]


def test_the_page_shows_each_way_to_arrange_a_list() -> None:
    options = " ".join(example.command for example in EXAMPLES)
    assert all(one in options for one in ("--diversity", "--collapse", "--group-by", "--facets"))
    assert any(_counts(example.printed) for example in EXAMPLES)
