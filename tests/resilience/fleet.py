"""A whole fleet on one machine, whose parts can be killed: broker, PostgreSQL, workers; the index is a stand-in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from indexer.verify import verify
from phosphene.assemble import Engine, open_engine
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import AssetState, Ingest, IngestState
from phosphene.errors import Unavailable
from phosphene.jobs import QUEUES, CeleryJobs, JobName
from phosphene.settings import Settings, load_settings
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, IngestId, asset_id, sha256_of
from phosphene.vectors.base import StoredPoint
from tests.services import (
    PostgresFiles,
    RabbitServer,
    as_user,
    free_port,
    postgres_files,
    rabbitmq_files,
    redis_at,
    redis_says,
)
from tests.vectors.qdrant_stand_in import RestServer, StandIn

ROOT = Path(__file__).parents[2]
PATIENCE_S = 900  # a busy machine takes a minute to start a worker; nothing here asserts how long something takes
# 1 for what the project promises: 50 kills in 2,000 pictures. An ordinary run shows the same with less.
SCALE = float(os.environ.get("PHOSPHENE_RESILIENCE_SCALE", "0.04"))
FULL = SCALE >= 1
SLOW_S = 7200 if FULL else 1800  # what a test may take on such a machine
LEASE_S = 20.0 if FULL else 5.0


def scaled(full: int, least: int) -> int:
    """Give so many of `full` as this run affords."""
    return max(least, round(full * SCALE))


def eventually(what: str, holds: Callable[[], bool], *, output: Callable[[], str] = str) -> None:
    """Wait until something holds; a store that is just away is asked again. Fail with what the workers said."""
    deadline = time.monotonic() + (SLOW_S if FULL else PATIENCE_S)
    while True:
        try:
            if holds():
                return
        except Unavailable:
            pass
        if time.monotonic() > deadline:
            pytest.fail(f"never happened: {what}\n{output()}", pytrace=False)
        time.sleep(0.1)


def descendants(pid: int) -> list[int]:
    """Give the processes that a process has started, and theirs."""
    children: list[int] = []
    for of_thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += [int(child) for child in of_thread.read_text().split()]
    return [one for child in children for one in (child, *descendants(child))]


def kill(*pids: int) -> None:
    """Send SIGKILL; who is dead already is no matter."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@dataclass
class Worker:
    """A running `phosphene worker`."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return f"--- {self.log.name}\n{self.log.read_text(errors='replace')[-6000:]}"

    def children(self) -> list[int]:
        """Give the processes that do the tasks."""
        return [pid for pid in descendants(self.process.pid) if b"spawn_main" in _command_of(pid)]

    def kill(self) -> None:
        """Kill it with all it has started, as the end of its machine would."""
        kill(self.process.pid, *descendants(self.process.pid))
        self.process.wait()

    def alive(self) -> bool:
        return self.process.poll() is None


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class RestartableRedis:
    """A Redis that keeps nothing: a restart loses every task."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def run(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return redis_at(self.port)


Broker = RestartableRedis | RabbitServer


@dataclass
class Running:
    """A server that can be stopped and started again."""

    run: Callable[[], AbstractContextManager[subprocess.Popen[bytes]]]
    process: subprocess.Popen[bytes] | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.process = self._open.enter_context(self.run())

    def stop(self, with_signal: signal.Signals | None = None) -> None:
        if with_signal is not None and self.process is not None:
            self.process.send_signal(with_signal)
            self.process.wait(60)
        self._open.close()
        self._open = ExitStack()


@dataclass
class Fleet:
    """The shared stores, the workers on them, and the engine of an API node in this process."""

    folder: Path
    environment: dict[str, str]
    broker: Broker
    broker_running: Running
    postgres_running: Running
    stand_in: StandIn
    workers: list[Worker] = field(default_factory=list)
    known: set[AssetId] = field(default_factory=set)  # pictures that were ingested
    _engine: Engine | None = None
    _started: int = 0
    _drawn: int = 0

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine(self.settings(), command="test")
        return self._engine

    def settings(self) -> Settings:
        return load_settings(
            **{name.removeprefix("PHOSPHENE_").lower(): value for name, value in self.environment.items()}
        )

    def jobs(self) -> CeleryJobs:
        return CeleryJobs(self.broker.url)

    def launch(
        self, *, queues: str = "embed.online,embed,ingest,maintenance", odd: Mapping[str, object] | None = None
    ) -> Worker:
        """Start a worker; `odd`: what odd/sitecustomize.py is to make of it."""
        self._started += 1
        log = self.folder / f"worker-{self._started}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*as_user(None), sys.executable, "-m", "phosphene", "worker", "--queues", queues],
                env=process_environment(self.environment, odd, notes=self.notes),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    @property
    def notes(self) -> Path:
        """Where odd processes write what they do."""
        return self.folder / "notes.txt"

    def keep_alive(self, count: int) -> None:
        """Start workers in place of dead ones, as a supervisor does."""
        self.workers = [worker for worker in self.workers if worker.alive()]
        while len(self.workers) < count:
            self.launch()

    def stop_workers(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.workers = []

    def output(self) -> str:
        return "\n".join(worker.output() for worker in self.workers)

    def stack_traces(self) -> list[str]:
        """Give what the living workers have said that is not one clear line."""
        texts = [worker.log.read_text(errors="replace") for worker in self.workers]
        return [text[max(0, at - 500) : at + 3000] for text in texts if (at := text.find("Traceback")) >= 0]

    def pictures(self, count: int) -> tuple[Path, list[AssetId]]:
        """Write a folder of pictures that nobody has seen, each of its own content; give the ids they will have."""
        folder = self.folder / f"pictures-{self._drawn}"
        folder.mkdir()
        ids = []
        for _ in range(count):
            data = picture(self._drawn)
            (folder / f"{self._drawn:05}.png").write_bytes(data)
            ids.append(asset_id(T, sha256_of(data)))
            self._drawn += 1
        self.known |= set(ids)
        return folder, ids

    def send_ingest(self, folder: Path) -> IngestId:
        """Do what POST /v1/ingests does. Raises Unavailable: it was not taken then."""
        job: dict[str, Any] = {"tenant": T, "sources": [str(folder)], "local_files": True}
        ingest = self.engine.catalog.start_ingest(T, [str(folder)], job=job)
        jobs = self.jobs()
        try:
            jobs.send(JobName.INGEST, {**job, "ingest_id": str(ingest)})
        except Unavailable as error:
            self.engine.catalog.finish_ingest(ingest, IngestState.FAILED, str(error))
            raise
        finally:
            jobs.close()
        return ingest

    def indexed(self, ids: Sequence[AssetId]) -> int:
        return len(self.engine.catalog.embedded(self.engine.encoder.space.id, ids))

    def begun(self, ids: Sequence[AssetId]) -> bool:
        """Tell whether some of these pictures are indexed; a worker that ended is started again meanwhile."""
        self.keep_alive(len(self.workers))
        return self.indexed(ids) > 0

    def done(self, ids: Sequence[AssetId]) -> bool:
        """Tell whether all of these pictures are indexed and no ingest goes on; workers are started again meanwhile."""
        self.keep_alive(len(self.workers))
        return self.indexed(ids) == len(ids) and self.idle()

    def ingest(self, ingest: IngestId) -> Ingest:
        return self.engine.catalog.ingest(T, ingest)

    def idle(self) -> bool:
        """Tell whether no ingest is under way."""
        return all(one.state is not IngestState.RUNNING for one in self.engine.catalog.ingests(T, 100))

    def forget_tasks(self) -> None:
        """Lose all tasks: FLUSHALL, or the queues are deleted."""
        if isinstance(self.broker, RabbitServer):
            self.broker.forget(QUEUES)
        else:
            assert b"OK" in redis_says(self.broker.port, b"FLUSHALL")

    def check(self) -> tuple[int, int]:
        """See that all pictures are there once, and nothing else. Gives how many are lost and how many are double."""
        engine = self.engine
        points: list[StoredPoint] = []
        while page := engine.index.scroll(after=points[-1].id if points else None, limit=500):
            points += page
        there = Counter(AssetId(UUID(str(point.payload["asset_id"]))) for point in points)
        lost = len(self.known - set(there))
        double = sum(there.values()) - len(there)
        assert set(there) <= self.known
        assert engine.catalog.count_assets(T) == len(self.known)
        assert engine.catalog.count_assets(T, AssetState.INDEXED) == len(self.known)
        assert engine.catalog.pending_work(engine.encoder.space.id) == 0
        assert verify(engine=engine, repair=False).counts == {}
        return lost, double

    def close(self) -> None:
        self.stop_workers()
        if self._engine is not None:
            self._engine.close()


def process_environment(
    settings: Mapping[str, str], odd: Mapping[str, object] | None = None, *, notes: Path
) -> dict[str, str]:
    """Give the environment of a process of ours; `odd` names what is to be odd about it, without ODD_."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PHOSPHENE_")}
    environment = kept | dict(settings) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if odd is None:
        return environment
    environment |= {f"ODD_{name.upper()}": str(value) for name, value in odd.items()} | {"ODD_NOTES": str(notes)}
    return environment | {"PYTHONPATH": f"{Path(__file__).parent / 'odd'}{os.pathsep}{ROOT}"}


def picture(number: int, *, side: int = 64) -> bytes:
    """Draw a small picture of its own content."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(coarse).resize((side, side)).save(out, "PNG")
    return out.getvalue()


@contextmanager
def running_fleet(broker_name: str, folder: Path) -> Iterator[Fleet]:
    """Start broker, PostgreSQL and index; the workers are the test's."""
    with ExitStack() as closing:
        files: PostgresFiles = closing.enter_context(postgres_files(fsync="on" if FULL else "off"))
        broker: Broker = RestartableRedis() if broker_name == "redis" else closing.enter_context(rabbitmq_files())
        running = {"postgres": Running(files.run), "broker": Running(broker.run)}
        for server in running.values():
            closing.callback(server.stop)
            server.start()
        url = files.server.url("postgres")
        Catalog.at(url, migrate=True).close()
        stand_in = StandIn()
        index = RestServer(stand_in)
        closing.callback(index.stop)
        environment = {
            "PHOSPHENE_DATA": str(folder / "data"),
            "PHOSPHENE_DATABASE_URL": url,
            "PHOSPHENE_QDRANT_URL": index.url,
            "PHOSPHENE_BLOB_URL": str(folder / "blobs"),
            "PHOSPHENE_BROKER_URL": broker.url,
            "PHOSPHENE_THREADS": "1",
            "PHOSPHENE_DEVICE": "cpu",
            "PHOSPHENE_BATCH_SIZE": "16",
            "PHOSPHENE_DECODE_PROCESSES": "1",
            "PHOSPHENE_LEASE_S": f"{LEASE_S:g}",
        }
        fleet = Fleet(folder, environment, broker, running["broker"], running["postgres"], stand_in)
        closing.callback(fleet.close)
        yield fleet
