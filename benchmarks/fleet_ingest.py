"""What a fleet costs: an ingest through Celery and two workers, over the embedded ingest of the same pictures.

Both run in turn, several times, each into fresh stores, with the starter model loaded before the clock. Embedded:
one process with two threads and two decoders. The fleet: PostgreSQL, Redis or RabbitMQ, blobs in a folder, and two
workers of one thread and one decoder each. The index is the tests' stand-in for a Qdrant server, in this process: its
work counts in the time of the fleet, not in its CPU seconds. A worker decodes a picture a second time, from its blob.
Comparing new pictures with all others for near-duplicates, work of the queue `maintenance`, is in neither: the embedded
ingest leaves it to later too, and the stand-in searches by brute force in Python.

    python -m benchmarks.fleet_ingest [--pictures 1000] [--rounds 3] [--broker redis|rabbitmq]

The project's aim is a ratio of 1.15 at most, with 20,000 pictures. CPU seconds are told too, children included: on a
machine that does other things, trust their ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.ingest_rate import Effort, cpu_seconds, write_photos
from indexer.pipeline import ingest
from phosphene.assemble import open_engine
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT
from tests.resilience.fleet import Fleet, descendants, running_fleet

WORKERS = 2
BATCH = 64
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print both, and their ratio in pairs."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pictures", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    chosen = arguments.parse_args()
    pairs: list[tuple[Effort, Effort]] = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        write_photos(pictures, chosen.pictures)
        few = Path(folder) / "few"
        few.mkdir()
        for number, path in enumerate(sorted(pictures.iterdir())[: 2 * WORKERS]):
            (few / path.name).write_bytes(path.read_bytes() + bytes([number]))  # other bytes, the same picture
        for turn in range(chosen.rounds):
            embedded = embedded_effort(pictures, Path(folder) / f"embedded-{turn}")
            print(f"round {turn + 1}: embedded {told(embedded, chosen.pictures)}", flush=True)
            fleet = fleet_effort(pictures, few, Path(folder) / f"fleet-{turn}", broker=chosen.broker)
            pairs.append((embedded, fleet))
            print(f"round {turn + 1}: fleet {told(fleet, chosen.pictures)}", flush=True)
    wall = sorted(fleet.wall_s / embedded.wall_s for embedded, fleet in pairs)
    cpu = sorted(fleet.cpu_s / embedded.cpu_s for embedded, fleet in pairs)
    print(
        f"{chosen.pictures} pictures on {os.cpu_count()} cores, {chosen.broker}: a fleet of {WORKERS} takes "
        f"{statistics.median(wall):.2f} times as long a picture ({wall[0]:.2f} to {wall[-1]:.2f}), "
        f"{statistics.median(cpu):.2f} times the CPU ({cpu[0]:.2f} to {cpu[-1]:.2f})"
    )


def told(effort: Effort, pictures: int) -> str:
    """Give milliseconds a picture."""
    return f"{effort.wall_s / pictures * 1000:.1f} ms ({effort.cpu_s / pictures * 1000:.1f} CPU) a picture"


def embedded_effort(pictures: Path, data: Path) -> Effort:
    """Ingest here."""
    settings = Settings(data=data, threads=2, decode_processes=2, batch_size=BATCH, _env_file=None)
    with open_engine(settings, command="benchmark") as engine:
        engine.warm()
        cpu, start = cpu_seconds(), time.perf_counter()
        ingest([str(pictures)], engine=engine, tenant=DEFAULT_TENANT)
        return Effort(time.perf_counter() - start, cpu_seconds() - cpu)


def fleet_effort(pictures: Path, few: Path, folder: Path, *, broker: str) -> Effort:
    """Ingest with workers that are warm."""
    folder.mkdir()
    with running_fleet(broker, folder) as fleet:
        fleet.environment |= {"PHOSPHENE_BATCH_SIZE": str(BATCH), "PHOSPHENE_LEASE_S": "20"}
        for _ in range(WORKERS):
            fleet.launch(queues="embed.online,embed,ingest")
        while any("succeeded" not in worker.log.read_text() for worker in fleet.workers):  # its child has the model
            run(fleet, few)
        cpu, start = cpu_of_workers(fleet), time.perf_counter()
        run(fleet, pictures)
        return Effort(time.perf_counter() - start, cpu_of_workers(fleet) - cpu)


def run(fleet: Fleet, folder: Path) -> None:
    """Send an ingest, and wait until all that it registered is indexed."""
    fleet.send_ingest(folder)
    space = fleet.engine.encoder.space.id
    while not fleet.idle() or fleet.engine.catalog.pending_work(space):
        time.sleep(0.2)


def cpu_of_workers(fleet: Fleet) -> float:
    """Add up the processor time of the workers and all they have started."""
    pids = [pid for worker in fleet.workers for pid in (worker.process.pid, *descendants(worker.process.pid))]
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / _TICKS


if __name__ == "__main__":
    main()
