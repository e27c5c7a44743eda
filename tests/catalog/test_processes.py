"""Processes that are up, and what they answer from."""

from __future__ import annotations

import pytest

from phosphene.catalog import processes
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import Process, ProcessRole
from tests.catalog.samples import OTHER_SPACE, SPACE

ONE = Process("one/1/a", ProcessRole.SERVER, SPACE.id, frozenset({SPACE.id}))
TWO = Process("two/2/b", ProcessRole.WORKER, SPACE.id, frozenset({SPACE.id, OTHER_SPACE.id}))


def test_each_tells_of_itself_until_it_ends(catalog: Catalog) -> None:
    catalog.processes.report(TWO)
    catalog.processes.report(ONE)
    assert catalog.processes.living() == [ONE, TWO]
    moved = Process(ONE.name, ONE.role, OTHER_SPACE.id, frozenset({OTHER_SPACE.id}))
    catalog.processes.report(moved)
    assert catalog.processes.living() == [moved, TWO]
    catalog.processes.leave(ONE.name)
    assert catalog.processes.living() == [TWO]


def test_one_that_has_said_nothing_for_long_is_taken_for_dead(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.processes.report(ONE)
    monkeypatch.setattr(processes, "LIVING_S", -3600.0)
    assert catalog.processes.living() == []
    catalog.processes.report(TWO)
    monkeypatch.setattr(processes, "LIVING_S", 3600.0)
    assert catalog.processes.living() == []  # rows of the dead go as others tell of themselves
    catalog.processes.report(TWO)
    assert catalog.processes.living() == [TWO]
