"""Tasks that take longer than a broker waits: handed out again perhaps, but written once. And workers told to stop."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.resilience.conftest import Figure
from tests.resilience.fleet import PATIENCE_S, SLOW_S, Fleet, eventually, running_fleet

pytestmark = pytest.mark.timeout(SLOW_S)

PICTURES = 5  # one chunk


def upserts(fleet: Fleet) -> int:
    return sum(call.startswith("PUT /collections/{c}/points?") for call in list(fleet.stand_in.calls))


def handed_out(fleet: Fleet) -> int:
    said = [line for worker in fleet.workers for line in worker.log.read_text().splitlines()]
    return sum("Task phosphene.embed[" in line and "received" in line for line in said)


def encodings(fleet: Fleet) -> int:
    return fleet.notes.read_text().count("encoding") if fleet.notes.exists() else 0


@pytest.mark.parametrize(
    ("broker", "odd"),
    [
        ("redis", {"slow_s": 12, "visibility_s": 3}),  # the task is handed out again three times meanwhile
        ("rabbitmq", {"slow_s": 10, "heartbeat_s": 2}),
    ],
    ids=["four visibility timeouts", "five heartbeats"],
)
def test_a_long_task_is_one_write_and_a_stopped_one_is_given_back(
    tmp_path: Path, figure: Figure, broker: str, odd: dict[str, object]
) -> None:
    with running_fleet(broker, tmp_path) as fleet:
        workers = [fleet.launch(queues="ingest,embed", odd=odd) for _ in range(2)]  # no sweep, which needs no task
        folder, ids = fleet.pictures(PICTURES)
        fleet.send_ingest(folder)
        eventually("the long task is done", lambda: fleet.indexed(ids) == PICTURES, output=fleet.output)
        eventually("no ingest goes on", fleet.idle, output=fleet.output)
        time.sleep(4)  # for a task that was handed out again
        written, encoded = upserts(fleet), encodings(fleet)
        times = handed_out(fleet)
        figure(f"a task of {odd}: handed out {times} times, encoded {encoded} times, written {written} times")
        assert times >= (2 if broker == "redis" else 1)
        assert (encoded, written) == (1, 1)
        assert fleet.check() == (0, 0)
        # SIGTERM in the middle of a chunk that takes longer than a worker may still work then.
        fleet.stop_workers()
        slow = fleet.launch(queues="ingest,embed", odd={**odd, "slow_s": 600, "stop_s": 2})
        folder, ids = fleet.pictures(PICTURES)
        fleet.send_ingest(folder)
        eventually("the chunk is begun", lambda: encodings(fleet) > encoded, output=fleet.output)
        slow.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        status = slow.process.wait(PATIENCE_S)
        took = time.monotonic() - told
        assert status == 0, slow.output()
        fleet.workers = [worker for worker in workers if worker.alive()]
        given_back = time.monotonic()
        fleet.launch()
        eventually("another worker does it", lambda: fleet.indexed(ids) == PICTURES, output=slow.output)
        figure(
            f"SIGTERM in the middle of a chunk, with 2 s to finish it: exit status {status} after {took:.1f} s, "
            f"done by another {time.monotonic() - given_back:.1f} s later"
        )
        eventually("no ingest goes on", fleet.idle, output=fleet.output)
        assert fleet.check() == (0, 0)
        assert "Traceback" not in slow.output()
