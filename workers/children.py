"""What the children of a worker are at, and when each last got on: told by them, read by their parent.

A child keeps an empty file while it is at a task, `PID.TASK`, whose time of change is its last sign of life by the
monotonic clock, which all processes of a machine share. The file of a child that was killed stays until it is read.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from celery.worker.control import inspect_command

from phosphene.jobs import QUEUE_OF, STANDING, JobName
from phosphene.life import Life, living

FOLDER = "PHOSPHENE_WORKER_FOLDER"

log = logging.getLogger(__name__)


@contextmanager
def folder_of_children(variable: str) -> Iterator[Path]:
    """Give a folder for children started meanwhile, who find it by a variable of the environment."""
    with tempfile.TemporaryDirectory(prefix="phosphene-worker-") as folder:
        os.environ[variable] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(variable, None)


@contextmanager
def at_task(name: JobName) -> Iterator[None]:
    """Let the parent see that this child is at a task, and each sign of life of it."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        yield
        return
    path = Path(folder) / f"{os.getpid()}.{name}"
    try:
        path.touch()
    except OSError as error:  # a full disk is no reason not to work
        log.warning("if %s hangs, nobody will see it: %s", name, error.strerror)
    _show(path)
    try:
        with living(Life(name, tell=lambda: _show(path))):
            yield
    finally:
        path.unlink(missing_ok=True)


def _show(path: Path) -> None:
    now = time.monotonic_ns()
    with suppress(OSError):  # the task has ended, mostly
        os.utime(path, ns=(now, now))


def stuck(folder: Path, *, after_s: float) -> list[tuple[JobName, str]]:
    """Give the tasks that children hang in: name, and one line that says who, and for how long."""
    found = []
    for path in sorted(folder.glob("*.phosphene.*")):
        pid, _, name = path.name.partition(".")
        try:
            silent_s = (time.monotonic_ns() - path.stat().st_mtime_ns) / 1e9
        except FileNotFoundError:  # it has ended
            continue
        if not _lives(int(pid)):
            path.unlink(missing_ok=True)
        elif silent_s > after_s:
            found.append((JobName(name), f"{name} in process {pid} has shown no life for {silent_s:.0f} s"))
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@inspect_command(name=STANDING)
def standing(state: Any) -> dict[str, Any]:  # noqa: ANN401  Celery's, which has no type
    """Answer, in the parent, from which queues it takes, and which of its tasks hang, each with its queue."""
    consumer = state.consumer.task_consumer
    settings, folder = state.app.conf["phosphene_settings"], os.environ.get(FOLDER)
    hanging = [] if folder is None else stuck(Path(folder), after_s=settings.worker_stuck_s)
    return {
        "queues": [queue.name for queue in consumer.queues] if consumer else [],
        "stuck": [[QUEUE_OF[name], line] for name, line in hanging],
    }
