"""A change of the model by workers, through real brokers and stores; the API's process only notices."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer import reindex
from indexer.gates import Options
from indexer.payload import payload_of
from indexer.pipeline import add_asset, ingest, remove_asset, update_asset_metadata
from indexer.reindex import advance, finish, roll_back, start_reindex
from phosphene.assemble import Engine, open_engine, open_jobs
from phosphene.catalog.records import NamedSpace, ProcessRole, Reindex, ReindexState
from phosphene.cli.reindexing import lines
from phosphene.jobs import Jobs
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import point_id
from search_api.schemas import ReindexStatus
from search_api.search import SearchQuery, run_search
from tests.indexer.conftest import make_model, save_picture, save_pictures
from tests.workers.conftest import Cluster, eventually

PICTURES = 80


def status(engine: Engine) -> Reindex:
    latest = engine.catalog.reindexes.latest()
    assert latest is not None
    return latest


def require_same(engine: Engine, named: NamedSpace) -> int:
    """See that a space holds the catalogue's pictures as they are described, and no others."""
    space = engine.spaces.open(named)
    assets = engine.catalog.page_assets(tenant=None, after=None, limit=10_000)
    points = {point.id: dict(point.payload) for point in space.index.scroll(after=None, limit=10_000)}
    places = engine.catalog.places([asset.id for asset in assets])
    assert points == {point_id(one.id, space.space.id): dict(payload_of(one, places[one.id])) for one in assets}
    return len(assets)


def answered(engine: Engine) -> str:
    """Ask as a client does; give the space that answered."""
    answer = run_search(SearchQuery(text="a cat", limit=5), engine=engine, tenant=T)
    assert len(answer.hits) == 5
    return answer.space


@contextmanager
def pinned(engine: Engine, named: NamedSpace) -> Iterator[None]:
    """Answer from a space as though nothing had changed, as a process does that hangs."""
    space = engine.spaces.open(named)
    with space.held():
        _ = engine.current, space.encoder
        engine.spaces._current = space
        engine.spaces._look_at = math.inf
        engine.presence.show(ProcessRole.SERVER)
        eventually("it is seen", lambda: engine.owner in {one.name for one in engine.presence.living()})
        yield


def change_some(engine: Engine, jobs: Jobs, folder: Path, *, seed: int) -> None:
    """Bring a picture in, describe another, take a third out."""
    known = engine.catalog.page_assets(tenant=T, after=None, limit=PICTURES)
    data = save_picture(folder / f"{seed}.png", seed=seed).read_bytes()
    add_asset(data, engine=engine, tenant=T, uri=f"upload:{seed}", jobs=jobs)
    update_asset_metadata(T, known[seed % 7].id, engine=engine, title=f"Title {seed}", metadata={"year": seed})
    remove_asset(T, known[-1 - seed % 5].id, engine=engine)


def finish_around_one_that_hangs(engine: Engine, jobs: Jobs, given_up: NamedSpace) -> None:
    """Finish a change while one process more answers from the space before; give it up when that one has ended."""
    eventually("all have gone over", lambda: ReindexStatus.of(engine).switched)
    with open_engine(engine.settings, command="test") as hanging, pinned(hanging, given_up):
        finish(engine=engine)
        standing = ReindexStatus.of(engine)
        assert sorted(one.role for one in standing.processes) == ["server", "server", "worker"]
        assert not standing.switched
        assert f"server {hanging.owner}: {given_up.space.id}" in "\n".join(lines(standing))
        advance(engine=engine, jobs=jobs)
        assert engine.catalog.reindexes.embedded(given_up.space.id) == PICTURES, "it is in use there"
    eventually("all have left it", lambda: not engine.presence.others_with(given_up.space.id))


def test_workers_build_and_the_api_goes_over_by_itself(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_model(tmp_path / "old", seed=1), make_model(tmp_path / "new", seed=2)
    tmp_path.chmod(0o755)
    save_pictures(tmp_path / "pictures", PICTURES)
    cluster.environment = {**cluster.environment, "PHOSPHENE_MODEL": str(old)}
    settings = cluster.settings()
    jobs = open_jobs(settings, {})
    with open_engine(settings, command="test") as engine:
        engine.warm()
        engine.presence.show(ProcessRole.SERVER)
        with cluster.worker() as first:
            ingest([str(tmp_path / "pictures")], engine=engine, tenant=T, jobs=jobs)
            space = engine.current.space.id
            eventually("all embedded", lambda: engine.catalog.pending_work(space) == 0, output=first.output)
            before = answered(engine)
            start_reindex(str(new), Options(), engine=engine)
            eventually("some are built", lambda: status(engine).seen > 0, output=first.output)
            change_some(engine, jobs, tmp_path, seed=9001)
            for child in first.children():
                os.kill(child, signal.SIGKILL)
            first.process.kill()
        assert answered(engine) == before
        change_some(engine, jobs, tmp_path, seed=9002)
        cluster.execute("UPDATE work SET lease_until = now()")  # as though the dead worker's leases had run out
        cluster.execute("UPDATE reindexes SET lease_until = now()")
        with cluster.worker(name="second") as second:
            eventually(
                "swapped",
                lambda: answered(engine) != "" and status(engine).state is ReindexState.SWAPPED,
                output=lambda: f"{status(engine)}\n{second.output()}",
            )
            moved = status(engine)
            eventually("the API answers with it", lambda: answered(engine) == moved.after.space.id)
            change_some(engine, jobs, tmp_path, seed=9003)
            both = (moved.before, moved.after)
            eventually(
                "both in step",
                lambda: not any(engine.catalog.pending_work(one.space.id) for one in both),
                output=second.output,
            )
            assert require_same(engine, moved.before) == require_same(engine, moved.after) == PICTURES

            roll_back(engine=engine)
            assert answered(engine) == before
            reindex.swap(engine=engine)
            eventually("swapped again", lambda: answered(engine) == moved.after.space.id, output=second.output)
            finish_around_one_that_hangs(engine, jobs, moved.before)
        monkeypatch.setattr(reindex, "DROP_GRACE_S", math.inf)  # it is dropped since the others say that they have left
        eventually("dropped", lambda: not advance(engine=engine, jobs=jobs) and status(engine).dropped)
        assert answered(engine) == moved.after.space.id
        assert require_same(engine, moved.after) == PICTURES
        assert engine.catalog.reindexes.embedded(moved.before.space.id) == 0
    jobs.close()
