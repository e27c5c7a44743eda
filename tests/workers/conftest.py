"""The distributed mode on one machine: PostgreSQL, Redis, blobs in S3, a stand-in for Qdrant, and worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from phosphene.assemble import Engine, open_engine
from phosphene.catalog.catalog import Catalog
from phosphene.settings import Settings, load_settings
from tests.services import as_user
from tests.vectors.qdrant_stand_in import RestServer, StandIn

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240  # a model on a busy machine


def eventually(what: str, holds: Callable[[], bool], *, output: Callable[[], str] = str) -> None:
    """Wait until something holds; fail with what the worker said."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"never happened: {what}\n{output()}", pytrace=False)
        time.sleep(0.1)


@dataclass
class Worker:
    """A running `phosphene worker`."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self) -> list[int]:
        """Give the processes that do the tasks; billiard has one more, which tracks semaphores."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        command = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed}
        return [pid for pid, words in command.items() if b"spawn_main" in words]

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the worker did not stop:\n{self.output()}", pytrace=False)


@dataclass
class Cluster:
    """The shared stores, and how processes are told of them."""

    folder: Path
    environment: Mapping[str, str]
    database_url: str

    def settings(self) -> Settings:
        return load_settings(
            **{name.removeprefix("PHOSPHENE_").lower(): value for name, value in self.environment.items()}
        )

    def launch(self, *arguments: str, name: str = "worker", changes: Mapping[str, str | None] | None = None) -> Worker:
        """Start `phosphene worker`; changes are to its environment."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PHOSPHENE_")}
        told = dict(self.environment) | dict(changes or {})
        environment = kept | {key: value for key, value in told.items() if value is not None} | {"OMP_NUM_THREADS": "1"}
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*as_user(None), sys.executable, "-m", "phosphene", "worker", *arguments],
                env=environment,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        return Worker(process, log)

    @contextmanager
    def worker(self, *arguments: str, name: str = "worker") -> Iterator[Worker]:
        running = self.launch(*arguments, name=name)
        try:
            yield running
        finally:
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait()

    def execute(self, statement: str) -> None:
        """Change the catalogue behind everyone's back."""
        with psycopg.connect(self.database_url.replace("+psycopg", "")) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def cluster(tmp_path: Path, postgres_url: str, redis_url: str, s3_url: str) -> Iterator[Cluster]:
    Catalog.at(postgres_url, migrate=True).close()
    index = RestServer(StandIn())
    environment = {
        "PHOSPHENE_DATA": str(tmp_path / "data"),
        "PHOSPHENE_DATABASE_URL": postgres_url,
        "PHOSPHENE_QDRANT_URL": index.url,
        "PHOSPHENE_BLOB_URL": s3_url,
        "PHOSPHENE_BROKER_URL": redis_url,
        "PHOSPHENE_THREADS": "1",
        "PHOSPHENE_DEVICE": "cpu",
        "PHOSPHENE_BATCH_SIZE": "16",
        "PHOSPHENE_DECODE_PROCESSES": "1",
    }
    yield Cluster(tmp_path, environment, postgres_url)
    index.stop()


@pytest.fixture
def engine(cluster: Cluster) -> Iterator[Engine]:
    """What an API node has: the same stores, and the model for its queries."""
    opened = open_engine(cluster.settings(), command="test")
    yield opened
    opened.close()
