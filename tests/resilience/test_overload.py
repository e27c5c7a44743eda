"""A producer ten times too fast: it is told to come again, and neither queue nor memory grow without end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexer import resuming
from indexer.jobs import handlers
from indexer.pipeline import ingest
from indexer.resuming import hand_out_again
from phosphene.catalog.records import IngestState
from phosphene.jobs import JobName
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import asset_id, sha256_of
from tests.resilience.api import Answer, serving
from tests.resilience.conftest import Figure
from tests.resilience.fleet import SLOW_S, eventually, picture, running_fleet, scaled
from tests.services import redis_says

pytestmark = pytest.mark.timeout(SLOW_S)

MAX_WAITING = 10
PRODUCERS = 4
MB = 2**20


def test_a_producer_that_is_too_fast_is_told_to_come_again(tmp_path: Path, figure: Figure) -> None:
    with running_fleet("redis", tmp_path) as fleet:
        fleet.environment["PHOSPHENE_MAX_WAITING"] = str(MAX_WAITING)
        space = fleet.engine.encoder.space.id
        port = int(fleet.broker.url.rpartition(":")[2].partition("/")[0])
        fleet.launch(queues="embed.online", odd={"slow_each_s": 0.7})
        with serving(tmp_path, fleet.environment) as api:
            api.url()
            pictures = [picture(number) for number in range(scaled(500, 40))]
            refused: list[Answer] = []
            most = {"waiting": 0, "queued": 0}
            over = threading.Event()

            def watch() -> None:
                while not over.wait(0.05):
                    most["waiting"] = max(most["waiting"], fleet.engine.catalog.pending_work(space))
                    most["queued"] = max(
                        most["queued"], int(redis_says(port, b"LLEN embed.online").strip(b":\r\n") or 0)
                    )

            def insist(data: bytes) -> int:
                while (answer := api.upload(data)).status == 429:
                    refused.append(answer)
                    time.sleep(0.1)  # far sooner than it was told
                assert answer.status == 201, answer
                return answer.status

            watcher = threading.Thread(target=watch)
            watcher.start()
            before, began = api.memory("VmRSS"), time.monotonic()
            with ThreadPoolExecutor(PRODUCERS) as producers:
                assert set(producers.map(insist, pictures)) == {201}
            took = time.monotonic() - began
            over.set()
            watcher.join()
            grown = api.memory("VmHWM") - before
        fleet.known |= {asset_id(T, sha256_of(data)) for data in pictures}
        eventually("all are indexed", lambda: fleet.indexed(list(fleet.known)) == len(pictures), output=fleet.output)
        assert fleet.check() == (0, 0)
        sent = (len(pictures) + len(refused)) / took
        figure(
            f"{sent:.0f} uploads/s for a worker of 1.4/s: {len(pictures)} taken, {len(refused)} refused; at most "
            f"{most['waiting']} waited, {most['queued']} in the queue; memory of the API grew by {grown / MB:.0f} MB"
        )
        assert refused
        assert {answer.retry_after for answer in refused} == {"10"}
        assert all(f"{MAX_WAITING} pictures are waiting" in answer.detail for answer in refused)
        assert most["waiting"] <= MAX_WAITING + PRODUCERS
        assert most["queued"] <= MAX_WAITING + PRODUCERS
        assert grown < 256 * MB


def test_an_ingest_embeds_itself_what_the_queue_has_no_room_for_and_lost_tasks_are_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_fleet("redis", tmp_path) as fleet:
        fleet.environment |= {"PHOSPHENE_MAX_WAITING": str(MAX_WAITING), "PHOSPHENE_BATCH_SIZE": "8"}
        folder, ids = fleet.pictures(40)
        jobs = fleet.jobs()
        done = ingest([str(folder)], engine=fleet.engine, tenant=T, jobs=jobs)
        assert (done.state, done.counts.added) == (IngestState.FINISHED, 40)
        waiting = fleet.engine.catalog.pending_work(fleet.engine.encoder.space.id)
        assert 0 < waiting <= MAX_WAITING + 8
        assert fleet.indexed(ids) == 40 - waiting
        fleet.forget_tasks()
        monkeypatch.setattr(resuming, "TELL_AGAIN", 0)  # as though they had waited for long
        assert [hand_out_again(engine=fleet.engine, jobs=jobs) for _ in range(2)] == [waiting, 0]
        assert jobs.waiting(JobName.EMBED) == 1, "all in one task, and not again while it waits"
        handlers(fleet.engine, jobs)[JobName.SWEEP]()
        jobs.close()
        assert fleet.check() == (0, 0)
