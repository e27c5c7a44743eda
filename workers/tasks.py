"""The tasks: thin. What they do is in indexer.jobs, called alike by a thread and by these.

A task is only a doorbell: leases and attempts stand in the catalogue, so that starting one twice changes nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from celery import Task, current_app, shared_task
from celery.signals import task_prerun, worker_process_init, worker_process_shutdown

from indexer.jobs import handlers
from phosphene import logs, tracing
from phosphene.assemble import Engine, open_engine
from phosphene.catalog.records import ProcessRole
from phosphene.errors import PhospheneError, Unavailable
from phosphene.jobs import GENERATE_LIMIT_S, HEADER, TIME_LIMIT_S, CeleryJobs, JobName, going_on
from workers.celery_app import TROUBLE, broker_of, log_to_stderr
from workers.children import FOLDER, at_task

log = logging.getLogger(__name__)


class _Child:
    """What one child process holds from its start to its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._jobs: CeleryJobs | None = None
        self._handlers: Mapping[JobName, Callable[..., None]] = {}

    def open(self) -> Mapping[JobName, Callable[..., None]]:
        """Give the handlers; at first, open the stores and load the model."""
        with self._lock:
            if self._engine is None:
                settings = current_app.conf["phosphene_settings"]
                engine = open_engine(settings, command="phosphene worker")
                try:
                    engine.warm()
                    engine.current.ready_for_pictures()
                except BaseException:
                    engine.close()
                    raise
                engine.presence.show(ProcessRole.WORKER)
                self._engine = engine
                self._jobs = CeleryJobs(broker_of(settings))
                self._handlers = handlers(engine, self._jobs)
            return self._handlers

    def close(self) -> None:
        with self._lock:
            if self._jobs is not None:
                self._jobs.close()
            if self._engine is not None:
                self._engine.close()
            self._engine, self._jobs, self._handlers = None, None, {}


_child = _Child()


@worker_process_init.connect
def _start(**_: object) -> None:
    log_to_stderr(current_app.conf["phosphene_settings"])
    tracing.start("phosphene-worker")
    try:
        _child.open()
    except Unavailable as error:
        log.warning("%s; the first task tries again", error)
    except PhospheneError as error:
        _end_worker(error)


def _end_worker(error: PhospheneError) -> None:
    """Stop the worker with a reason that trying again does not mend."""
    log.error("%s", error)
    folder = os.environ.get(FOLDER)
    if folder is not None:
        (Path(folder) / TROUBLE).write_text(str(error), encoding="utf-8")
        os.kill(os.getppid(), signal.SIGTERM)


@worker_process_shutdown.connect
def _stop(**_: object) -> None:
    _child.close()
    tracing.stop()


def _headers(task: Task[..., None]) -> Mapping[str, str]:
    """Give what its sender has sent along."""
    found = (task.request.headers or {}).get(HEADER)
    return found if isinstance(found, dict) else {}


@task_prerun.connect
def _name(task_id: str, task: Task[..., None], **_: object) -> None:
    """Let the lines of this child say what it is at, until its next task: Celery's own among them."""
    logs.set_ids({**_headers(task), "task_id": task_id})


def _do(task: Task[..., None], name: JobName, arguments: Mapping[str, Any]) -> None:
    with at_task(name), going_on(name, _headers(task)):
        _child.open()[name](**arguments)


_OPTIONS: dict[str, Any] = {
    "bind": True,
    "ignore_result": True,
    "throws": (PhospheneError,),  # expected: logged in one line
    "autoretry_for": (Unavailable,),
    "retry_backoff": 2,  # seconds, doubled each time
    "retry_backoff_max": 300,
    "retry_jitter": True,
    "default_retry_delay": 10,
    "max_retries": 8,
}


@shared_task(
    name=JobName.EMBED.value,
    acks_late=True,
    retry_on_worker_lost=True,
    time_limit=TIME_LIMIT_S,
    **_OPTIONS,
)
def embed(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Embed a chunk of pictures. Redelivered when the worker dies; retried when only its child does."""
    _do(task, JobName.EMBED, arguments)


@shared_task(
    name=JobName.EMBED_ONLINE.value,
    acks_late=True,
    retry_on_worker_lost=True,
    time_limit=TIME_LIMIT_S,
    **_OPTIONS,
)
def embed_online(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Embed a single upload: as `embed`, from a queue that is looked into first."""
    _do(task, JobName.EMBED_ONLINE, arguments)


@shared_task(
    name=JobName.GENERATE.value,
    acks_late=True,
    retry_on_worker_lost=True,
    time_limit=GENERATE_LIMIT_S,
    **_OPTIONS,
)
def generate(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Draw a generation. What is delivered again while its lease lasts is left to the next recovery."""
    _do(task, JobName.GENERATE, arguments)


# Those below are acknowledged at once: they may run long, longer than brokers wait for an acknowledgement before they
# hand out a task a second time. A killed ingest is found by a sweep, a killed sweep is followed by the next, and a
# killed calibration leaves what was learned before: whoever wants it asks again.


@shared_task(name=JobName.INGEST.value, **(_OPTIONS | {"autoretry_for": ()}))
def ingest(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Read sources and register their pictures. Once it has begun, a failure is told by the ingest's own state."""
    try:
        with at_task(JobName.INGEST):
            _child.open()
    except Unavailable as error:
        raise task.retry(exc=error) from error
    _do(task, JobName.INGEST, arguments)


@shared_task(name=JobName.CALIBRATE.value, **_OPTIONS)
def calibrate(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Learn to tell matches in a tenant's catalogue, unless that was learned already."""
    _do(task, JobName.CALIBRATE, arguments)


@shared_task(name=JobName.SWEEP.value, **_OPTIONS)
def sweep(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Embed what waits and nobody is at."""
    _do(task, JobName.SWEEP, arguments)


@shared_task(name=JobName.RECOVER.value, **_OPTIONS)
def recover(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Have generations drawn that nobody is at."""
    _do(task, JobName.RECOVER, arguments)


@shared_task(name=JobName.REINDEX.value, **_OPTIONS)
def reindex(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Go on with a change of the model, if there is one."""
    _do(task, JobName.REINDEX, arguments)


@shared_task(name=JobName.DUPLICATES.value, **_OPTIONS)
def duplicates(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Compare a tenant's pictures that were not compared yet."""
    _do(task, JobName.DUPLICATES, arguments)


@shared_task(name=JobName.CATALOGUE.value, **_OPTIONS)
def catalogue(task: Task[..., None], **arguments: Any) -> None:  # noqa: ANN401  what was sent
    """Do a job of a whole catalogue, unless somebody is at it."""
    _do(task, JobName.CATALOGUE, arguments)
