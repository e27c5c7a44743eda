"""Runs what docs/labels.md shows, on the demo catalogue through a running server, and compares what comes out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.docs.examples import Example, Shell, examples, serving

EXAMPLES = examples("docs/labels.md")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@pytest.fixture(scope="module")
def named(shell: Shell) -> Iterator[Shell]:
    """A shell that knows a server by its address alone."""
    with serving(shell) as server:
        elsewhere = {name: value for name, value in shell.environment.items() if name != "PHOSPHENE_DATA"}
        yield replace(server, environment={**elsewhere, "PHOSPHENE_SERVER": server.server})


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


def test_all_that_the_page_shows_comes_out_in_its_order(named: Shell) -> None:
    assert len(EXAMPLES) >= 5
    without = {name: value for name, value in named.environment.items() if name != "PHOSPHENE_SERVER"}
    alone = replace(named, environment=without)
    for example in EXAMPLES:
        of_a_model = example.command.startswith("phosphene evaluate")  # asks no catalogue, and so no server
        same((alone if of_a_model else named).run(example.command), example)
