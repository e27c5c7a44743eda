"""How an ingest tells how far it is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn
from rich.progress import Progress as RichBar
from rich.text import Text

from phosphene.catalog.records import IngestCounts
from phosphene.life import show_life

_WINDOW_S = 30.0  # the rate is that of the last half minute


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far an ingest is. `rate` is in pictures a second that came to an end, whichever."""

    stage: str
    counts: IngestCounts = field(default_factory=IngestCounts)
    total: int | None = None  # pictures in all sources, where that is known
    rate: float = 0.0
    remaining_s: float | None = None

    def line(self) -> str:
        """Say it in one line."""
        counts = self.counts
        done = f"{counts.total:,}" + (f" of {self.total:,}" if self.total is not None else "")
        parts = [f"{self.stage}: {done} pictures"]
        names = ("added", "unchanged", "updated", "quarantined")
        parts += [f"{getattr(counts, name):,} {name}" for name in names if getattr(counts, name)]
        if self.rate:
            parts.append(f"{self.rate:.1f}/s")
        if self.remaining_s is not None:
            parts.append(f"{duration(self.remaining_s)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Write 75 s as "1 min 15 s", with two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress(Protocol):
    """Whoever wants to know how far an ingest is. Called from several threads, never from two at once."""

    def report(self, snapshot: Snapshot) -> None:
        """Take the latest state; called often."""
        ...

    def close(self) -> None:
        """Show the last state; called once."""
        ...


class SilentProgress:
    """Tells nobody."""

    def report(self, snapshot: Snapshot) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""


class PlainProgress:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None, *, every_s: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._next = time.monotonic() + every_s
        self._latest: Snapshot | None = None
        self._written: Snapshot | None = None

    def report(self, snapshot: Snapshot) -> None:
        """Write it if the last line is old enough."""
        self._latest = snapshot
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._write(snapshot)

    def close(self) -> None:
        """Write the last state, if it was not written yet."""
        if self._latest is not None and self._latest is not self._written:
            self._write(self._latest)

    def _write(self, snapshot: Snapshot) -> None:
        self._written = snapshot
        print(snapshot.line(), file=self._stream, flush=True)


class _Rate(TextColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("rate", "")), style="cyan")


class RichProgress:
    """A bar with rate and remaining time."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = RichBar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(""),
            console=console or Console(stderr=True),
            transient=False,
        )
        self._task = self._bar.add_task("opening", total=None)
        self._bar.start()

    def report(self, snapshot: Snapshot) -> None:
        """Move the bar."""
        told = f"{snapshot.rate:.1f}/s" if snapshot.rate else ""
        if snapshot.remaining_s is not None:
            told += f"  {duration(snapshot.remaining_s)} left"
        if snapshot.counts.quarantined:
            told += f"  {snapshot.counts.quarantined:,} quarantined"
        self._bar.update(
            self._task,
            description=snapshot.stage,
            total=snapshot.total,
            completed=snapshot.counts.total,
            rate=told.strip(),
        )

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


def progress_for(stream: TextIO) -> Progress:
    """Choose a bar on a terminal and plain lines elsewhere."""
    return RichProgress(Console(file=stream)) if stream.isatty() else PlainProgress(stream)


class Tally:
    """Counts what comes to an end, from any thread, and tells a Progress."""

    def __init__(self, progress: Progress, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._now = Snapshot(stage="opening")

    def stage(self, name: str) -> None:
        """Say what is being done now."""
        with self._lock:
            if not self._now.counts.total:  # loading a model is no part of the rate
                self._recent = deque([(self._clock(), 0)])
            self._tell(replace(self._now, stage=name))

    def total(self, pictures: int) -> None:
        """Say how many there will be."""
        with self._lock:
            self._tell(replace(self._now, total=pictures))

    def add(self, *, added: int = 0, unchanged: int = 0, updated: int = 0, quarantined: int = 0) -> None:
        """Count pictures that came to an end."""
        with self._lock:
            now = self._now.counts
            counts = IngestCounts(
                now.added + added, now.unchanged + unchanged, now.updated + updated, now.quarantined + quarantined
            )
            moment = self._clock()
            self._recent.append((moment, counts.total))
            while len(self._recent) > 2 and self._recent[0][0] < moment - _WINDOW_S:
                self._recent.popleft()
            since, before = self._recent[0]
            rate = (counts.total - before) / (moment - since) if moment > since else 0.0
            self._tell(replace(self._now, counts=counts, rate=rate))

    def _tell(self, snapshot: Snapshot) -> None:
        remaining = None
        if snapshot.total is not None and snapshot.rate > 0:
            remaining = max(0, snapshot.total - snapshot.counts.total) / snapshot.rate
        self._now = replace(snapshot, remaining_s=remaining)
        self._progress.report(self._now)
        show_life()
