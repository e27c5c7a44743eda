"""Holding on to a lease while one works: what a dead process held is free again within seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from phosphene.errors import PhospheneError

RENEWALS = 4  # in the time of one lease: three may fail

log = logging.getLogger(__name__)


@contextmanager
def holding(renew: Callable[[], None], *, lease_s: float) -> Iterator[None]:
    """Call `renew` now and then, from a thread, until the block ends."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(lease_s / RENEWALS):
            try:
                renew()
            except PhospheneError as error:  # the work goes on; it may be done twice, which changes nothing
                log.warning("a lease could not be renewed: %s", error)

    heart = threading.Thread(target=beat, name="lease", daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()


@contextmanager
def ending_in(seconds: float) -> Iterator[threading.Event]:
    """Give an event that is set after a while."""
    enough = threading.Event()
    timer = threading.Timer(seconds, enough.set)
    timer.daemon = True
    timer.start()
    try:
        yield enough
    finally:
        timer.cancel()
