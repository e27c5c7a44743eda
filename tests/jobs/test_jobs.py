"""Jobs in a thread here, and sent by name through a real Redis."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest
from celery import Celery, Task
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection

from phosphene.errors import InvalidInput, InvalidSettings, Overloaded, PhospheneError, Unavailable
from phosphene.jobs import (
    GENERATE_LIMIT_S,
    QUEUE_OF,
    QUEUES,
    TIME_LIMIT_S,
    CeleryJobs,
    JobName,
    LocalJobs,
    OnlineFirst,
    make_app,
)
from tests.services import free_port, redis_at
from workers import tasks


class Work:
    """A handler that notes what it got and can be held up."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, object]] = []
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Semaphore(0)

    def __call__(self, **arguments: object) -> None:
        self.started.release()
        assert self.go.wait(20)
        if arguments.get("fail"):
            msg = "this one fails"
            raise RuntimeError(msg)
        self.seen.append(arguments)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def local(work: Work) -> Iterator[LocalJobs]:
    jobs = LocalJobs({JobName.EMBED: work, JobName.SWEEP: lambda: None}, capacity=3)
    yield jobs
    work.go.set()
    jobs.close()


def begun(work: Work, count: int = 1) -> None:
    for _ in range(count):
        assert work.started.acquire(timeout=20)


def test_jobs_run_in_the_order_they_came(local: LocalJobs, work: Work) -> None:
    for number in range(3):
        local.send(JobName.EMBED, {"number": number})
    begun(work, 3)
    local.close()
    assert work.seen == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_sending_does_not_wait_for_the_work(local: LocalJobs, work: Work) -> None:
    work.go.clear()
    local.send(JobName.EMBED, {})
    begun(work)
    local.send(JobName.EMBED, {})
    assert local.waiting == 1
    assert work.seen == []


def test_when_too_many_wait_the_next_is_refused_with_a_time_to_come_back(local: LocalJobs, work: Work) -> None:
    work.go.clear()
    local.send(JobName.EMBED, {})
    begun(work)
    for _ in range(3):
        local.send(JobName.EMBED, {})
    with pytest.raises(Overloaded, match="3 jobs are waiting") as caught:
        local.send(JobName.EMBED, {})
    assert caught.value.retry_after_s > 0
    work.go.set()
    begun(work, 3)
    local.send(JobName.EMBED, {"after": True})
    begun(work)
    local.close()
    assert work.seen[-1] == {"after": True}


def test_a_failing_job_is_logged_and_the_next_one_runs(
    local: LocalJobs, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    local.send(JobName.EMBED, {"fail": True})
    local.send(JobName.EMBED, {"wrong": 1})
    begun(work, 2)
    local.close()
    assert work.seen == [{"wrong": 1}]
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "phosphene.embed failed" in record.getMessage()
    assert record.exc_info is not None


def test_arguments_a_handler_does_not_take_end_only_that_job(local: LocalJobs, work: Work) -> None:
    local.send(JobName.SWEEP, {"unexpected": 1})
    local.send(JobName.EMBED, {})
    begun(work)
    local.close()
    assert work.seen == [{}]


def test_closing_lets_the_job_under_way_finish_and_drops_the_rest(local: LocalJobs, work: Work) -> None:
    work.go.clear()
    for number in range(3):
        local.send(JobName.EMBED, {"number": number})
    begun(work)
    closing = threading.Thread(target=local.close)
    closing.start()
    assert local._closed.wait(20)
    with pytest.raises(Unavailable, match="shutting down"):
        local.send(JobName.SWEEP, {})
    work.go.set()
    closing.join(20)
    assert not closing.is_alive()
    assert work.seen == [{"number": 0}]
    local.close()  # a second time is no matter


def test_a_job_that_does_not_end_holds_nobody_up(
    local: LocalJobs, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.go.clear()
    local.send(JobName.EMBED, {})
    begun(work)
    local.close(timeout_s=0.1)
    assert "still running" in caplog.text


@pytest.fixture
def celery_jobs(redis_url: str) -> Iterator[CeleryJobs]:
    jobs = CeleryJobs(redis_url)
    yield jobs
    jobs.close()


def test_no_mode_takes_arguments_that_json_can_not_carry(local: LocalJobs, celery_jobs: CeleryJobs) -> None:
    sends: list[Callable[..., None]] = [local.send, celery_jobs.send]
    for send in sends:
        for arguments in ({"bytes": b"x"}, {"set": {1}}, {"nan": float("nan")}):
            with pytest.raises(InvalidInput, match="must be JSON"):
                send(JobName.EMBED, arguments)


def test_a_job_here_gets_what_a_worker_would_get(local: LocalJobs, work: Work) -> None:
    ids = ["a", "b"]
    local.send(JobName.EMBED, {"ids": ids, "tuple": ("x",)})
    ids.append("changed after sending")
    begun(work)
    local.close()
    assert work.seen == [{"ids": ["a", "b"], "tuple": ["x"]}]


def test_what_nothing_handles_is_refused(local: LocalJobs) -> None:
    with pytest.raises(InvalidInput, match=r"phosphene\.ingest"):
        local.send(JobName.INGEST, {})


@pytest.mark.parametrize("name", list(JobName))
def test_celery_jobs_arrive_in_their_queue_as_json(celery_jobs: CeleryJobs, redis_url: str, name: JobName) -> None:
    celery_jobs.send(name, {"ids": ["a"], "nested": {"x": None}})
    with Connection(redis_url) as connection:
        consumer = connection.SimpleQueue(QUEUE_OF[name])
        message = consumer.get(timeout=10)
        message.ack()
        consumer.close()
    assert message.content_type == "application/json"
    assert message.headers["task"] == name.value
    body = message.body
    assert body is not None
    assert json.loads(body)[:2] == [[], {"ids": ["a"], "nested": {"x": None}}]


def test_a_worker_without_our_code_takes_them_by_name(celery_jobs: CeleryJobs, redis_url: str) -> None:
    """A Celery worker in a thread, with tasks of its own of the same names."""
    from celery.contrib.testing.worker import start_worker

    app: Celery = make_app(redis_url)
    got: list[object] = []
    done = threading.Event()

    def embed(**arguments: object) -> None:
        got.append(arguments)
        done.set()

    app.tasks.unregister(JobName.EMBED.value)  # ours, which another test here has imported
    app.task(name=JobName.EMBED.value)(embed)
    with start_worker(app, perform_ping_check=False, pool="threads", loglevel="ERROR", queues=["embed"]):
        celery_jobs.send(JobName.EMBED, {"asset_ids": ["1"]})
        assert done.wait(20)
    assert got == [{"asset_ids": ["1"]}]


@given(named=st.permutations(QUEUES), served=st.lists(st.sampled_from(QUEUES), max_size=30))
def test_uploads_are_looked_for_first_and_the_other_queues_get_their_turn(named: list[str], served: list[str]) -> None:
    cycle = OnlineFirst()
    cycle.update(named)
    for queue in served:
        cycle.rotate(queue)
    first, *others = cycle.consume(len(QUEUES))
    assert first == "embed.online"
    assert sorted(others) == sorted(set(QUEUES) - {first})
    if served and served[-1] != first:
        assert others[-1] == served[-1]


def test_an_expired_job_is_not_run_later(celery_jobs: CeleryJobs, redis_url: str) -> None:
    celery_jobs.send(JobName.SWEEP, {}, expires_s=60)
    with Connection(redis_url) as connection:
        consumer = connection.SimpleQueue("maintenance")
        assert consumer.get(timeout=10).headers["expires"] is not None
        consumer.close()


def refused(jobs: CeleryJobs) -> str:
    with pytest.raises(Unavailable) as from_ping:
        jobs.ping()
    with pytest.raises(Unavailable) as from_send:
        jobs.send(JobName.EMBED, {})
    line = str(from_send.value)
    assert str(from_ping.value).startswith("the broker ")
    assert "\n" not in line
    assert "hunter2" not in line + str(from_ping.value)
    return line


@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:{}/0", "amqp://me:hunter2@127.0.0.1:{}//"])
def test_a_dead_broker_is_one_line_without_the_password(url: str) -> None:
    jobs = CeleryJobs(url.format(free_port()))
    assert "refused" in refused(jobs)
    jobs.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "amqp://127.0.0.1:{}//"])
def test_a_broker_that_says_nothing_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phosphene.jobs.CONNECT_TIMEOUT_S", 1)
    monkeypatch.setattr("phosphene.jobs.ANSWER_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        jobs = CeleryJobs(url.format(mute.getsockname()[1]))
        refused(jobs)
        jobs.close()


def test_a_wrong_broker_password_is_told(redis_url: str) -> None:
    jobs = CeleryJobs(redis_url.replace("redis://", "redis://me:hunter2@"))
    assert "***" in refused(jobs)
    jobs.close()


def test_a_broker_that_comes_back_is_used_again() -> None:
    port = free_port()
    jobs = CeleryJobs(f"redis://127.0.0.1:{port}/0")
    with redis_at(port):
        jobs.send(JobName.EMBED, {})
    with pytest.raises(Unavailable):
        jobs.send(JobName.EMBED, {})
    with redis_at(port):
        jobs.send(JobName.EMBED, {})
        jobs.ping()
    jobs.close()


@pytest.mark.parametrize("url", ["sqla+sqlite:///x", "filesystem://", "memory://", "nonsense", "http://me:hunter2@x"])
def test_brokers_that_lose_tasks_are_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="PHOSPHENE_BROKER_URL") as caught:
        CeleryJobs(url)
    assert "hunter2" not in str(caught.value)
    assert isinstance(caught.value, PhospheneError)


def test_redis_waits_longer_than_any_task_may_take() -> None:
    options = make_app("redis://x").conf.broker_transport_options
    limits = [task.time_limit for task in vars(tasks).values() if isinstance(task, Task) and task.time_limit]
    assert set(limits) == {TIME_LIMIT_S, GENERATE_LIMIT_S}
    assert options["visibility_timeout"] > 2 * max(limits)


def test_queues_on_rabbitmq_are_replicated_and_end_redelivery() -> None:
    for queue in make_app("amqp://x").conf.task_queues:
        assert queue.queue_arguments["x-queue-type"] == "quorum"
        assert queue.queue_arguments["x-delivery-limit"] > 0
        assert queue.queue_arguments["x-dead-letter-exchange"]
        assert queue.exchange.type == "topic", "Celery delays retries on quorum queues through topic exchanges only"


def test_a_generation_does_not_wait_for_a_long_ingest() -> None:
    ingest, generate = Work(), Work()
    jobs = LocalJobs({JobName.INGEST: ingest, JobName.GENERATE: generate}, capacity=3)
    ingest.go.clear()
    jobs.send(JobName.INGEST, {})
    begun(ingest)
    jobs.send(JobName.GENERATE, {"generation_id": "1"})
    begun(generate)
    ingest.go.set()
    jobs.close()
    assert (len(ingest.seen), generate.seen) == (1, [{"generation_id": "1"}])


def test_each_kind_of_job_has_room_of_its_own() -> None:
    ingest, generate = Work(), Work()
    jobs = LocalJobs({JobName.INGEST: ingest, JobName.GENERATE: generate}, capacity=2)
    for work, name in ((ingest, JobName.INGEST), (generate, JobName.GENERATE)):
        work.go.clear()
        jobs.send(name, {})
        begun(work)
        for _ in range(2):
            jobs.send(name, {})
        with pytest.raises(Overloaded):
            jobs.send(name, {})
    assert jobs.waiting == 4
    ingest.go.set()
    generate.go.set()
    jobs.close()


def test_some_jobs_are_done_by_themselves_at_once_and_now_and_then() -> None:
    recover, generate = Work(), Work()
    handlers = {JobName.RECOVER: recover, JobName.GENERATE: generate}
    jobs = LocalJobs(handlers, capacity=3, every_s={JobName.RECOVER: 0.3})
    begun(recover, 3)
    # While generations wait it has its turn when they are done.
    generate.go.clear()
    jobs.send(JobName.GENERATE, {})
    begun(generate)
    while recover.started.acquire(blocking=False):
        pass
    assert not recover.started.acquire(timeout=1)
    generate.go.set()
    begun(recover)
    jobs.close()
    assert not recover.started.acquire(timeout=0.5)


def test_one_that_is_done_by_itself_and_fails_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    tries = threading.Semaphore(0)

    def fail() -> None:
        tries.release()
        raise Unavailable("the catalogue does not answer")

    jobs = LocalJobs({JobName.RECOVER: fail}, capacity=3, every_s={JobName.RECOVER: 0.05})
    for _ in range(3):
        assert tries.acquire(timeout=20)
    jobs.close()
    assert "the catalogue does not answer" in caplog.text
    assert "Traceback" not in caplog.text
