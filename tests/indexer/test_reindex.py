"""Changing the model: both spaces end up right whatever happens meanwhile, gates hold, the way back is short."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from indexer import reindex
from indexer.embedding import encode_tolerantly, renew_payloads, store, sweep_space
from indexer.gates import Options, judge
from indexer.jobs import handlers
from indexer.payload import payload_of
from indexer.pipeline import add_asset, ingest, remove_asset, update_asset_metadata
from indexer.reindex import abort, advance, finish, require_active, roll_back, start_reindex, swap
from indexer.verify import Difference, verify
from phosphene import assemble, open_spaces
from phosphene.assemble import Engine
from phosphene.blobs import original_key
from phosphene.catalog.records import AssetState, CalibrationRecord, NamedSpace, NewAsset, Reindex, ReindexState
from phosphene.errors import InvalidInput, ModelError, NotFound
from phosphene.evaluation.golden import GoldenQuery
from phosphene.jobs import JSON, JobName, LocalJobs
from phosphene.nomatch.calibration import fit_calibration
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, Modality, TenantId, point_id
from phosphene.vectors.base import VectorQuery, asset_of
from search_api.health import Health
from tests.indexer.conftest import MODEL_CFG, OpenEngine, make_model, save_picture, save_pictures
from tests.indexer.running import RecordedJobs, registered_only
from tests.nomatch.made import made_trials

PICTURES = 40


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    save_pictures(tmp_path / "pictures", PICTURES)
    return tmp_path / "pictures"


@pytest.fixture
def filled(open_with: OpenEngine, pictures: Path) -> Iterator[Engine]:
    """Pictures that are embedded with the one model, and a batch that is smaller than they are."""
    with open_with(batch_size=8) as engine:
        ingest([str(pictures)], engine=engine, tenant=T)
        yield engine


def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("it never came to that")


def status(engine: Engine) -> Reindex:
    latest = engine.catalog.reindexes.latest()
    assert latest is not None
    return latest


def go_on(engine: Engine, *until: ReindexState) -> Reindex:
    """Do steps until it is in one of these states."""
    for _ in range(500):
        if (now := status(engine)).state in until:
            return now
        advance(engine=engine)
    pytest.fail(f"still {status(engine).state}: {status(engine).error}")


def require_same(engine: Engine, named: NamedSpace) -> int:
    """See that a space holds exactly the catalogue's pictures, each as its own model sees it; give how many."""
    space = engine.spaces.open(named)
    assets = {asset.id: asset for asset in engine.catalog.page_assets(tenant=None, after=None, limit=10_000)}
    points = {point.id: point.payload for point in space.index.scroll(after=None, limit=10_000)}
    assert set(points) == {point_id(id_, space.space.id) for id_ in assets}
    for id_, asset in assets.items():
        said = {name: value for name, value in points[point_id(id_, space.space.id)].items() if value is not None}
        payload = payload_of(asset, engine.catalog.locations_of(asset.tenant, id_))
        assert said == {name: value for name, value in payload.items() if value is not None}
    assert set(engine.catalog.embedded(space.space.id, list(assets))) == set(assets)
    return len(assets)


def test_all_pictures_move_and_the_old_space_goes_when_it_is_told_to(filled: Engine, other_model: Path) -> None:
    before = filled.current.space
    start_reindex(str(other_model), Options(), engine=filled)
    assert filled.encoder.space == before
    done = go_on(filled, ReindexState.SWAPPED)
    after = filled.encoder.space
    assert after != before
    assert after == done.after.space
    assert done.report is not None
    assert [(gate["name"], gate["passed"]) for gate in done.report["gates"]] == [
        ("counts", True),
        ("index recall", True),
        ("quality", True),
    ]
    assert "40 vectors for 40 embedded pictures" in done.report["gates"][0]["detail"]
    assert require_same(filled, done.after) == require_same(filled, done.before) == PICTURES
    finish(engine=filled)
    while not status(filled).dropped:
        advance(engine=filled)
    assert not (filled.settings.data / "vectors" / before.id).exists()
    assert filled.catalog.reindexes.embedded(before.id) == 0
    assert filled.index.count() == PICTURES
    assert verify(engine=filled, repair=False, deep=True).counts == {}
    assert not advance(engine=filled)


def test_what_changes_meanwhile_is_right_in_both_spaces(filled: Engine, other_model: Path, tmp_path: Path) -> None:
    assets = filled.catalog.page_assets(tenant=T, after=None, limit=PICTURES)
    first, last = assets[0].id, assets[-1].id
    start_reindex(str(other_model), Options(swap=False), engine=filled)
    advance(engine=filled)  # a page; the rest is still to come
    assert 0 < status(filled).done < PICTURES

    for seed, described in ((900, first), (901, last)):
        picture = save_picture(tmp_path / f"{seed}.png", seed=seed)
        add_asset(picture.read_bytes(), engine=filled, tenant=T, uri=f"upload:{seed}", metadata={"year": seed})
        update_asset_metadata(T, described, engine=filled, title=f"Title {seed}", metadata={"mood": "glad"})
    remove_asset(T, assets[1].id, engine=filled)
    remove_asset(T, assets[-2].id, engine=filled)
    save_pictures(tmp_path / "more", 5, first=2000)
    ingest([str(tmp_path / "more")], engine=filled, tenant=T)

    ready = go_on(filled, ReindexState.READY)
    add_asset(save_picture(tmp_path / "902.png", seed=902).read_bytes(), engine=filled, tenant=T, uri="upload:902")
    swap(engine=filled)
    go_on(filled, ReindexState.SWAPPED)
    # And after the swap the space before is kept in step.
    add_asset(save_picture(tmp_path / "903.png", seed=903).read_bytes(), engine=filled, tenant=T, uri="upload:903")
    update_asset_metadata(T, first, engine=filled, title="Anew")
    remove_asset(T, assets[2].id, engine=filled)
    advance(engine=filled)
    here = PICTURES + 2 + 5 + 2 - 3
    assert require_same(filled, ready.before) == require_same(filled, ready.after) == here
    assert verify(engine=filled, repair=False, deep=True).counts == {}


def test_a_description_that_comes_between_reading_a_row_and_writing_its_point_is_not_lost(
    filled: Engine, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_reindex(str(other_model), Options(), engine=filled)
    after = filled.spaces.open(status(filled).after)
    upsert, described = type(after.index).upsert, list[AssetId]()

    def describe_first(index: object, *arguments: object) -> None:
        if index is after.index and not described:
            asset = filled.catalog.page_assets(tenant=T, after=None, limit=1)[0]
            described.append(asset.id)
            update_asset_metadata(T, asset.id, engine=filled, title="Just now")
        upsert(index, *arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(type(after.index), "upsert", describe_first)
    done = go_on(filled, ReindexState.SWAPPED)
    assert described
    require_same(filled, done.after)
    require_same(filled, done.before)


def test_a_process_that_ends_in_the_middle_is_gone_on_with(
    open_with: OpenEngine, pictures: Path, other_model: Path
) -> None:
    with open_with(batch_size=4) as engine:
        ingest([str(pictures)], engine=engine, tenant=T)
        start_reindex(str(other_model), Options(), engine=engine)
        for _ in range(2):
            advance(engine=engine)
        there = status(engine).done
    assert 0 < there < PICTURES
    with open_with(batch_size=4) as engine:
        assert status(engine).done == there
        done = go_on(engine, ReindexState.SWAPPED)
        assert require_same(engine, done.after) == PICTURES
    with open_with(batch_size=4) as engine:
        assert engine.current.space == done.after.space


def test_a_write_that_began_before_the_end_of_a_change_passes_over_what_was_dropped(
    filled: Engine, other_model: Path
) -> None:
    start_reindex(str(other_model), Options(), engine=filled)
    done = go_on(filled, ReindexState.SWAPPED)
    written = filled.written()
    gone = filled.spaces.open(done.before)
    with filled.spaces.while_open(gone) as there:
        assert there
        assert not filled.spaces.let_go(gone.space.id), "somebody writes to it"
    finish(engine=filled)
    while not status(filled).dropped:
        advance(engine=filled)
    with filled.spaces.while_open(gone) as there:
        assert not there
    (asset, *_) = filled.catalog.page_assets(tenant=T, after=None, limit=1)
    filled.catalog.update_asset(T, asset.id, title="told late")
    renew_payloads(filled, {asset.id: T}, written)
    assert require_same(filled, done.after) == PICTURES


def test_the_way_back_is_at_once_and_again_forth(filled: Engine, other_model: Path) -> None:
    start_reindex(str(other_model), Options(), engine=filled)
    moved = go_on(filled, ReindexState.SWAPPED)
    roll_back(engine=filled)
    assert filled.current.space == moved.before.space
    for _ in range(3):
        advance(engine=filled)
    assert filled.current.space == moved.before.space  # nothing swaps again by itself
    swap(engine=filled)
    go_on(filled, ReindexState.SWAPPED)
    assert filled.current.space == moved.after.space
    roll_back(engine=filled)
    abort(engine=filled)
    while not status(filled).dropped:
        advance(engine=filled)
    assert filled.current.space == moved.before.space
    assert filled.index.count() == PICTURES
    assert not (filled.settings.data / "vectors" / moved.after.space.id).exists()


def test_an_abort_in_the_middle_leaves_all_as_it_was(filled: Engine, other_model: Path) -> None:
    before = filled.current.space
    start_reindex(str(other_model), Options(), engine=filled)
    advance(engine=filled)
    abort(engine=filled)
    while not status(filled).dropped:
        advance(engine=filled)
    assert status(filled).state is ReindexState.ABORTED
    assert filled.catalog.reindexes.serving() is None
    assert filled.current.space == before
    assert [path.name for path in (filled.settings.data / "vectors").iterdir()] == [before.id]
    assert verify(engine=filled, repair=False, deep=True).counts == {}


def test_gates_that_are_not_passed_leave_the_model_before_until_they_are_widened(
    filled: Engine, other_model: Path
) -> None:
    """Models of random weights find what chance has it: the golden queries are what the one before finds first."""
    texts = ("a cat", "a dog", "a boat")
    golden = []
    for text in texts:
        hits = filled.index.query([VectorQuery(filled.texts.embed(text).rows[0], 1)])[0]
        golden.append(GoldenQuery(text, {str(asset_of(hits[0])): 1.0}))
    start_reindex(str(other_model), Options(golden=tuple(golden), tolerance=0.0), engine=filled)
    refused = go_on(filled, ReindexState.REFUSED)
    assert filled.current.space == refused.before.space
    assert refused.report is not None
    quality = refused.report["gates"][2]
    assert not quality["passed"]
    assert quality["figures"]["recall@10 before"] == 1.0
    with pytest.raises(InvalidInput, match="did not pass the gates"):
        swap(engine=filled)
    for _ in range(3):
        advance(engine=filled)
    assert filled.current.space == refused.before.space

    start_reindex(str(other_model), Options(golden=tuple(golden), tolerance=1.0), engine=filled)
    go_on(filled, ReindexState.SWAPPED)


def test_pictures_that_the_new_model_can_not_have_are_counted_against_it(filled: Engine, other_model: Path) -> None:
    asset = filled.catalog.page_assets(tenant=T, after=None, limit=3)[2]
    filled.blobs.delete(original_key(asset.sha256))
    start_reindex(str(other_model), Options(), engine=filled)
    refused = go_on(filled, ReindexState.REFUSED)
    assert refused.missing == 1
    assert refused.report is not None
    assert "1 pictures of the space before could not be embedded" in refused.report["gates"][0]["detail"]
    start_reindex(str(other_model), Options(max_missing=1), engine=filled)
    go_on(filled, ReindexState.SWAPPED)
    assert filled.index.count() == PICTURES - 1


def test_what_can_not_be_asked_for(filled: Engine, tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="answers already"):
        start_reindex(str(tiny_model), Options(), engine=filled)
    with pytest.raises(InvalidInput, match="none of the 1 pictures that the golden queries name"):
        start_reindex(str(other_model), Options(golden=(GoldenQuery("a", {"no.jpg": 1}),)), engine=filled)
    with pytest.raises(ModelError):
        start_reindex(str(tmp_path / "no-model"), Options(), engine=filled)
    with pytest.raises(NotFound, match="no change of the model is under way"):
        abort(engine=filled)
    assert filled.catalog.reindexes.latest() is None
    start_reindex(str(other_model), Options(), engine=filled)
    third = make_model(tmp_path / "third", seed=3)
    with pytest.raises(InvalidInput, match=r"a change to .*other is under way"):
        start_reindex(str(third), Options(), engine=filled)
    with pytest.raises(InvalidInput, match="nothing to roll back"):
        roll_back(engine=filled)
    go_on(filled, ReindexState.SWAPPED)
    with pytest.raises(InvalidInput, match="phosphene reindex --rollback"):
        start_reindex(str(tiny_model), Options(), engine=filled)
    with pytest.raises(InvalidInput, match="still kept for a rollback"):
        start_reindex(str(third), Options(), engine=filled)
    with pytest.raises(InvalidInput, match="rollback comes first"):
        abort(engine=filled)


def test_whoever_begins_is_told_that_the_generator_keeps_the_model_before(
    filled: Engine, other_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    space = filled.current.space.id  # as that of the bundled generator is, where the starter answers
    monkeypatch.setattr(assemble, "starter_space", lambda generator: (generator, space))
    start_reindex(str(other_model), Options(), engine=filled)
    assert "goes on doing so: that model stays in memory for it" in caplog.text
    abort(engine=filled)


def test_a_restart_with_the_old_setting_answers_with_the_new_model_and_says_so(
    open_with: OpenEngine, pictures: Path, tiny_model: Path, other_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_with() as engine:
        ingest([str(pictures)], engine=engine, tenant=T)
        start_reindex(str(other_model), Options(), engine=engine)
        moved = go_on(engine, ReindexState.SWAPPED)
    with caplog.at_level(logging.WARNING), open_with(model=str(tiny_model)) as engine:
        assert engine.encoder.space == moved.after.space
        assert engine.current.model == str(other_model)
    said = [record.getMessage() for record in caplog.records if "PHOSPHENE_MODEL" in record.getMessage()]
    assert len(said) == 1
    assert f"PHOSPHENE_MODEL is {tiny_model}, but the catalogue answers with {other_model} since" in said[0]
    caplog.clear()
    with caplog.at_level(logging.WARNING), open_with(model=str(other_model)) as engine:
        assert engine.encoder.space == moved.after.space
    assert "PHOSPHENE_MODEL" not in caplog.text


def test_weights_that_were_exchanged_on_the_disk_are_refused_and_not_mixed(
    open_with: OpenEngine, pictures: Path, tmp_path: Path
) -> None:
    target = make_model(tmp_path / "target", seed=5)
    with open_with() as engine:
        ingest([str(pictures)], engine=engine, tenant=T)
        start_reindex(str(target), Options(), engine=engine)
        go_on(engine, ReindexState.SWAPPED)
    exchanged = make_model(tmp_path / "elsewhere" / "target", seed=6)
    (exchanged / "open_clip_model.safetensors").replace(target / "open_clip_model.safetensors")
    with open_with() as engine, pytest.raises(ModelError, match="put its files back as they were"):
        engine.warm()


def test_a_model_of_another_size_and_dimension(filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vision = {**MODEL_CFG["vision_cfg"], "image_size": 48}
    monkeypatch.setitem(MODEL_CFG, "vision_cfg", vision)
    monkeypatch.setitem(MODEL_CFG, "embed_dim", 24)
    larger = make_model(tmp_path / "larger", seed=7)
    start_reindex(str(larger), Options(), engine=filled)
    done = go_on(filled, ReindexState.SWAPPED)
    assert (done.after.space.dimension, done.after.space.pixels.size) == (24, 48)
    assert require_same(filled, done.after) == PICTURES


def test_queries_keep_the_space_that_they_began_with(filled: Engine, other_model: Path) -> None:
    start_reindex(str(other_model), Options(), engine=filled)
    with filled.answering() as held:
        go_on(filled, ReindexState.SWAPPED)
        finish(engine=filled)
        row = held.texts.embed("a cat").rows[0]
        assert row.shape == (held.space.dimension,)
        dropping = threading.Thread(target=lambda: advance(engine=filled))
        dropping.start()
        dropping.join(timeout=1)
        assert not status(filled).dropped  # a query is still at it
        assert held.index.count() == PICTURES
        assert np.isfinite(held.texts.embed("a dog").rows).all()
    dropping.join()
    while not status(filled).dropped:
        advance(engine=filled)
    with filled.answering() as current:
        assert current.space == status(filled).after.space


def test_a_picture_that_was_overtaken_by_the_swap_is_embedded_where_searches_look(
    filled: Engine, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever registered it embeds it in the space before, and queued it for the new one."""
    start_reindex(str(other_model), Options(), engine=filled)
    moved = go_on(filled, ReindexState.SWAPPED)
    asset = filled.catalog.page_assets(tenant=T, after=None, limit=1)[0]
    filled.catalog.queue_for(moved.after.space.id, [asset.id])
    advance(engine=filled)
    assert filled.catalog.pending_work(moved.after.space.id) == 1  # it may be under way
    monkeypatch.setattr(reindex, "_LEFT_BEHIND_S", 0.0)
    advance(engine=filled)
    assert filled.catalog.pending_work(moved.after.space.id) == 0
    filled.catalog.queue_for(moved.after.space.id, [asset.id])
    finish(engine=filled)
    while not status(filled).dropped:
        advance(engine=filled)
    assert require_same(filled, moved.after) == PICTURES


def test_a_model_that_the_pictures_are_not_embedded_with_is_no_beginning(
    open_with: OpenEngine, pictures: Path, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    with open_with(model=str(tiny_model)) as engine:
        ingest([str(pictures)], engine=engine, tenant=T)
    third = make_model(tmp_path / "third", seed=3)
    with open_with(model=str(other_model)) as engine, pytest.raises(InvalidInput, match="no picture is embedded with"):
        start_reindex(str(third), Options(), engine=engine)


def test_two_at_once_embed_one_space_in_turn(filled: Engine, other_model: Path) -> None:
    start_reindex(str(other_model), Options(), engine=filled)
    filled.catalog.reindexes.queue_page(require_active(filled), limit=PICTURES)
    after = filled.spaces.open(status(filled).after)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(sweep_space(after, engine=filled))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == PICTURES
    assert filled.catalog.pending_work(after.space.id) == 0
    assert status(filled).done == PICTURES


def test_an_ingest_that_goes_on_past_the_end_of_a_change_is_not_lost(
    filled: Engine, other_model: Path, tmp_path: Path
) -> None:
    start_reindex(str(other_model), Options(), engine=filled)
    go_on(filled, ReindexState.SWAPPED)
    roll_back(engine=filled)
    with filled.answering() as held:  # as an ingest holds it, to its end
        swap(engine=filled)
        done = go_on(filled, ReindexState.SWAPPED)
        finish(engine=filled)
        data = save_picture(tmp_path / "late.png", seed=4000).read_bytes()
        decoded = filled.decoders.decode(data, spec=held.space.pixels).result()
        assert decoded.pixels is not None
        filled.blobs.put(original_key(decoded.info.sha256), data)
        new = NewAsset(decoded.info, "upload:late", None, None, {})
        (registered,) = filled.catalog.register(None, T, held.space.id, [new])
        id_ = registered.asset_id
        embedded = encode_tolerantly(held.encoder, decoded.pixels[np.newaxis])
        store(filled, held, {id_: T}, [id_], embedded)
    while not status(filled).dropped:
        advance(engine=filled)
    assert id_ in filled.catalog.embedded(done.after.space.id, [id_])
    assert require_same(filled, done.after) == PICTURES + 1


def test_workers_stop_sending_when_it_is_given_up(filled: Engine, other_model: Path) -> None:
    class Abort(RecordedJobs):
        def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:
            super().send(name, arguments)
            abort(engine=filled)

    start_reindex(str(other_model), Options(), engine=filled)
    jobs = Abort()
    assert advance(engine=filled, jobs=jobs)
    assert len(jobs.sent) == 1
    assert status(filled).state is ReindexState.ABORTED


def test_what_fell_behind_in_either_space_is_seen_by_verify(filled: Engine, other_model: Path) -> None:
    start_reindex(str(other_model), Options(), engine=filled)
    done = go_on(filled, ReindexState.SWAPPED)
    gone = {
        named: [next(iter(filled.spaces.open(named).index.scroll(after=None, limit=1))).id]
        for named in (done.before, done.after)
    }
    for named, points in gone.items():
        filled.spaces.open(named).index.delete(points)
    assert verify(engine=filled, repair=True).mended == {Difference.MISSING_POINT: 2}
    assert verify(engine=filled, repair=False, deep=True).counts == {}
    assert require_same(filled, done.before) == require_same(filled, done.after) == PICTURES


def test_pictures_that_a_swap_left_waiting_are_embedded_by_a_server_that_is_idle(
    open_with: OpenEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "LOCAL_SWEEP_EVERY_S", 0.1)
    save_pictures(tmp_path / "pictures", 2)
    with open_with() as engine:
        jobs = assemble.open_jobs(engine.settings, handlers(engine))
        try:
            eventually(lambda: not engine.catalog.pending_work(engine.encoder.space.id))
            assert len(registered_only(engine, tmp_path / "pictures")) == 2
            eventually(lambda: engine.catalog.count_assets(T, AssetState.INDEXED) == 2)
        finally:
            jobs.close()


def test_each_kind_of_question_is_calibrated_again_at_its_own_rate(
    filled: Engine, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was at it before was killed between the two."""
    start_reindex(str(other_model), Options(), engine=filled)
    before, after = status(filled).before.space.id, status(filled).after.space.id
    trials, _ = made_trials(600)
    for space, kind, rate in (
        (before, Modality.TEXT, 0.1),
        (before, Modality.IMAGE, 0.2),
        (after, Modality.TEXT, 0.1),
    ):
        fitted = fit_calibration(
            trials, space_id=space, modality=kind, assets=PICTURES, made_at=datetime.now(UTC), false_match_rate=rate
        )
        filled.catalog.store_calibration(T, CalibrationRecord(space, kind, fitted.to_json(), fitted.made_at))
    asked: list[tuple[object, object]] = []
    calibrate = Engine.calibrate

    def watched(engine: Engine, tenant: TenantId, **options: object) -> object:
        asked.append((options["modalities"], options["false_match_rate"]))
        return calibrate(engine, tenant, **options)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(Engine, "calibrate", watched)
    go_on(filled, ReindexState.SWAPPED)
    assert asked == [((Modality.IMAGE,), 0.2)]


def answered_by(engine: Engine) -> None:
    with engine.answering() as space:
        latest = status(engine)
        assert space.space.id == latest.after.space.id


def did_a_job(engine: Engine) -> None:
    handlers(engine)[JobName.SWEEP]()


def probed(engine: Engine) -> None:
    jobs = LocalJobs({}, capacity=1)
    asyncio.run(Health(engine, jobs).stores())
    jobs.close()


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question looks whether another space is to answer, however soon after the last one."""
    monkeypatch.setattr(open_spaces, "LOOK_S", 0.0)


@pytest.mark.usefixtures("always_looking")  # set up before the engine, which looks while it is filled
@pytest.mark.parametrize("use", [answered_by, did_a_job, probed])
def test_a_process_that_slept_through_a_change_leaves_the_space_that_was_given_up(
    filled: Engine, other_model: Path, use: Callable[[Engine], None]
) -> None:
    start_reindex(str(other_model), Options(swap=False), engine=filled)
    ready = go_on(filled, ReindexState.READY)
    filled.catalog.reindexes.swap(ready.id)  # as another process does
    filled.catalog.reindexes.finish(ready.id)
    assert filled.current.space.id == ready.before.space.id
    use(filled)
    eventually(lambda: filled.current.space.id == ready.after.space.id)  # a probe does not wait for it
    did_a_job(filled)
    assert filled.spaces._others == {}, "the model before is not kept in memory"


def test_a_model_that_can_not_be_opened_leaves_the_one_before(
    filled: Engine, other_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start_reindex(str(other_model), Options(swap=False), engine=filled)
    ready = go_on(filled, ReindexState.READY)
    filled.catalog.reindexes.swap(ready.id)

    def full(_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(type(filled.current), "warm", full)
    for _ in range(3):
        did_a_job(filled)
    assert caplog.text.count("goes on to answer, what is to take its place can't be opened: MemoryError: no room") == 1
    assert filled.current.space == ready.before.space


def test_a_step_ends_when_it_is_told_to_and_when_it_has_lasted_long_enough() -> None:
    told = threading.Event()
    enough = reindex._Enough(told, limit_s=3600)
    assert not enough.is_set()
    told.set()
    assert enough.is_set()
    assert reindex._Enough(threading.Event(), limit_s=0).is_set()


def test_a_step_that_lasts_is_not_taken_over(
    filled: Engine, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a fleet, whose leases count."""
    start_reindex(str(other_model), Options(), engine=filled)
    monkeypatch.setattr(Settings, "embedded", False)
    filled.settings = filled.settings.model_copy(update={"lease_s": 0.4})
    taken: list[object] = []

    class Slow(RecordedJobs):
        def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:
            super().send(name, arguments)
            time.sleep(1.0)
            taken.append(filled.catalog.reindexes.lease(owner="another", lease_s=1))

    advance(engine=filled, jobs=Slow())
    assert taken == [None]


def test_the_index_is_asked_for_pictures_of_whoever_has_some(
    open_with: OpenEngine, other_model: Path, pictures: Path
) -> None:
    with open_with() as engine:
        ingest([str(pictures)], engine=engine, tenant=TenantId("museum"))
        start_reindex(str(other_model), Options(swap=False), engine=engine)
        ready = go_on(engine, ReindexState.READY)
        assert ready.report is not None
        assert ready.report["gates"][1]["detail"].startswith("recall@10 1.000")
        index = engine.spaces.open(ready.after).index
        index.delete([point.id for point in index.scroll(after=None, limit=PICTURES)])
        report, passed = judge(ready, engine=engine)
        assert not passed
        assert "none of the pictures of museum has a vector" in report["gates"][1]["detail"]
