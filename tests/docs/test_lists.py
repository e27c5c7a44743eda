"""Runs what docs/lists.md shows, on the demo catalogue, and compares pictures and counts."""

from __future__ import annotations

import pytest

from tests.docs.examples import Example, Shell, examples, titles

EXAMPLES = examples("docs/lists.md")


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_commands_find_and_count_what_the_page_shows(example: Example, shell: Shell) -> None:
    shown = titles(example.printed)
    assert shown
    printed = shell.run(example.command)
    assert titles(printed) == shown
    assert _counts(printed) == _counts(example.printed)
    assert printed.count("like it by cosine") == example.printed.count("like it by cosine")


def _counts(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if " (of " in line]


def test_the_page_shows_each_way_to_arrange_a_list() -> None:
    options = " ".join(example.command for example in EXAMPLES)
    assert all(one in options for one in ("--diversity", "--collapse", "--group-by", "--facets"))
    assert any(_counts(example.printed) for example in EXAMPLES)
