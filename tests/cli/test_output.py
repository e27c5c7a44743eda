"""What commands print."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from phosphene.cli import output
from phosphene.errors import PictureFault
from search_api.schemas import QuarantineEntry


def test_what_somebody_wrote_into_a_title_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.line("\x1b]0;owned\x07 a\x9b2Jb\tc\nd \N{CAT} \u05d0")
    output.note("\x1b[2J\rgone")
    printed = capsys.readouterr()
    mark = "\N{REPLACEMENT CHARACTER}"
    assert printed.out == f"{mark}]0;owned{mark} a{mark}2Jb\tc\nd \N{CAT} \u05d0\n"
    assert printed.err == f"{mark}[2J{mark}gone\n"


def test_an_entry_of_the_quarantine_is_one_line_whatever_its_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    entry = QuarantineEntry(
        uri="/pictures/a\nb\t.jpg",
        fault=PictureFault.EMPTY,
        reason="the file is empty",
        sha256=None,
        at=datetime.now(UTC),
    )
    output._quarantine([entry])
    assert capsys.readouterr().out == "  /pictures/a\\nb\\t.jpg: empty: the file is empty\n"
