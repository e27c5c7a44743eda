"""A process that is killed while it draws: the picture is drawn once more, or ends with a reason; never kept twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from indexer.jobs import handlers
from phosphene.assemble import Engine, open_jobs
from phosphene.catalog.generation_records import Generation, GenerationState
from phosphene.generation.asked import AskedPart, SamplingChoice
from phosphene.generation.run import MAX_ATTEMPTS
from phosphene.types import DEFAULT_TENANT as T
from tests.generation.asking import PATIENCE_S, ask, eventually, files, left, look, picture, wanted
from tests.generation.conftest import OpenEngine

ROOT = Path(__file__).parents[2]
STEPS = 400  # some seconds, in which a process can be killed

# What a server does: jobs in threads, which draw what is asked for and find what was lost.
SERVER = """
import json, sys, threading
from pathlib import Path
from indexer.jobs import handlers
from phosphene.assemble import open_engine, open_jobs
from phosphene.settings import Settings
from tests.generation.asking import ask, picture, wanted
from phosphene.generation.asked import AskedPart, SamplingChoice

if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    with open_engine(Settings(_env_file=None, **told["settings"]), command="a test") as engine:
        jobs = open_jobs(engine.settings, handlers(engine))
        if told["steps"]:
            parts = (AskedPart(text="a red bus"), AskedPart(image=picture(1)))
            sampling = SamplingChoice(decoder_steps=told["steps"])
            ask(engine, wanted(parts=parts, images=2, sampling=sampling), jobs=jobs)
        threading.Event().wait()
"""


class Servers:
    """Processes on one data folder, one after the other."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._settings = {**settings, "data": str(folder)}
        self._database = folder / "catalog.sqlite"

    @contextmanager
    def running(self, *, steps: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Start one, which asks for pictures of so many steps, or for none; kill it at the end."""
        told = json.dumps({"settings": self._settings, "steps": steps})
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, "-c", SERVER, told], env=environment, cwd=ROOT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def row(self) -> tuple[str | None, int, str | None]:
        """Give state, attempts and progress of the generation, as another process sees them."""
        if self._database.exists():
            with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=30)) as database:
                try:
                    rows = database.execute("SELECT state, attempts, progress FROM generations").fetchall()
                except sqlite3.OperationalError:  # no tables yet
                    rows = []
            assert len(rows) <= 1
            if rows:
                state, attempts, progress = rows[0]
                return state, attempts, progress
        return None, 0, None

    def wait_until_drawing(self, process: subprocess.Popen[bytes], *, attempt: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            state, attempts, progress = self.row()
            if (state, attempts) == ("running", attempt) and progress is not None:
                return
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, f"it is {state} in attempt {attempts}"
            time.sleep(0.02)


@pytest.fixture
def servers(tmp_path: Path, tiny_model: Path, tiny_generator: Path) -> Servers:
    settings = {"model": str(tiny_model), "generator": str(tiny_generator), "blocked_score": 1, "threads": 1}
    return Servers(tmp_path / "data", settings | {"decode_processes": 1})


def only(engine: Engine) -> Generation:
    (row,) = engine.catalog.generations.latest(T, before=None, limit=10)
    return row


def test_killed_while_it_draws_the_next_process_draws_it_once(servers: Servers, open_with: OpenEngine) -> None:
    with servers.running(steps=STEPS) as process:
        servers.wait_until_drawing(process, attempt=1)
    with open_with() as engine:
        asked = only(engine)
        assert asked.state is GenerationState.RUNNING
        assert len(left(engine)) == 1  # what was uploaded
        jobs = open_jobs(engine.settings, handlers(engine))
        eventually("it is drawn", lambda: only(engine).state is GenerationState.FINISHED)
        jobs.close()
        made = only(engine)
        assert (made.id, made.attempts, len(made.pictures)) == (asked.id, 2, 2)
        assert len(files(engine, made)) == len(left(engine)) == 2


def test_killed_again_and_again_it_ends_with_a_reason_and_leaves_nothing(
    servers: Servers, open_with: OpenEngine
) -> None:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        with servers.running(steps=STEPS if attempt == 1 else 0) as process:
            servers.wait_until_drawing(process, attempt=attempt)
    with open_with() as engine:
        jobs = open_jobs(engine.settings, handlers(engine))
        eventually("it is given up", lambda: only(engine).state.ended)
        jobs.close()
        made = only(engine)
        assert (made.state, made.error) == (GenerationState.FAILED, f"its worker died {MAX_ATTEMPTS} times")
        assert left(engine) == []


def test_killed_at_any_point_it_is_kept_once(servers: Servers, open_with: OpenEngine) -> None:
    """Short drawings, killed somewhere between the request and the end."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  shown where the test fails
    chance = random.Random(seed)
    with servers.running(steps=20) as process:
        eventually("it is asked for", lambda: servers.row()[0] is not None)
        time.sleep(chance.random() * 3)
        assert process.poll() is None
    with open_with() as engine:
        jobs = open_jobs(engine.settings, handlers(engine))
        eventually("it has ended", lambda: only(engine).state.ended)
        # Uploads of what was killed just at its end are cleared away by the recovery that each start begins with.
        eventually("nothing else is left", lambda: len(left(engine)) == len(only(engine).pictures))
        jobs.close()
        made = only(engine)
        if made.state is GenerationState.FINISHED:
            assert len(files(engine, made)) == 2
        else:  # killed before its upload was in place
            assert "is gone: ask again" in str(made.error)


def test_a_server_that_is_closed_gives_back_what_it_draws(open_with: OpenEngine) -> None:
    with open_with() as engine:
        stop = threading.Event()
        jobs = open_jobs(engine.settings, handlers(engine, stop=stop))
        parts = (AskedPart(text="a red bus"), AskedPart(image=picture(1)))
        asked = ask(engine, wanted(parts=parts, sampling=SamplingChoice(decoder_steps=STEPS)), jobs=jobs)
        waiting = ask(engine, wanted(seed=8), jobs=jobs)
        eventually("it is drawn", lambda: look(engine, asked.id).progress is not None)
        stop.set()
        jobs.close()
        given_back = look(engine, asked.id)
        assert (given_back.state, given_back.attempts) == (GenerationState.QUEUED, 0)
    with open_with() as engine:
        jobs = open_jobs(engine.settings, handlers(engine))
        for id_ in (asked.id, waiting.id):
            eventually("it is drawn", lambda id_=id_: look(engine, id_).state is GenerationState.FINISHED)  # type: ignore[misc]
        jobs.close()
        assert len(left(engine)) == 2
