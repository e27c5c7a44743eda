"""Whether a worker here answers, and none hangs: `python -m workers.ping`, for the health check of its container."""

from __future__ import annotations

import socket
import sys

from phosphene.errors import PhospheneError, Unavailable
from phosphene.jobs import CeleryJobs
from phosphene.settings import Settings, load_settings
from workers.celery_app import broker_of

ANSWER_S = 5.0


def ping(settings: Settings) -> list[str]:
    """Name the workers on this machine. Raises Unavailable: none answers, a task hangs, or the broker is away."""
    broker = broker_of(settings)
    jobs = CeleryJobs(broker)
    try:
        jobs.ping()
        answers = jobs.standing(timeout_s=ANSWER_S)
    finally:
        jobs.close()
    here = {name: answer for name, answer in answers.items() if name.endswith(f"@{socket.gethostname()}")}
    if not here:
        raise Unavailable(f"no worker on {socket.gethostname()} answered within {ANSWER_S:g} s")
    hanging = [f"{name}: {line}" for name, answer in here.items() for _, line in answer.stuck]
    if hanging:
        raise Unavailable("; ".join(hanging))
    return list(here)


def main() -> int:
    """Print who answers; exit status 1 when nobody does, or one hangs."""
    try:
        names = ping(load_settings())
    except PhospheneError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{', '.join(names)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
