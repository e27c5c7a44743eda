"""Workers on Redis and on RabbitMQ while things die: what was acknowledged is indexed, once.

The tests of a broker share a fleet, one after the other, since starting one takes longer than most of them.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from indexer.pipeline import ingest
from indexer.uploads import add_asset
from phosphene.catalog.records import IngestCounts, IngestState
from phosphene.errors import Unavailable
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, asset_id, sha256_of
from tests.resilience.conftest import Figure
from tests.resilience.fleet import SLOW_S, Fleet, Worker, eventually, kill, picture, running_fleet, scaled

pytestmark = pytest.mark.timeout(SLOW_S)

WORKERS = 2


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    name: str = request.param
    with running_fleet(name, tmp_path_factory.mktemp(name)) as fleet:
        yield fleet


def kill_one(fleet: Fleet, chance: random.Random) -> str:
    """Kill a whole worker, or only the process in it that does the tasks."""
    worker: Worker = chance.choice(fleet.workers)
    children = worker.children()
    if children and chance.random() < 0.5:
        kill(chance.choice(children))
        return "child"
    worker.kill()
    return "worker"


def test_workers_are_killed_at_random(fleet: Fleet, chance: random.Random, figure: Figure) -> None:
    count, kills = scaled(2000, 120), scaled(50, 3)
    folder, ids = fleet.pictures(count)
    fleet.keep_alive(WORKERS)
    sent = fleet.send_ingest(folder)
    killed = {"child": 0, "worker": 0}
    for number in range(kills):
        # Spread over the work; and further, while nothing comes in, since only a few were alive for long.
        goal = round(count * number / (kills + 1)) + 1
        eventually(f"{goal} pictures are indexed", lambda goal=goal: fleet.indexed(ids) >= goal, output=fleet.output)  # type: ignore[misc]  # bound now
        time.sleep(chance.random() * 0.5)
        killed[kill_one(fleet, chance)] += 1
        fleet.keep_alive(WORKERS)
    last = time.monotonic()
    done = fleet.indexed(ids)
    eventually(
        "all pictures are indexed",
        partial(fleet.done, ids),
        output=fleet.output,
    )
    took = time.monotonic() - last
    fleet.stop_workers()  # in their logs are killed processes; those of the other tests have none
    told = fleet.ingest(sent)
    lost, double = fleet.check()
    figure(
        f"{count} pictures, killed {killed['worker']} workers and {killed['child']} of their processes: lost {lost}, "
        f"duplicates {double}; {count - done} pictures were left at the last kill, done {took:.1f} s after it"
    )
    assert (lost, double) == (0, 0)
    assert (told.state, told.counts) == (IngestState.FINISHED, IngestCounts(added=count))
    assert fleet.engine.catalog.quarantined(T, None, after=None, limit=10) == []


def refusals(fleet: Fleet, folder: Path) -> list[str]:
    """Hand in an ingest until it is taken, as a client does; give what was said meanwhile."""
    said: list[str] = []

    def taken() -> bool:
        try:
            fleet.send_ingest(folder)
        except Unavailable as error:
            said.append(str(error))
            raise
        return True

    eventually("an ingest is taken", taken, output=fleet.output)
    return said


def test_the_broker_is_restarted_under_load(fleet: Fleet, figure: Figure) -> None:
    restarts, count = scaled(10, 2), scaled(100, 16)
    fleet.keep_alive(1)
    mine: list[AssetId] = []
    said: list[str] = []
    for _ in range(restarts):
        folder, ids = fleet.pictures(count)
        mine += ids
        said += refusals(fleet, folder)
        eventually("the work has begun", partial(fleet.begun, ids), output=fleet.output)
        fleet.broker_running.stop()
        folder, ids = fleet.pictures(count)
        mine += ids
        with pytest.raises(Unavailable) as refused:
            fleet.send_ingest(folder)
        said.append(str(refused.value))
        fleet.broker_running.start()
        said += refusals(fleet, folder)
    eventually("all are indexed", partial(fleet.done, mine), output=fleet.output)
    assert fleet.check() == (0, 0)
    assert all("the broker " in line and " does not answer: " in line and "\n" not in line for line in said)
    figure(f"{restarts} restarts of the broker, {len(mine)} pictures: lost 0, duplicates 0; {len(said)} sends refused")
    assert fleet.stack_traces() == []


def test_the_broker_forgets_every_task(fleet: Fleet, figure: Figure) -> None:
    fleet.keep_alive(1)
    folder, at_work = fleet.pictures(48)
    fleet.send_ingest(folder)
    eventually("a part is indexed", partial(fleet.begun, at_work), output=fleet.output)
    fleet.forget_tasks()
    fleet.stop_workers()
    folder, waiting = fleet.pictures(16)
    fleet.send_ingest(folder)  # nobody has begun it
    fleet.forget_tasks()
    fleet.keep_alive(1)
    mine = at_work + waiting
    eventually("all are indexed", partial(fleet.done, mine), output=fleet.output)
    assert fleet.check() == (0, 0)
    figure(f"all tasks forgotten twice, {len(mine)} pictures: lost 0, duplicates 0")


def test_the_queues_go_under_a_worker_that_waits_for_tasks(fleet: Fleet) -> None:
    fleet.keep_alive(1)
    folder, first = fleet.pictures(4)
    fleet.send_ingest(folder)
    eventually("a first ingest is done", partial(fleet.done, first), output=fleet.output)
    fleet.forget_tasks()
    folder, second = fleet.pictures(4)
    refusals(fleet, folder)
    eventually("a second one is done", partial(fleet.done, second), output=fleet.output)
    assert fleet.check() == (0, 0)


def test_an_upload_overtakes_a_backlog(fleet: Fleet, figure: Figure) -> None:
    fleet.stop_workers()
    folder, backlog = fleet.pictures(96)
    upload = picture(10**6)
    (one,) = mine = [asset_id(T, sha256_of(upload))]
    fleet.known.add(one)
    with closing(fleet.jobs()) as jobs:
        ingest([str(folder)], engine=fleet.engine, tenant=T, jobs=jobs)
        fleet.launch(queues="embed,embed.online", odd={"slow_each_s": 0.1})  # named last; and no sweep helps
        eventually("the backlog is begun", partial(fleet.begun, backlog), output=fleet.output)
        before = fleet.indexed(backlog)
        add_asset(upload, engine=fleet.engine, tenant=T, uri="upload:one.png", jobs=jobs)
        eventually("the upload is indexed", partial(fleet.begun, mine), output=fleet.output)
        done = fleet.indexed(backlog)
        eventually("all are indexed", partial(fleet.done, backlog), output=fleet.output)
    figure(f"an upload was indexed when {done} of 96 pictures of a backlog were, {before} when it came")
    assert done < len(backlog)
    assert fleet.check() == (0, 0)
    fleet.stop_workers()  # it takes no ingests, and slowly


def test_postgresql_is_stopped_at_once(fleet: Fleet, figure: Figure) -> None:
    fleet.keep_alive(1)
    folder, ids = fleet.pictures(scaled(400, 64))
    sent = fleet.send_ingest(folder)
    eventually("a part is indexed", partial(fleet.begun, ids), output=fleet.output)
    fleet.postgres_running.stop(signal.SIGQUIT)  # pg_ctl calls it immediate
    acknowledged = None
    with pytest.raises(Unavailable) as refused:
        acknowledged = fleet.send_ingest(folder)
    assert acknowledged is None
    assert "\n" not in str(refused.value)
    time.sleep(1)  # for the worker to notice
    fleet.postgres_running.start()
    eventually("all are indexed", partial(fleet.done, ids), output=fleet.output)
    told = fleet.ingest(sent)
    assert (told.state, told.counts.added) == (IngestState.FINISHED, len(ids))
    assert fleet.check() == (0, 0)
    figure(f"PostgreSQL stopped at once in {len(ids)} pictures: lost 0, duplicates 0; refused with: {refused.value}")
    assert fleet.stack_traces() == []
