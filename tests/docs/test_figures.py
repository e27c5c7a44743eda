"""Each command that a page, a card or a recipe names beside a figure exists, and knows the options shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.examples import REPOSITORY

PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "phosphene" / "starter").glob("*/MODEL_CARD.md")),
    *sorted((REPOSITORY / "training").glob("*/README.md")),
]
_COMMAND = re.compile(r"python -m\s+((?:benchmarks|training)(?:\.\w+)+)([^`\n#]*)")


def commands() -> list[tuple[str, str, list[str]]]:
    """Where a script is named, its module, and the options that it is given."""
    return [
        (page.name, module, re.findall(r"(?<=\s)--[a-z-]+", options))
        for page in PAGES
        for module, options in _COMMAND.findall(page.read_text())
    ]


def script(module: str) -> Path:
    path = REPOSITORY / module.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def test_many_scripts_are_named() -> None:
    assert len({module for _, module, _ in commands()}) > 10


@pytest.mark.parametrize(("page", "module", "options"), commands(), ids=str)
def test_the_script_is_there_and_has_the_options(page: str, module: str, options: list[str]) -> None:
    source = script(module).read_text()
    assert 'if __name__ == "__main__":' in source, page
    known = source + (REPOSITORY / "training" / "unclip" / "arguments.py").read_text() * module.startswith(
        "training.unclip"
    )
    assert [option for option in options if f'"{option}"' not in known] == []


def test_readme_names_scripts_that_exist() -> None:
    named = re.findall(r"`(benchmarks/\w+\.py)`", (REPOSITORY / "README.md").read_text())
    assert named
    assert [one for one in named if not (REPOSITORY / one).exists()] == []


def test_make_bench_runs_scripts_that_can_be_run_alone() -> None:
    (pattern,) = re.findall(r"for script in (benchmarks/\S+);", (REPOSITORY / "Makefile").read_text())
    scripts = sorted(REPOSITORY.glob(pattern))
    assert len(scripts) > 20
    for path in scripts:
        assert f"python -m benchmarks.{path.stem}" in path.read_text()
