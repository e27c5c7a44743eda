"""Runs what docs/lists.md shows, on the demo catalogue, and compares pictures and counts."""

from __future__ import annotations

import re

import pytest

from tests.docs.examples import REPOSITORY, Example, Shell, described, examples, titles

PAGE = "docs/lists.md"
EXAMPLES = examples(PAGE)
FILES = {"csv": "places.csv", "python": "house.py"}


@pytest.fixture(scope="module")
def supplied(shell: Shell) -> Shell:
    """A shell in a folder that holds the files of the page."""
    shown = dict(re.findall(r"```(csv|python)\n(.*?)```", (REPOSITORY / PAGE).read_text(), re.DOTALL))
    for kind, name in FILES.items():
        (shell.folder / name).write_text(shown[kind])
    return shell


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_commands_find_and_count_what_the_page_shows(example: Example, supplied: Shell) -> None:
    """One after the other: places are read in before they are asked for."""
    printed = supplied.run(example.command)
    if "search" not in example.command:
        assert printed == example.printed
        return
    shown = titles(example.printed)
    assert shown
    assert titles(printed) == shown
    assert described(printed) == described(example.printed)
    assert _counts(printed) == _counts(example.printed)
    assert printed.count("like it by cosine") == example.printed.count("like it by cosine")


def _counts(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if " (of " in line]


def test_the_page_shows_each_way_to_arrange_a_list() -> None:
    options = " ".join(example.command for example in EXAMPLES)
    assert all(one in options for one in ("--diversity", "--collapse", "--group-by", "--facets", "RERANK", "place="))
    assert any(_counts(example.printed) for example in EXAMPLES)
