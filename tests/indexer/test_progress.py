from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from indexer.pipeline import ingest
from indexer.progress import PlainProgress, RichProgress, Snapshot, duration, progress_for
from phosphene.assemble import Engine
from phosphene.catalog.records import IngestCounts
from phosphene.types import DEFAULT_TENANT
from tests.indexer.conftest import save_pictures


class Collected:
    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.closed = 0

    def report(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def close(self) -> None:
        self.closed += 1


def test_progress_tells_counts_total_rate_and_what_remains(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 40)
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no")
    progress = Collected()
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=DEFAULT_TENANT, progress=progress)
    last = progress.snapshots[-1]
    assert last.counts == IngestCounts(added=40, quarantined=1)
    assert last.total == 41
    assert last.rate > 0
    assert last.remaining_s == 0
    assert progress.closed == 1
    totals = [snapshot.counts.total for snapshot in progress.snapshots]
    assert totals == sorted(totals)


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, every_s=3600)
    for added in range(3):
        progress.report(
            Snapshot("embedding", IngestCounts(added=added, quarantined=1), total=1000, rate=12.34, remaining_s=75)
        )
    assert stream.getvalue() == ""
    progress.close()
    assert stream.getvalue() == ("embedding: 3 of 1,000 pictures, 2 added, 1 quarantined, 12.3/s, 1 min 15 s left\n")
    eager = PlainProgress(stream, every_s=0)
    eager.report(Snapshot("reading"))
    eager.close()
    assert stream.getvalue().count("reading: 0 pictures\n") == 1


def test_a_bar_is_drawn_on_terminals_only() -> None:
    stream = io.StringIO()
    bar = RichProgress(Console(file=stream, force_terminal=True, width=100))
    bar.report(Snapshot("embedding", IngestCounts(added=5), total=10, rate=2.5, remaining_s=2))
    bar.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "embedding" in shown
    assert "5/10" in shown
    assert "2.5/s  2 s left" in shown
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
    assert isinstance(progress_for(sys.stderr), PlainProgress | RichProgress)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3725, "1 h 2 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
