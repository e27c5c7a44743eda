"""Ingests of workers: one at a time is at each, and what a worker left that died is taken up by another.

And pictures whose tasks the broker has lost.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from uuid import uuid4

from indexer.embedding import task_size
from indexer.holding import holding
from phosphene.assemble import Engine
from phosphene.catalog.records import IngestState
from phosphene.errors import Unavailable
from phosphene.jobs import CeleryJobs, JobName, Jobs
from phosphene.types import IngestId

MAX_RETRY_S = 300.0  # after the last of them
MAX_ATTEMPTS = 10  # without one new picture: a worker can be killed by chance while it passes over what is known
IDLE_INGEST_S = 900.0  # an ingest of a command, which no worker takes up, has lost its process after so long
TELL_AGAIN = 3.0  # leases: nobody has begun, so the broker may have lost the task
RESUMED_AT_ONCE = 100
HANDED_OUT_AT_ONCE = 32_768  # pictures; more when these are taken


def take_up(
    ingest: IngestId,
    run: Callable[[str | None, threading.Event | None], object],
    *,
    engine: Engine,
    alone: bool,
    stop: threading.Event | None,
) -> None:
    """Do what is left of an ingest, unless it has ended or somebody is at it.

    Where a store does not answer it is given back, to be taken up again after a while. `run` gets the name that it is
    leased under, and an event that ends it: `stop` where this process is alone with the ingest and needs no lease, else
    one that is set when the lease is lost to another.
    """
    if alone:
        run(None, stop)
        return
    owner = f"{engine.owner}/{uuid4().hex[:12]}"
    lease_s = engine.settings.lease_s
    taken = engine.catalog.lease_ingest(ingest, owner=owner, lease_s=lease_s)
    if taken is None:
        return
    if taken.attempts > MAX_ATTEMPTS:
        reason = f"given up: its worker died or lost a store {MAX_ATTEMPTS} times without one new picture"
        engine.catalog.finish_ingest(ingest, IngestState.FAILED, reason, owner=owner)
        return
    lost = threading.Event()

    def renew() -> None:
        if not engine.catalog.renew_ingest(ingest, owner=owner, lease_s=lease_s):
            lost.set()

    try:
        with holding(renew, lease_s=lease_s):
            run(owner, lost)
    except (Unavailable, KeyboardInterrupt, SystemExit) as error:
        retry_in_s = min(2.0**taken.attempts, MAX_RETRY_S) if isinstance(error, Unavailable) else 0.0
        with contextlib.suppress(Unavailable):  # the lease ends by itself
            engine.catalog.release_ingest(ingest, owner=owner, retry_in_s=retry_in_s)
        raise


def hand_out_again(*, engine: Engine, jobs: Jobs) -> int:
    """Tell workers of pictures that wait though no task is left for any: the broker has lost these. Gives how many.

    A sweep embeds what waits by itself, but it is one worker, and those with the GPUs may be others.
    """
    if not isinstance(jobs, CeleryJobs) or jobs.waiting(JobName.EMBED):
        return 0
    told = 0
    for space in engine.written():
        ids = engine.catalog.reindexes.left_behind(
            space.space.id, older_than_s=TELL_AGAIN * engine.settings.lease_s, limit=HANDED_OUT_AT_ONCE
        )
        size = task_size(space)
        for start in range(0, len(ids), size):
            jobs.send(JobName.EMBED, {"asset_ids": [str(id_) for id_ in ids[start : start + size]]})
        told += len(ids)
    return told


def resume_ingests(*, engine: Engine, jobs: Jobs) -> int:
    """Tell workers of ingests that nobody is at. Gives how many."""
    engine.catalog.interrupt_ingests(idle_s=IDLE_INGEST_S, orphans_only=True)
    lost = engine.catalog.lost_ingests(RESUMED_AT_ONCE, idle_s=TELL_AGAIN * engine.settings.lease_s)
    for ingest, job in lost.items():
        jobs.send(JobName.INGEST, {**job, "ingest_id": str(ingest)})
    return len(lost)
