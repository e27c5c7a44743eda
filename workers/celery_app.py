"""The worker process: `phosphene worker` comes here.

Prefork with spawned children, because CUDA does not survive a fork; each child loads the model before its first task.
Children that can't start for a reason that stays (no model, damaged data) end the worker with that reason.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from celery import Celery
from celery.signals import setup_logging, worker_shutting_down
from celery.utils.log import get_multiprocessing_logger
from kombu import Exchange, Queue

from phosphene import logs
from phosphene.assemble import open_engine
from phosphene.errors import InvalidSettings, ModelError, Unavailable
from phosphene.jobs import DEAD_LETTERS, QUEUE_OF, QUEUES, CeleryJobs, JobName, make_app
from phosphene.settings import Settings
from workers.children import FOLDER, folder_of_children
from workers.scraped import scraped

LOAD_MODEL_S = 600  # Celery gives a child 4 s by itself
SWEEP_EVERY_S = 10.0  # with the lease of 20 s: how long at most nobody is at what a dead worker held
REINDEX_EVERY_S = 5.0
STOP_S = 30.0  # for tasks under way when a worker is told to stop; those that are not done by then are given back
TROUBLE = "trouble.txt"  # in the folder of the children: why one can't start
RECOVER_EVERY_S = 15.0  # half of what the lease of a generation lasts

log = logging.getLogger(__name__)


def worker_app(settings: Settings) -> Celery:
    """Configure Celery for consuming: jobs.make_app plus what only workers need."""
    app = make_app(broker_of(settings))
    app.conf.update(
        imports=("workers.tasks",),
        worker_pool="prefork",
        worker_pool_start_method="spawn",
        worker_proc_alive_timeout=LOAD_MODEL_S,
        worker_prefetch_multiplier=1,  # a task is minutes of work: none waits behind another
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=0,  # _stopping_in_time has waited by then
        worker_redirect_stdouts=False,
        phosphene_settings=settings,  # travels to the children with the app
    )
    return app


@setup_logging.connect
def _leave_logging_alone(*, loglevel: int, **_: object) -> None:
    """Celery sets up no logging where somebody listens here: `log_to_stderr` does.

    A child looks already, before it is told of its settings, whether lines of tasks that end are wanted.
    """
    logging.getLogger().setLevel(loglevel)
    of_processes = get_multiprocessing_logger()  # says which child died, past all handlers if it is let
    if of_processes is not None:
        of_processes.propagate = True
        of_processes.setLevel(logging.WARNING)


def log_to_stderr(settings: Settings) -> None:
    """Write log lines as the settings say."""
    logs.configure(settings.log_format, level=settings.log_level or "info", secrets=list(settings.secrets()))


def broker_of(settings: Settings) -> str:
    """Name the broker. Raises InvalidSettings where none is set."""
    if settings.broker_url is None:
        msg = "a worker takes its tasks from PHOSPHENE_BROKER_URL, which is not set: redis://… or amqp://…"
        raise InvalidSettings(msg)
    return settings.broker_url.get_secret_value()


def run_worker(
    settings: Settings,
    *,
    queues: Sequence[str],
    concurrency: int,
    sweep_every_s: float = SWEEP_EVERY_S,
) -> None:
    """Work until SIGTERM or Ctrl-C; tasks under way have STOP_S to be done, then they are given back.

    Raises before the first task, in one line: InvalidSettings, Unavailable (broker, catalogue), ModelError.
    """
    log_to_stderr(settings)
    broker = broker_of(settings)
    unknown = sorted(set(queues) - set(QUEUES))
    if unknown or not queues:
        msg = f"no queue {', '.join(unknown) or 'named'}: there are {', '.join(QUEUES)}"
        raise InvalidSettings(msg)
    with open_engine(settings, command="phosphene worker"):
        pass  # catalogue and blobs answer; model and index are the children's
    app = worker_app(_with_threads(settings, concurrency))
    jobs = CeleryJobs(broker)
    jobs.ping()
    _say_in_one_line_that_the_broker_is_away(app)
    if broker.startswith(("amqp", "pyamqp")):
        declare_queues(app)
    rung = {
        JobName.SWEEP: sweep_every_s,
        JobName.RECOVER: min(sweep_every_s, RECOVER_EVERY_S),
        JobName.REINDEX: min(sweep_every_s, REINDEX_EVERY_S),
    }
    rung = {name: every_s for name, every_s in rung.items() if QUEUE_OF[name] in queues}
    with scraped(settings), folder_of_children(FOLDER) as folder, _doorbell(jobs, rung), _stopping_in_time() as told:
        trouble = folder / TROUBLE
        worker = app.Worker(
            hostname=f"phosphene-{os.getpid()}@{socket.gethostname()}",
            queues=list(queues),
            concurrency=concurrency,
            loglevel=(settings.log_level or "info").upper(),
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        os.environ.pop("_MP_FORK_LOGLEVEL_", None)  # else billiard writes lines of its own form at a child's start
        worker.start()
        jobs.close()
        if trouble.exists():
            raise _Stopped(trouble.read_text(encoding="utf-8"))
        if worker.exitcode and not told.is_set():
            msg = "the worker had to stop; its log says why. Start it again: what it was at is found by a sweep"
            raise Unavailable(msg)


class _Stopped(ModelError):
    """A child could not start; the message is the child's."""


def _with_threads(settings: Settings, concurrency: int) -> Settings:
    """Share the cores among the children: torch takes all of them in each otherwise."""
    if settings.threads is not None or concurrency == 1:
        return settings
    return settings.model_copy(update={"threads": max(1, (os.cpu_count() or 1) // concurrency)})


def _say_in_one_line_that_the_broker_is_away(app: Celery) -> None:
    """Spare the log the stack traces that Celery adds, which tell nothing beyond the line that they follow."""
    with app.connection_for_write() as connection:  # asks nothing of the broker
        away = (*connection.connection_errors, *connection.channel_errors)

    def without_trace(record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], away):
            record.exc_info = None
        return True

    for name in ("request", "consumer.consumer", "consumer.gossip", "pidbox", "control", "loops"):
        logging.getLogger(f"celery.worker.{name}").addFilter(without_trace)


def declare_queues(app: Celery) -> None:
    """Declare all queues, also those that this worker takes nothing from: Celery binds delayed tasks to each.

    And one more for each, which keeps the tasks that RabbitMQ gave up, to be looked at.
    """
    exchange = Exchange(DEAD_LETTERS, type="direct")
    with app.connection_for_write() as connection:
        for name in QUEUES:
            queue = Queue(
                f"{DEAD_LETTERS}.{name}", exchange, routing_key=name, queue_arguments={"x-queue-type": "quorum"}
            )
            queue(connection).declare()
        for ours in app.conf.task_queues:
            ours(connection).declare()


@contextmanager
def _stopping_in_time() -> Iterator[threading.Event]:
    """Have tasks given back that go on for too long after a SIGTERM. Gives an event that is set when that comes.

    Celery then waits for them without end; told by SIGQUIT, it gives them back.
    """
    told = threading.Event()

    def begin(*, how: str, **_: object) -> None:
        told.set()
        if how == "Warm":
            timer = threading.Timer(STOP_S, os.kill, (os.getpid(), signal.SIGQUIT))
            timer.daemon = True
            timer.start()

    worker_shutting_down.connect(begin, weak=False)
    try:
        yield told
    finally:
        worker_shutting_down.disconnect(begin)


@contextmanager
def _doorbell(jobs: CeleryJobs, every_s: Mapping[JobName, float]) -> Iterator[None]:
    """Ask for sweeps now and then: they find what killed workers and lost tasks left behind."""
    done = threading.Event()

    def ring() -> None:
        due = dict.fromkeys(every_s, 0.0)
        while due and not done.wait(max(0.0, min(due.values()) - time.monotonic())):
            name = min(due, key=lambda name: due[name])
            due[name] = time.monotonic() + every_s[name]
            try:
                jobs.send(name, {}, expires_s=every_s[name])
            except Unavailable as error:
                log.warning("no sweep asked for: %s", error)

    bell = threading.Thread(target=ring, name="doorbell", daemon=True)
    bell.start()
    try:
        yield
    finally:
        done.set()
        bell.join(10)
