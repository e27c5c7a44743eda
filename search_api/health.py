"""Whether the service can do its work now: each part is asked for a sign of life, and none is waited for long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from phosphene.assemble import Engine
from phosphene.errors import InvalidSettings, Unavailable
from phosphene.jobs import QUEUES, CeleryJobs, Jobs, LocalJobs
from phosphene.types import PointId
from search_api.probes import OK, PROBE_S, Probe, answers

MODEL_STUCK_S = 60.0  # one batch of texts takes a fraction of a second
WORKERS_ANSWER_S = 2.0
WORKERS_ASKED_EVERY_S = 10.0
WORKERS_SEEN_S = 60.0  # an answer counts for so long: a busy network loses one
_NOBODY = PointId(UUID(int=0))


class Health:
    """Asks the parts of one engine and its jobs. Raises InvalidSettings for a queue that there is not."""

    def __init__(self, engine: Engine, jobs: Jobs) -> None:
        self._stores = {
            "catalogue": Probe(engine.catalog.ping),
            "blobs": Probe(lambda: engine.blobs.exists("readiness")),
            "vectors": Probe(lambda: _check_vectors(engine)),
        }
        self._look = Probe(engine.spaces.look)
        self._model = Probe(lambda: _check_model(engine))
        self._jobs = jobs
        self._workers: _Workers | None = None
        if isinstance(jobs, CeleryJobs):
            self._stores["broker"] = Probe(jobs.ping)
            self._workers = _Workers(jobs, needed=engine.settings.ready_queues)

    async def stores(self) -> dict[str, str]:
        """Tell of each store that it is ok, or what it said, or for how long it has said nothing."""
        self._look.answer()  # a change of the model is noticed also where nobody searches; it is not waited for
        return await answers(self._stores)

    async def work(self) -> dict[str, str]:
        """Tell the same of those who do the work: the model, the threads for requests, workers or job threads."""
        looks = [answers({"model": self._model}), _free_thread()]
        if self._workers is not None:
            looks.append(self._workers.look())
        said: dict[str, str] = {}
        for one in await asyncio.gather(*looks):
            said |= one
        if isinstance(self._jobs, LocalJobs):
            said |= {f"thread {name}": trouble or OK for name, trouble in self._jobs.trouble().items()}
        return said


def _check_vectors(engine: Engine) -> None:
    with engine.spaces.holding() as space:
        space.index.vectors([_NOBODY])


def _check_model(engine: Engine) -> None:
    busy_s = engine.texts.busy_s
    if busy_s > MODEL_STUCK_S:
        raise Unavailable(f"the model has been embedding one batch of texts for {busy_s:.0f} s")


async def _free_thread() -> dict[str, str]:
    """Tell whether requests get a thread: they share some forty, which a store that hangs can take all of."""
    try:
        async with asyncio.timeout(PROBE_S):
            await run_in_threadpool(_nothing)
    except TimeoutError:
        return {"requests": f"no thread came free for one within {PROBE_S:g} s: something that they wait for hangs"}
    return {"requests": OK}


def _nothing() -> None:
    """Do what a thread for requests can do at once."""


class _Workers:
    """Which queues have a worker, and in which tasks one hangs. All are asked through the broker, every few seconds."""

    def __init__(self, jobs: CeleryJobs, *, needed: Sequence[str]) -> None:
        unknown = sorted(set(needed) - set(QUEUES))
        if unknown:
            message = f"PHOSPHENE_READY_QUEUES names {', '.join(unknown)}: there are {', '.join(QUEUES)}"
            raise InvalidSettings(message)
        self._jobs = jobs
        self._needed = needed
        self._seen: dict[str, float] = {}  # when a worker last said that it takes from a queue
        self._stuck: dict[str, str] = {}  # by the queue that the task came from
        self._asked_at = -WORKERS_ASKED_EVERY_S
        self._probe = Probe(self._ask)

    async def look(self) -> dict[str, str]:
        if not self._needed:
            return {}
        if time.monotonic() - self._asked_at >= WORKERS_ASKED_EVERY_S:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await asyncio.shield(asyncio.wrap_future(self._probe.answer()))
        return {f"queue {name}": self._said(name) for name in self._needed}

    def _ask(self) -> None:
        workers = self._jobs.standing(timeout_s=WORKERS_ANSWER_S)
        served = frozenset().union(*(one.queues for one in workers.values()))
        self._stuck = {queue: f"worker {name}: {line}" for name, one in workers.items() for queue, line in one.stuck}
        now = time.monotonic()
        self._seen.update(dict.fromkeys(served, now))
        if served.issuperset(self._needed):  # else the next look asks again: workers may be starting
            self._asked_at = now

    def _said(self, queue: str) -> str:
        seen = self._seen.get(queue)
        if seen is None:
            return "no worker takes from it"
        if queue in self._stuck:
            return self._stuck[queue]
        silent_s = time.monotonic() - seen
        return OK if silent_s < WORKERS_SEEN_S else f"no worker has shown life for {silent_s:.0f} s"
