"""What commands print."""

from __future__ import annotations

import pytest

from phosphene.cli import output


def test_what_somebody_wrote_into_a_title_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.line("\x1b]0;owned\x07 a\x9b2Jb\tc\nd \N{CAT} \u05d0")
    output.note("\x1b[2J\rgone")
    printed = capsys.readouterr()
    mark = "\N{REPLACEMENT CHARACTER}"
    assert printed.out == f"{mark}]0;owned{mark} a{mark}2Jb\tc\nd \N{CAT} \u05d0\n"
    assert printed.err == f"{mark}[2J{mark}gone\n"
