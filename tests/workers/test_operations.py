"""A fleet seen from outside: readiness, metrics and log lines of an API and a worker on a real Redis and PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from kombu import Connection, Message, Queue

from indexer.jobs import handlers
from phosphene.assemble import Engine, open_engine, open_jobs
from phosphene.catalog.records import AssetState
from phosphene.errors import Unavailable
from phosphene.jobs import DEAD_LETTERS, DELIVERY_LIMIT, CeleryJobs, JobName, make_app
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import IngestId
from search_api import health
from search_api.app import create_app
from search_api.serving import Server
from tests.resilience.fleet import process_environment
from tests.search_api.served import png
from tests.search_api.test_operations import value
from tests.services import RabbitServer, free_port, redis_at
from tests.workers.conftest import Cluster, Worker, eventually
from workers.celery_app import declare_queues
from workers.ping import ping

SCRAPER = "scraper-secret-0123456789"


@contextmanager
def api(engine: Engine) -> Iterator[httpx2.Client]:
    """Serve the engine as `phosphene serve` does, without keys."""
    settings = engine.settings.model_copy(update={"port": 0})
    with ExitStack() as stack:
        jobs = open_jobs(settings, handlers(engine))
        stack.callback(jobs.close)
        ready = threading.Event()
        app = create_app(engine, jobs, local_token=None)
        server = Server(app, settings=settings, when_ready=lambda _: ready.set())
        thread = threading.Thread(target=server.run)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive()

        stack.callback(stop)
        assert ready.wait(timeout=60)
        yield stack.enter_context(httpx2.Client(base_url=server.url, timeout=60))


def lines(worker: Worker) -> list[dict[str, object]]:
    """Read the log: every line is an object, but for what Celery prints when it is told to stop."""
    return [json.loads(line) for line in worker.output().splitlines() if line and not line.startswith("worker: ")]


@dataclass
class Fleet:
    """An API, a worker and a Redis of their own."""

    client: httpx2.Client
    scraper: httpx2.Client  # of the worker's metrics
    cluster: Cluster
    node: Engine
    redis: int  # its process

    def upload(self, number: int) -> None:
        sent = self.client.post(
            "/v1/assets", files={"image": png(number)}, headers={"X-Request-ID": f"upload-{number}"}
        )
        assert sent.status_code in (201, 202), sent.text

    def embedded(self) -> float:
        """Tell how many pictures the worker says it has embedded."""
        try:
            return value(self.scraper.get("/metrics").text, "phosphene_pictures_embedded_total")
        except httpx2.TransportError:
            return -1

    def ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200


@pytest.fixture
def fleet(cluster: Cluster, tmp_path: Path) -> Iterator[Fleet]:
    broker, port = free_port(), free_port()
    more = {
        "PHOSPHENE_BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "PHOSPHENE_METRICS_PORT": str(port),
        "PHOSPHENE_METRICS_KEY": SCRAPER,
        "PHOSPHENE_LOG_FORMAT": "json",
        "PHOSPHENE_READY_QUEUES": "ingest,embed.online",  # no sweep takes a picture before its own task does
    }
    own = Cluster(tmp_path, {**cluster.environment, **more}, cluster.database_url)
    with ExitStack() as stack:
        redis = stack.enter_context(redis_at(broker))
        stack.callback(os.kill, redis.pid, signal.SIGCONT)
        node = stack.enter_context(open_engine(own.settings(), command="test"))
        node.warm()
        client = stack.enter_context(api(node))
        headers = {"Authorization": f"Bearer {SCRAPER}"}
        scraper = httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)
        yield Fleet(client, stack.enter_context(scraper), own, node, redis.pid)


def test_a_picture_is_followed_from_the_request_to_the_worker(fleet: Fleet) -> None:
    _without_workers(fleet)
    with fleet.cluster.worker("--queues", "ingest,embed.online") as worker:
        eventually("it is ready", fleet.ready, output=worker.output)
        eventually("that is counted", lambda: fleet.embedded() == 1, output=worker.output)
        _counted_by_the_worker(fleet)

        (child,) = worker.children()
        os.kill(child, signal.SIGKILL)
        eventually("another child is there", lambda: worker.children() not in ([], [child]), output=worker.output)
        fleet.upload(2)
        eventually("both children are counted", lambda: fleet.embedded() == 2, output=worker.output)
        left = value(fleet.scraper.get("/metrics").text, "phosphene_jobs_under_way", job="phosphene.embed.online")
        assert left == 0

        os.kill(fleet.redis, signal.SIGSTOP)
        told = fleet.client.get("/readyz")
        assert told.status_code == 503
        assert told.json()["stores"]["broker"] != "ok"
        assert told.json()["stores"]["catalogue"] == "ok"
        os.kill(fleet.redis, signal.SIGCONT)
        eventually("it is ready again", fleet.ready, output=worker.output)
        assert worker.stop() == 0, worker.output()
    for request in ("upload-1", "upload-2"):
        mine = [one for one in lines(worker) if one.get("request_id") == request]
        assert "embedded 1 of 1 pictures" in [one["message"] for one in mine]
        assert len({one["task_id"] for one in mine}) == 1
        assert "celery.app.trace" in {one["logger"] for one in mine}, "Celery's own lines have the ids too"
    assert SCRAPER not in worker.output()


def _without_workers(fleet: Fleet) -> None:
    """What is handed in waits, and that is seen."""
    told = fleet.client.get("/readyz")
    assert told.status_code == 503
    assert told.json()["reasons"] == [f"queue {name}: no worker takes from it" for name in ("ingest", "embed.online")]
    assert told.json()["stores"]["broker"] == "ok"
    fleet.upload(1)
    waiting = fleet.client.get("/metrics", headers={"Authorization": f"Bearer {SCRAPER}"}).text
    space = fleet.node.encoder.space.id
    assert value(waiting, "phosphene_work_pictures", space=space, state="waiting") == 1
    assert value(waiting, "phosphene_index_lag_pictures", state="registered") == 1
    assert value(waiting, "phosphene_index_lag_seconds", state="registered") > 0
    assert value(waiting, "phosphene_part_up", part="queue embed.online") == 0


def _counted_by_the_worker(fleet: Fleet) -> None:
    counted = fleet.scraper.get("/metrics").text
    for stage in ("read", "decode", "forward", "upsert"):
        assert value(counted, "phosphene_embed_stage_seconds_count", stage=stage) == 1
    assert value(counted, "phosphene_embed_batch_fill_ratio_sum") == pytest.approx(1 / 16)
    assert "phosphene_work_pictures{" not in counted, "the API tells of the catalogue, workers of themselves"
    assert httpx2.get(f"{fleet.scraper.base_url}/metrics").status_code == 401
    assert httpx2.get(f"{fleet.scraper.base_url}/").status_code == 404


def test_an_ingest_s_id_goes_on_to_those_who_embed(cluster: Cluster, engine: Engine) -> None:
    own = Cluster(cluster.folder, {**cluster.environment, "PHOSPHENE_LOG_FORMAT": "json"}, cluster.database_url)
    with own.worker("--queues", "ingest,embed") as worker:
        ingest, folder = _ingest(own, engine, range(3))
        said = "embedded 3 of 3 pictures"
        eventually("it is said", lambda: said in worker.output(), output=worker.output)
        worker.stop()
    assert [one["ingest_id"] for one in lines(worker) if one["message"] == said] == [str(ingest)]
    assert len({one["task_id"] for one in lines(worker) if one.get("ingest_id") == str(ingest)}) == 2
    assert str(folder) not in worker.output()


def test_a_child_that_hangs_is_told_and_one_that_is_slow_is_not(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four parts of 2.5 s are longer than the 6 s without a sign of life that a hanging task is told after."""
    hangs, notes = cluster.folder / "hangs", cluster.folder / "notes.txt"
    told = {"PHOSPHENE_WORKER_STUCK_S": "6", "PHOSPHENE_READY_QUEUES": "embed"}
    own = Cluster(cluster.folder, {**cluster.environment, **told}, cluster.database_url)
    odd = process_environment(own.environment, {"slow_s": 2.5, "hangs_while": hangs}, notes=notes)
    monkeypatch.setattr(health, "WORKERS_ASKED_EVERY_S", 0.0)
    monkeypatch.setattr(health, "WORKERS_ANSWER_S", 1.0)
    with ExitStack() as stack:
        node = stack.enter_context(open_engine(own.settings(), command="test"))
        node.warm()
        client = stack.enter_context(api(node))
        worker = own.launch("--queues", "ingest,embed", changes=odd)
        stack.callback(worker.process.wait)
        stack.callback(worker.process.kill)

        def reasons() -> list[str]:
            return list(client.get("/readyz").json()["reasons"])

        def done(count: int) -> bool:
            return node.catalog.count_assets(T, AssetState.INDEXED) == count

        eventually("it is ready", lambda: reasons() == [], output=worker.output)
        _ingest(own, node, range(32))
        said: set[str] = set()

        def slow_done() -> bool:
            said.update(reasons())
            return done(32)

        eventually("the slow are done", slow_done, output=worker.output)
        assert said == set(), "what is slow gets on"
        assert notes.read_text().split().count("encoding") == 4

        hangs.touch()
        _ingest(own, node, range(32, 33))
        eventually("it is seen", lambda: client.get("/readyz").status_code == 503, output=worker.output)
        (reason,) = reasons()
        (child,) = worker.children()
        who = rf"phosphene-{worker.process.pid}@\S+: phosphene\.embed in process {child} has shown no life for \d+ s"
        assert re.fullmatch(f"queue embed: worker {who}", reason)
        with pytest.raises(Unavailable, match=f"^{who}$"):
            ping(own.settings())

        hangs.unlink()
        eventually("it goes on", lambda: done(33), output=worker.output)
        eventually("it is ready again", lambda: reasons() == [], output=worker.output)
        assert ping(own.settings()), "idle, it never hangs"
        assert worker.stop() == 0, worker.output()


def _ingest(cluster: Cluster, node: Engine, seeds: range) -> tuple[IngestId, Path]:
    """Have a worker ingest pictures of their own content; gives their folder."""
    folder = cluster.folder / f"pictures-{seeds.start}"
    folder.mkdir()
    for seed in seeds:
        (folder / f"{seed}.png").write_bytes(png(seed))
    ingest = node.catalog.start_ingest(T, [str(folder)])
    with closing(CeleryJobs(cluster.environment["PHOSPHENE_BROKER_URL"])) as jobs:
        jobs.send(
            JobName.INGEST, {"tenant": T, "ingest_id": str(ingest), "sources": [str(folder)], "local_files": True}
        )
    return ingest, folder


def test_a_taken_metrics_port_is_one_line(cluster: Cluster) -> None:
    with redis_at(port := free_port()):
        worker = cluster.launch(changes={"PHOSPHENE_METRICS_PORT": str(port)})
        assert worker.process.wait(120) == 1
    said = [line for line in worker.output().splitlines() if line.startswith("phosphene: ")]
    (line,) = said
    assert line.startswith(f"phosphene: metrics can't be served at 127.0.0.1:{port}: Address already in use;")


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_workers_that_are_seen_and_then_gone(cluster: Cluster, broker: str, request: pytest.FixtureRequest) -> None:
    """Which queues are taken from is asked of the workers themselves, through the broker."""
    url = cluster.environment["PHOSPHENE_BROKER_URL"]
    if broker == "rabbitmq":
        url = request.getfixturevalue("rabbitmq_server").url
    own = Cluster(cluster.folder, {**cluster.environment, "PHOSPHENE_BROKER_URL": url}, cluster.database_url)
    wanted = frozenset({"embed", "maintenance"})
    with closing(CeleryJobs(url)) as jobs:
        assert jobs.queues_served(timeout_s=0.5) == frozenset()
        assert jobs.waiting(JobName.EMBED) == 0
        jobs.send(JobName.EMBED, {"asset_ids": []})
        eventually("it waits", lambda: jobs.waiting(JobName.EMBED) == 1)
        with own.worker("--queues", "embed,maintenance") as worker:
            eventually("it says so", lambda: jobs.queues_served(timeout_s=2) == wanted, output=worker.output)
            assert jobs.waiting(JobName.EMBED) == 0
            worker.stop()
        assert jobs.queues_served(timeout_s=0.5) == frozenset()
    scheme = url.partition(":")[0]
    with (
        closing(CeleryJobs(f"{scheme}://127.0.0.1:{free_port()}")) as gone,
        pytest.raises(Unavailable, match="does not answer"),
    ):
        gone.queues_served(timeout_s=0.5)


def test_a_task_that_is_handed_out_again_and_again_ends_with_the_dead_letters(rabbitmq_server: RabbitServer) -> None:
    rabbitmq_server.forget(["embed", f"{DEAD_LETTERS}.embed"])  # other tests may have left tasks there
    declare_queues(make_app(rabbitmq_server.url))
    with closing(CeleryJobs(rabbitmq_server.url)) as jobs, Connection(rabbitmq_server.url) as connection:
        channel = connection.default_channel
        jobs.send(JobName.EMBED, {"asset_ids": ["poison"]})

        def taken(queue: str) -> Message:
            for _ in range(600):
                if (message := Queue(queue, channel=channel).get()) is not None:
                    return message
                time.sleep(0.05)
            pytest.fail(f"no task came to {queue}")

        for _ in range(DELIVERY_LIMIT + 1):
            taken("embed").requeue()  # as for a worker that died at it
        dead = taken(f"{DEAD_LETTERS}.embed")
        assert "poison" in str(dead.body)
        dead.ack()
        assert jobs.waiting(JobName.EMBED) == 0
