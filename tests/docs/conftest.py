"""A shell over a data folder of one's own, with the demo catalogue in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo import CATALOGUE, environment
from tests.docs.examples import Shell, serving


@pytest.fixture(scope="module")
def shell(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(demo_folder, folder / "data")
    return Shell(folder, {**environment(folder / "data"), "CATALOGUE": str(CATALOGUE)})


@pytest.fixture(scope="module")
def served(shell: Shell) -> Iterator[Shell]:
    """The same, with a server that the commands go through."""
    with serving(shell) as running:
        yield running
