"""A real worker process on a real Redis takes pictures from a folder to the index, and survives what kills it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.catalogue_jobs import ask
from indexer.moderation import keep_policy
from phosphene.assemble import Engine
from phosphene.blobs import original_key, thumbnail_key
from phosphene.catalog.records import AssetState, CatalogueJobKind, IngestCounts, IngestState
from phosphene.errors import PictureFault
from phosphene.jobs import CeleryJobs, JobName
from phosphene.moderation import Policy
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, IngestId, asset_id, point_id, sha256_of
from phosphene.vectors.base import VectorQuery
from tests.services import free_port
from tests.workers.conftest import Cluster, eventually


def pictures(folder: Path, count: int) -> list[AssetId]:
    """Write pictures, each of its own content; give the ids they will have."""
    folder.mkdir(parents=True)
    ids = []
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        out = BytesIO()
        Image.fromarray(coarse).resize((96, 64)).save(out, "PNG")
        (folder / f"{number:03}.png").write_bytes(out.getvalue())
        ids.append(asset_id(T, sha256_of(out.getvalue())))
    return ids


@pytest.fixture
def jobs(cluster: Cluster) -> Iterator[CeleryJobs]:
    sender = CeleryJobs(cluster.environment["PHOSPHENE_BROKER_URL"])
    yield sender
    sender.close()


def send_ingest(engine: Engine, jobs: CeleryJobs, folder: Path) -> IngestId:
    """Do what POST /v1/ingests does."""
    ingest = engine.catalog.start_ingest(T, [str(folder)])
    jobs.send(JobName.INGEST, {"tenant": T, "ingest_id": str(ingest), "sources": [str(folder)], "local_files": True})
    return ingest


def indexed(engine: Engine) -> int:
    return engine.catalog.count_assets(T, AssetState.INDEXED)


def test_a_worker_takes_a_folder_to_the_index(
    cluster: Cluster, engine: Engine, jobs: CeleryJobs, tmp_path: Path
) -> None:
    ids = pictures(tmp_path / "pictures", 40)
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"this is text")
    (tmp_path / "pictures" / "copy.png").write_bytes((tmp_path / "pictures" / "000.png").read_bytes())
    ids.append(_smaller(tmp_path / "pictures" / "001.png", tmp_path / "pictures" / "smaller.webp"))
    keep_policy(Policy(("a picture",), guard_rails=False, min_score=0, at_ingest=True), engine=engine, tenant=T)
    with cluster.worker() as worker:
        ingest = send_ingest(engine, jobs, tmp_path / "pictures")
        eventually(
            "all pictures are indexed",
            lambda: engine.catalog.ingest(T, ingest).state is not IngestState.RUNNING and indexed(engine) == 41,
            output=worker.output,
        )
        told = engine.catalog.ingest(T, ingest)
        assert (told.state, told.error) == (IngestState.FINISHED, None)
        assert told.counts == IngestCounts(added=41, unchanged=1, quarantined=1)
        (bad,) = engine.catalog.quarantined(T, ingest, after=None, limit=10)
        assert bad.uri.endswith("broken.jpg")
        assert bad.fault is PictureFault.NOT_A_PICTURE
        space = engine.encoder.space
        assert engine.catalog.pending_work(space.id) == 0
        assert engine.index.count() == 41
        assert all(norm > 0 for norm in engine.catalog.embedded(space.id, ids).values())
        for one in engine.catalog.assets(T, ids).values():
            assert engine.blobs.exists(original_key(one.sha256))
            assert engine.blobs.exists(thumbnail_key(one.sha256))
        _each_picture_finds_itself(engine, ids)
        flagged = [one.labels.moderation["state"] for one in engine.catalog.assets(T, ids).values()]
        assert flagged == ["flagged"] * 41  # as they were embedded
        eventually(
            "a sweep has found the smaller copy",
            lambda: set(engine.catalog.duplicates.cluster_of(T, ids)) == {ids[1], ids[-1]},
            output=worker.output,
        )
        job = ask(CatalogueJobKind.MODERATION, {"min_score": 1.0}, engine=engine, tenant=T, jobs=jobs)
        eventually(
            "the worker has done a job of the whole catalogue",
            lambda: engine.catalog.jobs.one(T, job.id).result == {"pictures": 41, "flagged": 0},
            output=worker.output,
        )
        again = send_ingest(engine, jobs, tmp_path / "pictures")
        eventually(
            "the second ingest ends",
            lambda: engine.catalog.ingest(T, again).state is not IngestState.RUNNING,
            output=worker.output,
        )
        assert engine.catalog.ingest(T, again).counts == IngestCounts(unchanged=42, quarantined=1)
        assert worker.stop() == 0


def _smaller(picture: Path, path: Path) -> AssetId:
    """Write the same picture at two thirds of its size; give the id it will have."""
    with Image.open(picture) as opened:
        opened.resize((64, 43)).save(path, "WEBP", quality=90)
    return asset_id(T, sha256_of(path.read_bytes()))


def _each_picture_finds_itself(engine: Engine, ids: list[AssetId]) -> None:
    """The worker's vector of a picture is what this process makes of its pixels."""
    space = engine.encoder.space
    for id_ in ids[:3]:
        data = engine.blobs.get(original_key(engine.catalog.asset(T, id_).sha256))
        decoded = engine.decoders.decode(data, spec=space.pixels).result()
        assert decoded.pixels is not None
        unit = engine.encoder.encode_pixels(decoded.pixels[None]).unit()
        (hits,) = engine.index.query([VectorQuery(unit.rows[0], limit=1)])
        assert hits[0].id == point_id(id_, space.id)
        assert hits[0].score > 0.999
        assert hits[0].payload["asset_id"] == str(id_)


def test_two_workers_share_a_folder_and_do_nothing_twice(
    cluster: Cluster, engine: Engine, jobs: CeleryJobs, tmp_path: Path
) -> None:
    pictures(tmp_path / "pictures", 60)
    with (
        cluster.worker("--queues", "ingest,embed", name="one") as one,
        cluster.worker("--queues", "embed,maintenance", name="two") as two,
    ):
        ingest = send_ingest(engine, jobs, tmp_path / "pictures")
        eventually(
            "all pictures are indexed", lambda: indexed(engine) == 60, output=lambda: one.output() + two.output()
        )
        assert engine.catalog.ingest(T, ingest).counts.added == 60
        assert engine.index.count() == 60
        assert (one.stop(), two.stop()) == (0, 0)


def test_a_worker_killed_at_work_loses_nothing(
    cluster: Cluster, engine: Engine, jobs: CeleryJobs, tmp_path: Path
) -> None:
    pictures(tmp_path / "pictures", 80)
    with cluster.worker() as doomed:
        send_ingest(engine, jobs, tmp_path / "pictures")
        eventually("half of the work is done", lambda: 0 < indexed(engine) < 80, output=doomed.output)
        doomed.process.kill()
        doomed.process.wait()
    done, registered = indexed(engine), engine.catalog.count_assets(T)
    assert 0 < done < 80
    # As though fifteen minutes had passed: what the dead worker held is free again.
    cluster.execute("UPDATE work SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL")
    with cluster.worker(name="successor") as worker:
        # The sweep that it asks for at its start finds what was registered; the same ingest again the rest.
        eventually("the rest is done", lambda: indexed(engine) >= registered, output=worker.output)
        send_ingest(engine, jobs, tmp_path / "pictures")
        eventually("all is done", lambda: indexed(engine) == 80, output=worker.output)
    assert engine.catalog.count_assets(T) == engine.index.count() == 80
    assert engine.catalog.pending_work(engine.encoder.space.id) == 0


def test_a_child_that_dies_is_replaced_and_the_worker_goes_on(
    cluster: Cluster, engine: Engine, jobs: CeleryJobs, tmp_path: Path
) -> None:
    pictures(tmp_path / "first", 5)
    with cluster.worker() as worker:
        send_ingest(engine, jobs, tmp_path / "first")
        eventually("the first folder is indexed", lambda: indexed(engine) == 5, output=worker.output)
        (child,) = worker.children()
        os.kill(child, signal.SIGKILL)
        pictures(tmp_path / "second", 12)
        send_ingest(engine, jobs, tmp_path / "second")
        eventually("the second folder is indexed", lambda: indexed(engine) == 12, output=worker.output)
        assert worker.process.poll() is None
        assert worker.children() != [child]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"PHOSPHENE_BROKER_URL": None}, "PHOSPHENE_BROKER_URL, which is not set"),
        ({"PHOSPHENE_BROKER_URL": "redis://:hunter2@127.0.0.1:{}/0"}, "redis://:***@127.0.0.1:{}/0 does not answer"),
        ({"PHOSPHENE_DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:{}/x"}, "the catalogue .* does not answer"),
        ({"PHOSPHENE_BLOB_URL": "s3://no-such-bucket/x"}, "make the bucket first"),
        ({"PHOSPHENE_MODEL": "/no/such/model"}, "/no/such/model"),
    ],
    ids=["no broker", "dead broker", "dead database", "no bucket", "no model"],
)
def test_what_keeps_a_worker_from_starting_is_one_line(
    cluster: Cluster, changes: dict[str, str | None], line: str
) -> None:
    port = str(free_port())
    worker = cluster.launch(changes={name: value and value.replace("{}", port) for name, value in changes.items()})
    try:
        status = worker.process.wait(120)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        pytest.fail(f"it goes on:\n{worker.output()}", pytrace=False)
    said = [one for one in worker.output().splitlines() if one.startswith("phosphene: ")]
    # 2: the caller can mend it; 1: it may work later.
    assert status == (2 if changes.get("PHOSPHENE_BROKER_URL", "") is None else 1), worker.output()
    assert len(said) == 1, worker.output()
    assert line.replace("{}", port).partition(" .* ")[0] in said[0]
    assert line.partition(" .* ")[2] in said[0]
    assert "hunter2" not in worker.output()
    assert "Traceback" not in worker.output()


def test_a_queue_that_there_is_not(cluster: Cluster) -> None:
    worker = cluster.launch("--queues", "embed,embd")
    assert worker.process.wait(120) == 2
    assert "no queue embd: there are ingest, embed, embed.online, maintenance, generate" in worker.output()
