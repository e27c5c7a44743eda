"""This process among the others: which space it answers from and which are open, told through the catalogue.

So a change of the model need not guess how long the others take to go over. A process that holds an embedded data
folder has no others: nothing is written then.
"""

from __future__ import annotations

import logging
import threading
from time import monotonic

from phosphene.catalog.processes import Processes
from phosphene.catalog.records import Process, ProcessRole
from phosphene.errors import PhospheneError
from phosphene.open_spaces import LOOK_S, OpenSpaces

HEARTBEAT_S = 5.0

log = logging.getLogger(__name__)


class Presence:
    """Shows one engine to the others from `show` to `hide`. Thread-safe. `alone`: there are no others."""

    def __init__(self, processes: Processes, spaces: OpenSpaces, *, name: str, alone: bool) -> None:
        self._processes, self._spaces, self._name, self._alone = processes, spaces, name, alone
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._role: ProcessRole | None = None
        self._thread: threading.Thread | None = None

    def show(self, role: ProcessRole) -> None:
        """Tell from now on, from a thread of its own, which also looks whether another space is to answer."""
        with self._lock:
            self._role = role
            if self._alone or self._thread is not None:
                return
            self._stop.clear()
            self._thread = threading.Thread(target=self._renew, args=(role,), name="presence", daemon=True)
            self._thread.start()

    def hide(self) -> None:
        """Tell no longer; what was told is taken back."""
        with self._lock:
            self._role = None
            thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            thread.join(LOOK_S)

    def living(self) -> list[Process]:
        """Give the processes that are up, this one among them where it is shown."""
        if not self._alone:
            return self._processes.living()
        here = None if self._role is None else self._now(self._role)
        return [] if here is None else [here]

    def others_with(self, space: str) -> list[Process]:
        """Give the other processes that have a space open."""
        return [one for one in self.living() if one.name != self._name and space in one.opened]

    def _now(self, role: ProcessRole) -> Process | None:
        """Say how it is here; None as long as no space is open."""
        answers, opened = self._spaces.standing()
        return None if answers is None else Process(self._name, role, answers, opened)

    def _renew(self, role: ProcessRole) -> None:
        told: Process | None = None
        again_at = 0.0
        while not self._stop.wait(LOOK_S / 2):
            now = self._now(role)
            if now is None:
                continue
            try:
                self._spaces.look()
                if now != told or monotonic() >= again_at:
                    self._processes.report(now)
                    told, again_at = now, monotonic() + HEARTBEAT_S
            except PhospheneError as error:  # the others take it for dead after a while, and go on
                log.debug("can't tell the others that it is up: %s", error)
        try:
            self._processes.leave(self._name)
        except PhospheneError as error:
            log.debug("can't tell the others that it ends: %s", error)
