"""Work for later: in threads of this process, or sent by name to Celery workers.

A job is only a doorbell. What is to be done stands in the catalogue; a lost job is found by the next sweep.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import KombuError

from phosphene import logs, metrics, tracing
from phosphene.errors import InvalidInput, InvalidSettings, Overloaded, Unavailable
from phosphene.life import Life, living

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"
Handlers = Mapping["JobName", Callable[..., None]]

TIME_LIMIT_S = 900  # one embed task: about 64 pictures
GENERATE_LIMIT_S = 1500  # one generation, below what brokers wait for the end of a task: RabbitMQ half an hour
CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 30
DELIVERY_LIMIT = 5  # RabbitMQ: a task that kills its worker so often goes to the dead letters
DEAD_LETTERS = "phosphene.dead"
STUCK_S = 900.0  # a job that has shown no life for so long hangs; a batch of pictures takes seconds
STANDING = "phosphene_standing"  # what workers are asked, through the broker
HEADER = "phosphene"  # of a task: which request and trace it belongs to

log = logging.getLogger(__name__)


class JobName(StrEnum):
    """What can be asked for."""

    INGEST = "phosphene.ingest"
    EMBED = "phosphene.embed"
    EMBED_ONLINE = "phosphene.embed.online"  # the same for a single upload, which somebody waits for
    SWEEP = "phosphene.sweep"
    CALIBRATE = "phosphene.calibrate"
    GENERATE = "phosphene.generate"
    RECOVER = "phosphene.recover"  # find generations that nobody is at
    REINDEX = "phosphene.reindex"  # go on with a change of the model
    DUPLICATES = "phosphene.duplicates"  # compare pictures; sweeps do so too, a little at a time
    CATALOGUE = "phosphene.catalogue"  # what is done to all pictures of a tenant, with a state that can be asked for


QUEUE_OF = {
    JobName.INGEST: "ingest",
    JobName.EMBED: "embed",
    JobName.EMBED_ONLINE: "embed.online",
    JobName.SWEEP: "maintenance",
    JobName.CALIBRATE: "maintenance",
    JobName.GENERATE: "generate",
    JobName.RECOVER: "maintenance",
    JobName.REINDEX: "maintenance",
    JobName.DUPLICATES: "maintenance",
    JobName.CATALOGUE: "maintenance",
}
QUEUES = tuple(dict.fromkeys(QUEUE_OF.values()))
# Of a process that runs its jobs itself: a thread for each, so that a long ingest does not hold up a picture.
_LANE_OF = {
    JobName.GENERATE: "generate",
    JobName.RECOVER: "generate",
    JobName.REINDEX: "reindex",
    JobName.CATALOGUE: "catalogue",
}
_OTHERS = "jobs"


class Jobs(Protocol):
    """Where jobs are handed in."""

    def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:
        """Hand in a job, after the transaction that it speaks of. Raises Overloaded, Unavailable."""
        ...

    def close(self) -> None:
        """Take no more jobs."""
        ...


def carried() -> dict[str, str]:
    """Give what goes with a job: the ids of its request and ingest, and its trace."""
    return {name: id_ for name, id_ in logs.ids().items() if name != "task_id"} | tracing.carried()


@contextmanager
def going_on(name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Do a job in the name of whoever handed it in, and measure it."""
    with logs.with_ids(headers), tracing.going_on(headers), metrics.job(name, unavailable=Unavailable):
        yield


class _Lane:
    """A thread that runs jobs in the order they came, and some now and then when there are none."""

    def __init__(self, name: str, handlers: Handlers, *, capacity: int, every_s: Mapping[JobName, float]) -> None:
        self.jobs: queue.Queue[tuple[JobName, dict[str, Any], dict[str, str]]] = queue.Queue(capacity)
        self._handlers = handlers
        self._every_s = every_s
        self._due = dict.fromkeys(every_s, 0.0)  # by time.monotonic(): at once
        self._closed = threading.Event()
        self._life: Life | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._do(*self.jobs.get(timeout=0.2))
            except queue.Empty:
                self._do_what_is_due()

    def _do(self, name: JobName, arguments: dict[str, Any], headers: Mapping[str, str]) -> None:
        self._life = Life(name)
        with living(self._life), logs.with_ids({**headers, **arguments}):
            try:
                with going_on(name, headers):
                    self._handlers[name](**arguments)
            except Unavailable as error:
                log.warning("job %s: %s; the next sweep tries again", name, error)
            except InvalidInput as error:  # of whoever asked for it, who is told
                log.warning("job %s: %s", name, error)
            except Exception:  # whatever a job does, the next one gets its turn
                log.exception("job %s failed; the next sweep finds what it left", name)
        self._life = None

    def _do_what_is_due(self) -> None:
        for name, due in self._due.items():
            if time.monotonic() >= due and not self._closed.is_set():
                self._do(name, {}, {})
                self._due[name] = time.monotonic() + self._every_s[name]

    def trouble(self) -> str | None:
        """Say what keeps the jobs here from being done."""
        life = self._life
        if not self._thread.is_alive() and not self._closed.is_set():
            return "the thread that does these jobs has died: restart the server"
        idle_s = 0.0 if life is None else time.monotonic() - life.seen
        if life is not None and idle_s > STUCK_S:
            return f"{life.name} has shown no life for {idle_s:.0f} s"
        return None

    def close(self) -> None:
        self._closed.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the job under way; tell whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class LocalJobs:
    """Background threads that run jobs in the order they came: for generations, for changes of the model, for the rest.

    `every_s` names jobs that are also done by themselves, at once and then at about that distance, while none waits.
    """

    def __init__(self, handlers: Handlers, *, capacity: int, every_s: Mapping[JobName, float] | None = None) -> None:
        self._handlers = handlers
        self._capacity = capacity
        self._closed = threading.Event()
        self._lanes: dict[str, _Lane] = {}
        for lane in sorted({_LANE_OF.get(name, _OTHERS) for name in handlers} | {_OTHERS}):
            own = {name: s for name, s in (every_s or {}).items() if _LANE_OF.get(name, _OTHERS) == lane}
            self._lanes[lane] = _Lane(lane, handlers, capacity=capacity, every_s=own)

    @property
    def waiting(self) -> int:
        """How many jobs have not begun."""
        return sum(self.waiting_by_thread().values())

    def waiting_by_thread(self) -> dict[str, int]:
        """How many jobs have not begun, by the name of the thread that is to do them."""
        return {name: lane.jobs.qsize() for name, lane in self._lanes.items()}

    def trouble(self) -> dict[str, str | None]:
        """Say, for each thread, what keeps its jobs from being done: it died, or a job shows no life."""
        return {name: lane.trouble() for name, lane in self._lanes.items()}

    def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:
        """Hand in a job. Raises Overloaded when as many wait as may, Unavailable after close()."""
        if name not in self._handlers:
            msg = f"nothing here handles {name}"
            raise InvalidInput(msg)
        if self._closed.is_set():
            raise Unavailable("this process is shutting down and takes no more jobs")
        try:
            self._lanes[_LANE_OF.get(name, _OTHERS)].jobs.put_nowait((name, _as_sent(name, arguments), carried()))
            metrics.JOBS_SENT.labels(name, "accepted").inc()
        except queue.Full as error:
            metrics.JOBS_SENT.labels(name, "refused").inc()
            msg = f"{self._capacity} jobs are waiting already: try again later"
            raise Overloaded(msg, retry_after_s=10.0) from error

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Finish the jobs under way, for at most this long. Jobs that wait are dropped: a sweep finds them."""
        self._closed.set()
        for lane in self._lanes.values():
            lane.close()
        deadline = time.monotonic() + timeout_s
        ended = [lane.join(max(0.0, deadline - time.monotonic())) for lane in self._lanes.values()]
        if not all(ended):
            log.warning("a job is still running after %.0f s; leaving it behind", timeout_s)


def _as_sent(name: JobName, arguments: Mapping[str, JSON]) -> dict[str, Any]:
    """Give the arguments as they would come out of a broker, so that no mode accepts what the other can't carry."""
    try:
        sent: dict[str, Any] = json.loads(json.dumps(dict(arguments), allow_nan=False))
    except (TypeError, ValueError) as error:
        msg = f"arguments of {name} must be JSON: {error}"
        raise InvalidInput(msg) from error
    return sent


@dataclass(frozen=True)
class Standing:
    """How a worker is: the queues that it takes from, and the tasks that a process of it hangs in."""

    queues: frozenset[str]
    stuck: tuple[tuple[str, str], ...]  # the queue that each came from, and one line that says what hangs

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Standing:
        """Read what a worker answered."""
        return cls(frozenset(answer.get("queues", ())), tuple((queue, line) for queue, line in answer.get("stuck", ())))


class CeleryJobs:
    """Sends jobs by name to the queues of Celery workers; imports none of their code."""

    def __init__(self, broker_url: str) -> None:
        self._app = make_app(broker_url)
        self._name = broker_name(broker_url)
        with self._app.connection_for_write() as connection:  # asks nothing of the broker yet
            self._errors: tuple[type[BaseException], ...] = (
                KombuError,
                OSError,
                *connection.connection_errors,
                *connection.channel_errors,
            )

    def ping(self) -> None:
        """Ask the broker for a sign of life. Raises Unavailable within seconds."""
        with self._translated(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT_S)

    def send(self, name: JobName, arguments: Mapping[str, JSON], *, expires_s: float | None = None) -> None:
        """Send a job; the broker has it when this returns. Raises Unavailable within seconds."""
        sent = _as_sent(name, arguments)
        try:
            with self._translated():
                headers = {HEADER: carried()}
                self._app.send_task(
                    name.value, kwargs=sent, queue=QUEUE_OF[name], expires=expires_s, headers=headers, kwargsrepr="…"
                )
        except Unavailable:
            metrics.JOBS_SENT.labels(name, "refused").inc()
            raise
        metrics.JOBS_SENT.labels(name, "accepted").inc()

    def waiting(self, name: JobName) -> int:
        """Count what no worker has taken yet from the queue of such jobs. Raises Unavailable."""
        with self._translated(), self._app.connection_for_write() as connection:
            try:
                channel: Any = connection.default_channel  # the broker's own, whose types tell nothing of its methods
                return int(channel.queue_declare(QUEUE_OF[name], passive=True).message_count)
            except connection.channel_errors:  # there is no such queue: on Redis an empty one is none
                return 0

    def standing(self, *, timeout_s: float) -> dict[str, Standing]:
        """Ask all workers how they are; gives those that answer in time, by name. Raises Unavailable."""
        with self._translated():
            told = self._app.control.broadcast(STANDING, reply=True, timeout=timeout_s) or []
            answers = {name: answer for one in told for name, answer in one.items()}
            older = [name for name, answer in answers.items() if "queues" not in answer]  # than this question
            if older:
                asked = self._app.control.inspect(destination=older, timeout=timeout_s).active_queues() or {}
                answers |= {name: {"queues": [queue["name"] for queue in queues]} for name, queues in asked.items()}
        return {name: Standing.of(answer) for name, answer in answers.items()}

    def queues_served(self, *, timeout_s: float) -> frozenset[str]:
        """Name the queues that some worker takes tasks from, of the workers that answer in time. Raises Unavailable."""
        return frozenset().union(*(one.queues for one in self.standing(timeout_s=timeout_s).values()))

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            line = " ".join(str(error).split()) or type(error).__name__
            msg = f"the broker {self._name} does not answer: {line}"
            raise Unavailable(msg) from error


def broker_name(url: str) -> str:
    """Give a broker's URL without its password, for messages."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def make_app(broker_url: str) -> Celery:
    """Configure Celery alike on both sides of the broker. Raises InvalidSettings for brokers that lose tasks."""
    scheme = urlsplit(broker_url).scheme
    if scheme not in ("redis", "rediss", "amqp", "amqps", "pyamqp"):
        msg = f"PHOSPHENE_BROKER_URL begins with {scheme}://: write redis://… or amqp://…; others lose tasks"
        raise InvalidSettings(msg)
    app = Celery("phosphene", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_queues=[_queue(name, scheme) for name in QUEUES],
        task_default_queue="maintenance",
        task_create_missing_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        broker_transport_options=_transport_options(scheme),
        # Publishing: a caller waits seconds, not minutes, for a dead broker.
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 0.5},
    )
    return app


def _queue(name: str, scheme: str) -> Queue:
    if not scheme.endswith(("amqp", "amqps")):
        return Queue(name)
    # Replicated, and with an end to redelivering: RabbitMQ 4 drops silently after 20 without these.
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_LETTERS,
        "x-dead-letter-routing-key": name,
    }
    return Queue(name, Exchange("phosphene", type="topic"), routing_key=name, queue_arguments=arguments)


class OnlineFirst:
    """The order in which a worker on Redis looks into its queues: that of single uploads first, the others in turn.

    Spoken to by kombu, as its `round_robin_cycle`. RabbitMQ needs none: with quorum queues a worker is handed one task
    of each queue, so the next upload waits at the worker already while a chunk of a backlog is being done.
    """

    def __init__(self) -> None:
        self._queues: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """Take these queues from now on."""
        self._queues = list(queues)
        self.rotate("")

    def consume(self, n: int) -> list[str]:
        """Name n queues in their order: the first of them that has a task gives it."""
        return self._queues[:n]

    def rotate(self, last_used: str) -> str:
        """Put the queue that gave a task behind the others."""
        self._queues.sort(key=lambda name: (name != QUEUE_OF[JobName.EMBED_ONLINE], name == last_used))
        return last_used


def _transport_options(scheme: str) -> dict[str, Any]:
    if scheme.endswith(("amqp", "amqps")):
        return {"confirm_publish": True}
    return {
        # Above twice the hard limit of any task, or Redis hands out one that is still running (celery#5935).
        "visibility_timeout": 2 * max(TIME_LIMIT_S, GENERATE_LIMIT_S) + 300,
        "queue_order_strategy": OnlineFirst,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
