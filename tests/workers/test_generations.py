"""Generations on a real worker and a real Redis: drawn once, whatever is killed. Weights are random: plumbing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from phosphene.assemble import Engine, open_engine
from phosphene.blobs import GENERATION_INPUTS, GENERATIONS, generation_key
from phosphene.catalog.generation_records import Generation, GenerationState
from phosphene.encoders import load_encoder
from phosphene.generation.asked import AskedPart, GenerationRequest, SamplingChoice
from phosphene.generation.request import cancel_generation, request_generation
from phosphene.jobs import CeleryJobs
from phosphene.types import DEFAULT_TENANT as T
from tests.generation.asking import picture
from tests.unclip import starter_models
from tests.workers.conftest import Cluster, Worker, eventually

QUEUES = ("--queues", "generate,maintenance")
LONG = SamplingChoice(decoder_steps=500)


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return starter_models.save(tmp_path_factory.mktemp("generators") / "tiny", space=load_encoder("starter").space.id)


@pytest.fixture
def drawing(cluster: Cluster, generator: Path) -> Cluster:
    """The same stores, with a generator; random embeddings are not for the guard rails to judge."""
    more = {"PHOSPHENE_GENERATOR": str(generator), "PHOSPHENE_BLOCKED_SCORE": "1"}
    return Cluster(cluster.folder, {**cluster.environment, **more}, cluster.database_url)


@pytest.fixture
def node(drawing: Cluster) -> Iterator[Engine]:
    """What an API node has."""
    with open_engine(drawing.settings(), command="test") as opened:
        yield opened


@pytest.fixture
def jobs(drawing: Cluster) -> Iterator[CeleryJobs]:
    sender = CeleryJobs(drawing.environment["PHOSPHENE_BROKER_URL"])
    yield sender
    sender.close()


def ask(node: Engine, jobs: CeleryJobs, *, seed: int = 7, sampling: SamplingChoice | None = None) -> Generation:
    parts = (AskedPart(text="a red bus"), AskedPart(image=picture(1)))
    request = GenerationRequest(parts, seed=seed, images=2, sampling=sampling or SamplingChoice())
    return request_generation(request, engine=node, tenant=T, jobs=jobs)


def look(node: Engine, asked: Generation) -> Generation:
    return node.catalog.generations.one(T, asked.id)


def state(node: Engine, asked: Generation) -> GenerationState:
    return look(node, asked).state


def is_drawing(node: Engine, asked: Generation) -> bool:
    return look(node, asked).progress is not None


def left(node: Engine) -> list[str]:
    return [*node.blobs.keys(GENERATIONS), *node.blobs.keys(GENERATION_INPUTS)]


def finished_once(node: Engine, asked: Generation, worker: Worker) -> Generation:
    """Wait for the pictures, and see that they are there once, and nothing else."""
    eventually("it is drawn", lambda: state(node, asked).ended, output=worker.output)
    made = look(node, asked)
    assert made.state is GenerationState.FINISHED, made.error
    assert [one.id for one in node.catalog.generations.latest(T, before=None, limit=10)] == [asked.id]
    eventually("nothing else is left", lambda: len(left(node)) == 2)
    for one in made.pictures:
        with Image.open(BytesIO(node.blobs.get(generation_key(made.id, one.sha256, one.format)))) as drawn:
            assert drawn.size == (32, 32)
    return made


def test_a_worker_draws_and_its_progress_is_seen(drawing: Cluster, node: Engine, jobs: CeleryJobs) -> None:
    with drawing.worker(*QUEUES) as worker:
        asked = ask(node, jobs, sampling=LONG)
        eventually("a preview is seen", lambda: look(node, asked).preview is not None, output=worker.output)
        made = finished_once(node, asked, worker)
        assert made.attempts == 1
        assert ask(node, jobs, sampling=LONG).id == made.id
        assert worker.stop() == 0


def test_a_cancellation_reaches_the_worker(drawing: Cluster, node: Engine, jobs: CeleryJobs) -> None:
    with drawing.worker(*QUEUES) as worker:
        asked = ask(node, jobs, sampling=LONG)
        eventually("it is drawn", lambda: is_drawing(node, asked), output=worker.output)
        cancel_generation(asked.id, engine=node, tenant=T)
        eventually("it stops", lambda: state(node, asked) is GenerationState.CANCELLED, output=worker.output)
        eventually("nothing is left", lambda: left(node) == [])


def test_a_killed_worker_s_generation_is_drawn_once_by_another(
    drawing: Cluster, node: Engine, jobs: CeleryJobs
) -> None:
    """Nothing is helped along: the lease ends by itself, and the successor's own rounds find it."""
    with drawing.worker(*QUEUES, name="doomed") as doomed:
        asked = ask(node, jobs, sampling=LONG)
        eventually("it is drawn", lambda: is_drawing(node, asked), output=doomed.output)
        children = doomed.children()
        doomed.process.kill()
        doomed.process.wait()
        for child in children:  # without its parent it might finish
            os.kill(child, signal.SIGKILL)
    assert state(node, asked) is GenerationState.RUNNING
    assert len(left(node)) == 1
    with drawing.worker(*QUEUES, name="successor") as successor:
        made = finished_once(node, asked, successor)
        assert made.attempts == 2


def test_a_killed_child_s_generation_is_drawn_once_by_the_next(
    drawing: Cluster, node: Engine, jobs: CeleryJobs
) -> None:
    """The broker hands the task out at once, which meets the dead child's lease; a later round finds it."""
    with drawing.worker(*QUEUES) as worker:
        asked = ask(node, jobs, sampling=LONG)
        eventually("it is drawn", lambda: is_drawing(node, asked), output=worker.output)
        (child,) = worker.children()
        began = time.monotonic()
        os.kill(child, signal.SIGKILL)
        made = finished_once(node, asked, worker)
        assert made.attempts == 2
        assert time.monotonic() - began > 15  # else the lease was worth nothing


def test_without_its_model_a_worker_says_so_and_goes_on(drawing: Cluster, node: Engine, jobs: CeleryJobs) -> None:
    bare = Cluster(
        drawing.folder, {**drawing.environment, "PHOSPHENE_GENERATOR": "no/such-model"}, drawing.database_url
    )
    with bare.worker(*QUEUES) as worker:
        asked = ask(node, jobs)
        eventually("it ends", lambda: state(node, asked).ended, output=worker.output)
        made = look(node, asked)
        assert made.state is GenerationState.FAILED
        assert "no/such-model is not cached" in str(made.error)
        eventually("nothing is left", lambda: left(node) == [])
        assert worker.process.poll() is None
        assert "a red bus" not in worker.output()
