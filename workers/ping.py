"""Whether a worker of this machine answers: `python -m workers.ping`, for the health check of its container."""

from __future__ import annotations

import socket
import sys

from phosphene.errors import PhospheneError, Unavailable
from phosphene.jobs import CeleryJobs, make_app
from phosphene.settings import Settings, load_settings
from workers.celery_app import broker_of

ANSWER_S = 5.0


def ping(settings: Settings) -> list[str]:
    """Name the workers on this machine that answer. Raises Unavailable: none does, or the broker is away."""
    broker = broker_of(settings)
    jobs = CeleryJobs(broker)
    try:
        jobs.ping()
    finally:
        jobs.close()
    with make_app(broker) as app:
        answers = app.control.ping(timeout=ANSWER_S) or []
    here = [name for answer in answers for name in answer if name.endswith(f"@{socket.gethostname()}")]
    if not here:
        raise Unavailable(f"no worker on {socket.gethostname()} answered within {ANSWER_S:g} s")
    return here


def main() -> int:
    """Print who answers; exit status 1 when nobody does."""
    try:
        names = ping(load_settings())
    except PhospheneError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{', '.join(names)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
