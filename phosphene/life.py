"""Signs of life of a job: given by the code that gets on, so that a job that hangs gives none.

No timer gives them: its thread would go on while the job hangs.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TELL_EVERY_S = 1.0  # at most so often are others told


class Life:
    """When a job began, and when it was last seen to go on, by time.monotonic()."""

    def __init__(self, name: str, *, tell: Callable[[], None] | None = None) -> None:
        self.name = name
        self.seen = time.monotonic()
        self._tell, self._told = tell, self.seen

    def show(self) -> None:
        """Note that the job goes on, and tell so where that was not told a moment ago."""
        self.seen = time.monotonic()
        if self._tell is not None and self.seen - self._told >= TELL_EVERY_S:
            self._told = self.seen
            self._tell()


_LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("phosphene_life", default=None)


@contextmanager
def living(life: Life) -> Iterator[None]:
    """Have `show_life` speak of this job, in this thread and in those that are given its context."""
    set_back = _LIFE.set(life)
    try:
        yield
    finally:
        _LIFE.reset(set_back)


def show_life() -> None:
    """Say that the job of this thread goes on; says nothing where there is none."""
    life = _LIFE.get()
    if life is not None:
        life.show()
