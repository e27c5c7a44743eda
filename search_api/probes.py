"""Questions that may never be answered: asked in threads of their own, and waited for a bounded time.

A thread may hang as long as it likes: the answer says so, and its part is not asked again before it has come back. The
threads that requests share are not used: they may all hang on the very thing that is asked about.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from phosphene.errors import PhospheneError

OK = "ok"
PROBE_S = 4.0


class Probe:
    """One question, asked by at most one thread at a time."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: Future[str] | None = None
        self.asked_at = 0.0  # by time.monotonic()

    def answer(self) -> Future[str]:
        """Ask, unless the last question is still waiting for its answer."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = Future()
                self._answer.set_running_or_notify_cancel()  # nobody who goes away can cancel it for the others
                self.asked_at = time.monotonic()
                threading.Thread(target=self._run, args=(self._answer,), name="probe", daemon=True).start()
            return self._answer

    def _run(self, answer: Future[str]) -> None:
        try:
            self._ask()
        except PhospheneError as error:
            answer.set_result(str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the part is not well
            answer.set_result(f"broken: {type(error).__name__}")
        else:
            answer.set_result(OK)


async def answers(probes: Mapping[str, Probe]) -> dict[str, str]:
    """Ask all at once; give what they say, or for how long they have said nothing."""
    asked = {name: asyncio.wrap_future(probe.answer()) for name, probe in probes.items()}
    await asyncio.wait(asked.values(), timeout=PROBE_S)
    said = {}
    for name, answer in asked.items():
        if answer.done():
            said[name] = answer.result()
        else:
            silent_s = max(PROBE_S, time.monotonic() - probes[name].asked_at)
            said[name] = f"no answer for {silent_s:.0f} s"
    return said
