"""What a scraper reads: what this process has counted, and how things stand in the catalogue.

The catalogue is the truth about queues, whichever process works on them. It is asked at a scrape, within a bounded time
and not more often than every few seconds; where it does not answer, its gauges are left out, never repeated.
"""

from __future__ import annotations

import asyncio
import time

from phosphene import metrics
from phosphene.assemble import Engine
from phosphene.catalog.backlog import Backlog
from phosphene.catalog.records import Reindex
from phosphene.jobs import Jobs, LocalJobs
from search_api.health import Health
from search_api.probes import OK, Probe, answers

FRESH_S = 5.0  # several scrapers share one look


class Scrape:
    """Reads the metrics of one engine and its jobs."""

    def __init__(self, engine: Engine, jobs: Jobs, health: Health) -> None:
        self._engine, self._jobs, self._health = engine, jobs, health
        self._probe = Probe(self._look)
        self._seen: metrics.Readings = {}
        self._seen_at = -FRESH_S

    async def text(self) -> bytes:
        """Write all metrics, within seconds, whatever hangs."""
        catalogue, stores, work = await asyncio.gather(self._catalogue(), self._health.stores(), self._health.work())
        readings = dict(catalogue)
        readings[metrics.PART_UP] = {(part,): float(said == OK) for part, said in (stores | work).items()}
        if isinstance(self._jobs, LocalJobs):
            waiting = self._jobs.waiting_by_thread()
            readings[metrics.JOBS_WAITING] = {(thread,): count for thread, count in waiting.items()}
        return metrics.exposition(readings)

    async def _catalogue(self) -> metrics.Readings:
        if time.monotonic() - self._seen_at >= FRESH_S:
            said = await answers({"backlog": self._probe})
            if said["backlog"] != OK:
                return {gauge: {} for gauge in metrics.OF_CATALOGUE}
        return self._seen

    def _look(self) -> None:
        self._seen = readings_of(self._engine.catalog.backlog(), self._engine.catalog.reindexes.active())
        self._seen_at = time.monotonic()


def readings_of(backlog: Backlog, reindex: Reindex | None) -> metrics.Readings:
    """Give what the gauges of the catalogue say."""
    work: dict[tuple[str, ...], float] = {}
    for space, queue in backlog.queues.items():
        for state in ("waiting", "leased", "lost", "retried"):
            work[space, state] = getattr(queue, state)
    return {
        metrics.WORK: work,
        metrics.WORK_AGE: {(space,): queue.oldest_s for space, queue in backlog.queues.items()},
        metrics.INDEX_LAG: {("registered",): backlog.registered},
        metrics.INDEX_LAG_AGE: {("registered",): backlog.registered_oldest_s},
        metrics.GENERATIONS: {(state.value,): count for state, count in backlog.generations.items()},
        metrics.GENERATIONS_AGE: {(state.value,): age for state, age in backlog.oldest_s.items()},
        metrics.REINDEX: {} if reindex is None else {("total",): reindex.total, ("done",): reindex.done},
    }
