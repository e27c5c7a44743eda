"""What is done to a whole catalogue and may outlast a request: keywords, labels, moderation, duplicates.

Each can be run again at will. So a job that lost its process is begun again by whoever hears of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

from indexer import moderation
from indexer.duplicates import compare_waiting
from indexer.holding import holding
from indexer.labelling import KeywordsAsked, write_keywords
from indexer.probing import apply_probe, usable_probe
from phosphene.assemble import Engine
from phosphene.catalog.records import CatalogueJob, CatalogueJobKind
from phosphene.errors import PhospheneError, Unavailable
from phosphene.jobs import JobName, Jobs
from phosphene.types import TenantId

MAX_ATTEMPTS = 5
MAX_RETRY_S = 300.0
TELL_AGAIN = 3.0  # leases: nobody has begun, so the broker may have lost the task
_AT_ONCE = 20

Done = tuple[dict[str, Any], bool]  # what became of it, and whether it was stopped before its end
Work = Callable[[Mapping[str, Any], Engine, TenantId, threading.Event | None], Done]


def ask(
    kind: CatalogueJobKind, arguments: Mapping[str, Any], *, engine: Engine, tenant: TenantId, jobs: Jobs
) -> CatalogueJob:
    """Have something done to a tenant's catalogue. Raises InvalidInput, NotFound, Overloaded, Unavailable.

    Where nobody can be told now, a sweep tells them later.
    """
    if kind is CatalogueJobKind.PROBE:
        usable_probe(str(arguments["name"]), engine=engine, tenant=tenant)
    if kind is CatalogueJobKind.KEYWORDS:
        _keywords_asked(arguments)
    job = engine.catalog.jobs.add(tenant, kind, arguments)
    with contextlib.suppress(Unavailable):
        jobs.send(JobName.CATALOGUE, {"job_id": str(job.id)})
    return job


def run_job(id_: UUID, *, engine: Engine, stop: threading.Event | None = None) -> None:
    """Do a job, unless it has ended or somebody is at it. `stop`: it is given back, to be begun again."""
    owner, lease_s = f"{engine.owner}/{uuid4().hex[:12]}", engine.settings.lease_s
    kept = engine.catalog.jobs
    job = kept.lease(id_, owner=owner, lease_s=lease_s)
    if job is None:
        return
    if job.attempts > MAX_ATTEMPTS:
        reason = f"given up: its process died or lost a store {MAX_ATTEMPTS} times"
        kept.finish(id_, owner=owner, result=None, error=reason)
        return
    enough = threading.Event() if stop is None else stop

    def renew() -> None:
        if not kept.renew(id_, owner=owner, lease_s=lease_s) and stop is None:
            enough.set()

    try:
        with holding(renew, lease_s=lease_s):
            result, stopped = _WORK[job.kind](job.arguments, engine, job.tenant, enough)
    except (Unavailable, KeyboardInterrupt, SystemExit) as error:
        retry_in_s = min(2.0**job.attempts, MAX_RETRY_S) if isinstance(error, Unavailable) else 0.0
        with contextlib.suppress(Unavailable):  # the lease ends by itself
            kept.release(id_, owner=owner, retry_in_s=retry_in_s)
        raise
    except PhospheneError as error:
        kept.finish(id_, owner=owner, result=None, error=str(error))
    except Exception as error:
        kept.finish(id_, owner=owner, result=None, error=f"broken: {type(error).__name__}; the log says more")
        raise
    else:
        if stopped:
            kept.release(id_, owner=owner)
        else:
            kept.finish(id_, owner=owner, result=result, error=None)


def resume_jobs(*, engine: Engine, jobs: Jobs | None, stop: threading.Event | None = None) -> int:
    """Take up jobs that nobody is at, here or by telling workers; gives how many."""
    lost = engine.catalog.jobs.lost(_AT_ONCE, idle_s=TELL_AGAIN * engine.settings.lease_s)
    for id_ in lost:
        if jobs is not None:
            jobs.send(JobName.CATALOGUE, {"job_id": str(id_)})
        elif stop is None or not stop.is_set():
            run_job(id_, engine=engine, stop=stop)
    return len(lost)


def _keywords_asked(arguments: Mapping[str, Any]) -> KeywordsAsked:
    words = arguments.get("words")
    return KeywordsAsked(**{**arguments, "words": None if words is None else tuple(words)})


def _keywords(arguments: Mapping[str, Any], engine: Engine, tenant: TenantId, stop: threading.Event | None) -> Done:
    done = write_keywords(_keywords_asked(arguments), engine=engine, tenant=tenant, stop=stop)
    return {"pictures": done.pictures, "with_keywords": done.with_keywords}, done.stopped


def _probe(arguments: Mapping[str, Any], engine: Engine, tenant: TenantId, stop: threading.Event | None) -> Done:
    done = apply_probe(str(arguments["name"]), engine=engine, tenant=tenant, stop=stop)
    return {"pictures": done.pictures, "labelled": done.labelled}, done.stopped


def _moderation(arguments: Mapping[str, Any], engine: Engine, tenant: TenantId, stop: threading.Event | None) -> Done:
    done = moderation.scan(min_score=arguments.get("min_score"), engine=engine, tenant=tenant, stop=stop)
    return {"pictures": done.pictures, "flagged": done.flagged}, done.stopped


def _duplicates(arguments: Mapping[str, Any], engine: Engine, tenant: TenantId, stop: threading.Event | None) -> Done:
    del arguments
    compared = compare_waiting(engine=engine, tenant=tenant, fill_in=True, stop=stop)
    return {"pictures": compared}, stop is not None and stop.is_set()


_WORK: Mapping[CatalogueJobKind, Work] = {
    CatalogueJobKind.KEYWORDS: _keywords,
    CatalogueJobKind.PROBE: _probe,
    CatalogueJobKind.MODERATION: _moderation,
    CatalogueJobKind.DUPLICATES: _duplicates,
}
