from __future__ import annotations

import threading
from pathlib import Path

import pytest

from indexer.pipeline import embed_assets, ingest, recover, sweep
from phosphene.assemble import Engine
from phosphene.catalog.records import AssetState, IngestState
from phosphene.errors import InvalidInput, ModelError, PictureFault
from phosphene.types import DEFAULT_TENANT, Pixels
from tests.indexer.conftest import OpenEngine, let_pass, save_pictures, watch
from tests.indexer.running import (
    assert_all_is_well,
    counts,
    fail_on_red,
    quarantined,
    red,
    registered_only,
    run,
)


def test_only_the_culprit_of_a_failing_batch_is_quarantined(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 20)
    red(tmp_path / "pictures" / "0005-red.png")
    watch(engine, fail_on_red)
    done = run(engine, tmp_path / "pictures")
    assert done.state is IngestState.FINISHED
    assert counts(done) == (20, 0, 0, 1)
    entry = quarantined(engine)["0005-red.png"]
    assert entry.fault is PictureFault.EMBEDDING_FAILED
    assert entry.reason == "the encoder fails on it: red is too much"
    assert_all_is_well(engine, 20)


def test_an_encoder_that_fails_on_everything_blames_no_picture(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 20)

    def fail(_: Pixels) -> None:
        raise RuntimeError("CUDA error: device lost")

    watched = watch(engine, fail)
    with pytest.raises(ModelError, match=r"can't encode any picture: .*device lost"):
        run(engine, tmp_path / "pictures")
    (failed,) = engine.catalog.ingests(DEFAULT_TENANT, 10)
    assert failed.state is IngestState.FAILED
    assert "device lost" in (failed.error or "")
    assert quarantined(engine) == {}
    watched.before = let_pass
    run(engine, tmp_path / "pictures")
    assert_all_is_well(engine, 20)


def test_rows_of_a_norm_of_zero_are_culprits_too(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 5)
    watched = watch(engine)
    inner = watched.inner

    class Zero:
        space = inner.space

        @staticmethod
        def encode_pixels(pixels: Pixels) -> object:
            raw = inner.encode_pixels(pixels)
            raw.rows[(pixels == first).all(axis=(1, 2, 3))] = 0
            return raw

    spec = engine.encoder.space.pixels
    first = engine.decoders.decode((tmp_path / "pictures" / "0000.png").read_bytes(), spec=spec).result().pixels
    assert first is not None
    watched.inner = Zero()  # type: ignore[assignment]  # all that is called
    assert counts(run(engine, tmp_path / "pictures")) == (4, 0, 0, 1)
    assert "no direction" in quarantined(engine)["0000.png"].reason


def test_an_interrupt_is_noted_and_the_same_command_goes_on(tmp_path: Path, open_with: OpenEngine) -> None:
    save_pictures(tmp_path / "pictures", 100)
    with open_with() as engine:

        def interrupt(_: Pixels) -> None:
            if len(watched.batches) == 3:
                raise KeyboardInterrupt

        watched = watch(engine, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(engine, tmp_path / "pictures")
        (interrupted,) = engine.catalog.ingests(DEFAULT_TENANT, 10)
        assert interrupted.state is IngestState.INTERRUPTED
        assert engine.index.count() == 32
    with open_with() as engine:
        watched = watch(engine)
        done = run(engine, tmp_path / "pictures")
        assert done.state is IngestState.FINISHED
        assert watched.pictures == 68
        assert_all_is_well(engine, 100)


def test_a_stop_ends_an_ingest_soon(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 100)
    stop = threading.Event()
    watch(engine, lambda _: stop.set())
    done = ingest([str(tmp_path / "pictures")], engine=engine, tenant=DEFAULT_TENANT, stop=stop)
    assert done.state is IngestState.INTERRUPTED
    assert 0 < engine.index.count() < 100
    run(engine, tmp_path / "pictures")
    assert_all_is_well(engine, 100)


def test_sources_that_can_not_be_read_start_no_ingest(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        run(engine, tmp_path / "nowhere")
    assert engine.catalog.ingests(DEFAULT_TENANT, 10) == []
    started = engine.catalog.start_ingest(DEFAULT_TENANT, ["nowhere"])
    with pytest.raises(InvalidInput):
        ingest([f"{tmp_path}/nowhere"], engine=engine, tenant=DEFAULT_TENANT, ingest_id=started)
    failed = engine.catalog.ingest(DEFAULT_TENANT, started)
    assert failed.state is IngestState.FAILED
    assert "does not exist" in (failed.error or "")


def test_a_sweep_finds_what_was_left_and_recover_closes_dead_ingests(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 20)
    registered_only(engine, tmp_path / "pictures")
    dead = engine.catalog.start_ingest(DEFAULT_TENANT, ["killed"])
    assert recover(engine) == 20
    assert engine.catalog.ingest(DEFAULT_TENANT, dead).state is IngestState.INTERRUPTED
    assert sweep(engine=engine) == 0
    assert_all_is_well(engine, 20)


class Death(BaseException):
    """What a killed process leaves is what it leaves when this passes through: nothing is cleaned up on the way."""


def test_a_picture_that_kills_its_process_is_given_up_and_its_neighbours_are_not(
    tmp_path: Path, engine: Engine
) -> None:
    save_pictures(tmp_path / "pictures", 12)
    red(tmp_path / "pictures" / "0005-red.png")
    waiting = [asset.id for asset in registered_only(engine, tmp_path / "pictures")]

    def die_on_red(pixels: Pixels) -> None:
        try:
            fail_on_red(pixels)
        except RuntimeError:
            raise Death from None

    watch(engine, die_on_red)
    deaths = 0
    for _ in range(20):
        try:
            embed_assets(waiting, engine=engine)
            break
        except Death:
            deaths += 1
    assert deaths == 4
    assert "4 attempts" in quarantined(engine)["0005-red.png"].reason
    assert engine.index.count() == 12
    assert engine.catalog.count_assets(DEFAULT_TENANT, AssetState.FAILED) == 1


def test_an_original_that_is_gone_is_a_reason(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 3)
    waiting = registered_only(engine, tmp_path / "pictures")
    for key in list(engine.blobs.keys("originals"))[:1]:
        engine.blobs.delete(key)
    assert embed_assets([asset.id for asset in waiting], engine=engine) == 2
    (entry,) = quarantined(engine).values()
    assert entry.fault is PictureFault.UNREADABLE
    assert "ingest the file again" in entry.reason
