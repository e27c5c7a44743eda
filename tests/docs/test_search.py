"""Runs what the pages on asking, words, looks and near-duplicates show, and compares the pictures that come out.

On the demo catalogue: docs/search.md, docs/hybrid.md, docs/attributes.md, docs/duplicates.md.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.docs.examples import Example, Shell, described, examples, titles

EXAMPLES = [one for page in ("search", "hybrid", "attributes") for one in examples(f"docs/{page}.md")]
DUPLICATES = examples("docs/duplicates.md")


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("phosphene search")], ids=str)
def test_commands_find_what_the_page_shows(example: Example, served: Shell) -> None:
    shown = titles(example.printed)
    assert shown
    printed = served.run(example.command)
    assert titles(printed) == shown
    assert described(printed) == described(example.printed)
    assert re.findall(r"; has (.+)", printed) == re.findall(r"; has (.+)", example.printed)
    first, second = printed.splitlines()[:2]
    assert example.printed.startswith(first.partition(":")[0])
    if second.startswith("understood: "):
        assert second in example.printed
    else:
        assert "understood" not in example.printed


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.command.startswith("curl")], ids=str)
def test_requests_find_what_the_page_shows(example: Example, served: Shell) -> None:
    answered = json.loads(served.run(example.command))
    assert [hit["title"] for hit in answered["hits"]] == re.findall(r'"title": "([^"]*)"', example.printed)


def test_near_duplicates_are_those_that_their_page_shows(served: Shell) -> None:
    printed, (listed, asked) = served.run(DUPLICATES[0].command), DUPLICATES[1:]
    assert [line.rstrip() for line in printed.splitlines()] == DUPLICATES[0].printed.splitlines()

    (cluster,) = json.loads(served.run(listed.command))["clusters"]
    shown = re.findall(r'"title": "([^"]*)", "keep": (\w+)', listed.printed)
    assert [(one["title"], json.dumps(one["keep"])) for one in cluster["assets"]] == shown
    assert json.dumps(cluster["reason"]) in listed.printed
    (pair,) = cluster["pairs"]
    for name in ("probability", "bits", "likeness", "cosine"):
        said = re.search(rf'"{name}": ([\d.]+)', listed.printed)
        assert said is not None
        assert pair[name] == pytest.approx(float(said[1]), abs=0.01)
    assert json.loads(served.run(asked.command)) == json.loads(asked.printed)


def test_the_page_shows_both_kinds_and_nothing_untested() -> None:
    commands = [example.command.split()[0] for example in EXAMPLES]
    assert commands.count("curl") >= 4
    assert commands.count("phosphene") >= 4
    assert all(example.command.startswith(("phosphene search", "curl")) for example in EXAMPLES)
