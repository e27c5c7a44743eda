"""Drawing: from the row to pictures in the blob store, and whatever goes wrong leaves a reason and nothing else."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexer.uploads import add_asset, remove_asset
from phosphene.assemble import Engine
from phosphene.catalog.generation_records import Generation, GenerationState
from phosphene.errors import Blocked, Unavailable
from phosphene.generation.asked import AskedPart, SamplingChoice
from phosphene.generation.request import cancel_generation
from phosphene.generation.run import MAX_ATTEMPTS, run_generation, sweep_generations
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import sha256_of
from phosphene.unclip.base import Progress, Size
from phosphene.unclip.imagine import Edit, Part, Request, imagine
from tests.generation.asking import (
    SLOW,
    ask,
    drawn,
    eventually,
    files,
    left,
    look,
    picture,
    pixels_of,
    rewrite,
    wanted,
)
from tests.generation.conftest import OpenEngine

SECRET = "the prompt that nobody may read"  # noqa: S105  of a test


def ended(engine: Engine, generation: Generation) -> Generation:
    run_generation(generation.id, engine=engine)
    return look(engine, generation.id)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_pictures_are_drawn_and_kept(engine: Engine, kind: str) -> None:
    seen: list[Progress] = []
    asked = ask(engine, wanted(images=3, format=kind))
    run_generation(asked.id, engine=engine, on_step=seen.append)
    made = look(engine, asked.id)
    assert made.state is GenerationState.FINISHED
    assert [(one.place, one.seed, one.width, one.height, one.format) for one in made.pictures] == [
        (place, 7 + place, 32, 32, kind) for place in range(3)
    ]
    for one, data in zip(made.pictures, files(engine, made), strict=True):
        assert sha256_of(data) == one.sha256
        assert pixels_of(data).shape == (32, 32, 3)
    assert len(left(engine)) == 3
    assert len(set(files(engine, made))) == 3
    assert [one.stage for one in seen] == ["prior"] * 4 + ["decoder"] * 3 + ["super_resolution"] * 2
    assert made.weights_sha256 == engine.generator.weights_sha256()
    assert made.model == Path(engine.settings.generator).name  # not where it lies on this machine


def test_the_pixels_are_those_of_the_generator(engine: Engine) -> None:
    made = drawn(engine, wanted(images=2))
    expected = imagine(Request((Part("a red bus"),), images=2, seed=7), generator=engine.generator)
    for data, pixels in zip(files(engine, made), expected.pixels, strict=True):
        assert (pixels_of(data) == pixels).all()


def test_every_operation_from_every_source(engine: Engine) -> None:
    asset = add_asset(picture(1), engine=engine, tenant=T, uri="upload:x").asset_id
    text, of_asset, upload = AskedPart(text="a bus"), AskedPart(asset_id=asset), AskedPart(image=picture(2), weight=2)
    requests = [
        wanted(parts=(of_asset,)),
        wanted(parts=(upload,)),
        wanted(parts=(text, of_asset, upload)),
        wanted(parts=(upload, text), edit=Edit("day", "night", 0.5)),
        wanted(parts=(of_asset,), size=Size(16, 16)),
        wanted(negative="rain"),
        wanted(sampling=SamplingChoice(prior_steps=2, decoder_guidance=4.0, candidates=1)),
    ]
    pictures = [files(engine, drawn(engine, request))[0] for request in requests]
    assert len(set(pictures)) == len(requests)
    assert len(left(engine)) == len(requests)  # uploads are gone
    assert pixels_of(pictures[4]).shape == (16, 16, 3)


def test_what_is_not_there_ends_it_with_a_reason(engine: Engine) -> None:
    asset = add_asset(picture(1), engine=engine, tenant=T, uri="upload:x").asset_id
    asked = ask(engine, wanted(parts=(AskedPart(asset_id=asset), AskedPart(image=picture(2)))))
    remove_asset(T, asset, engine=engine)
    made = ended(engine, asked)
    assert (made.state, made.error) == (GenerationState.FAILED, f"no asset {asset}")
    assert left(engine) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": Size(100, 100)}, "can't draw 100x100 pixels"),
        ({"parts": (AskedPart(image=picture()),), "negative": "rain"}, "a negative prompt has no effect here"),
    ],
)
def test_what_the_generator_can_not_do_ends_it_with_a_reason(
    engine: Engine, changes: dict[str, Any], reason: str
) -> None:
    made = ended(engine, ask(engine, wanted(**changes)))
    assert made.state is GenerationState.FAILED
    assert reason in str(made.error)
    assert left(engine) == []


def test_uploads_that_are_lost_end_it_with_a_reason(engine: Engine) -> None:
    asked = ask(engine, wanted(parts=(AskedPart(image=picture()),)))
    for key in left(engine):
        engine.blobs.delete(key)
    made = ended(engine, asked)
    assert made.state is GenerationState.FAILED
    assert "is gone: ask again" in str(made.error)


def test_a_generator_of_another_space_ends_it_with_a_reason(
    open_with: OpenEngine, tiny_generator: Path, tmp_path: Path
) -> None:
    from tests.indexer.conftest import make_model

    with open_with(model=str(make_model(tmp_path / "other", seed=9))) as engine:
        made = ended(engine, ask(engine))
        assert made.state is GenerationState.FAILED
        assert str(tiny_generator) in str(made.error)


def test_the_guard_rails_see_embeddings_before_they_are_drawn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def refuse(rows: np.ndarray[Any, np.dtype[np.float32]], **_: object) -> None:
        shapes.append(rows.shape)
        raise Blocked("too near to what is not drawn here")

    monkeypatch.setattr(engine.guard, "check_embeddings", refuse)
    seen: list[str] = []
    asked = ask(engine, wanted(images=2))
    run_generation(asked.id, engine=engine, on_step=lambda progress: seen.append(progress.stage))
    made = look(engine, asked.id)
    assert (made.state, made.error) == (GenerationState.FAILED, "too near to what is not drawn here")
    assert shapes == [(2, 32)]
    assert set(seen) == {"prior"}
    assert left(engine) == []
    assert engine.generating.acquire(blocking=False)


# --- stopping


def in_the_middle(engine: Engine, generation: Generation, act: Any, **options: Any) -> Generation:  # noqa: ANN401
    """Draw, and do something in the tenth step of the decoder."""

    def watch(progress: Progress) -> None:
        if (progress.stage, progress.step) == ("decoder", 10):
            act()

    run_generation(generation.id, engine=engine, on_step=watch, **options)
    return look(engine, generation.id)


def test_cancelled_in_the_middle_it_ends_soon_and_leaves_nothing(engine: Engine) -> None:
    asked = ask(engine, wanted(parts=(AskedPart(image=picture()),), sampling=SLOW))
    began = time.monotonic()
    made = in_the_middle(engine, asked, lambda: cancel_generation(asked.id, engine=engine, tenant=T))
    assert (made.state, made.error) == (GenerationState.CANCELLED, None)
    assert (made.progress, made.preview) == (None, None)
    assert left(engine) == []
    assert time.monotonic() - began < 30
    assert drawn(engine, wanted(seed=8)).state is GenerationState.FINISHED


def test_cancelled_at_the_last_moment_it_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask(engine)
    put = engine.blobs.put_many

    def put_then_cancel(blobs: dict[str, bytes]) -> None:
        put(blobs)
        cancel_generation(asked.id, engine=engine, tenant=T)

    monkeypatch.setattr(engine.blobs, "put_many", put_then_cancel)
    assert ended(engine, asked).state is GenerationState.CANCELLED
    assert left(engine) == []


def test_stopped_it_is_given_back_and_drawn_another_time(engine: Engine) -> None:
    stop = threading.Event()
    asked = ask(engine, wanted(parts=(AskedPart(image=picture()),), sampling=SLOW))
    made = in_the_middle(engine, asked, stop.set, stop=stop)
    assert (made.state, made.attempts, made.error) == (GenerationState.QUEUED, 0, None)
    assert ended(engine, asked).state is GenerationState.FINISHED
    assert len(left(engine)) == 1


def test_ctrl_c_cancels_it(engine: Engine) -> None:
    asked = ask(engine, wanted(parts=(AskedPart(image=picture()),)))

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_generation(asked.id, engine=engine, on_step=interrupt)
    assert look(engine, asked.id).state is GenerationState.CANCELLED
    assert left(engine) == []


def test_what_takes_too_long_ends_with_a_reason(engine: Engine) -> None:
    _ = engine.generator
    asked = ask(engine, wanted(sampling=SLOW))
    run_generation(asked.id, engine=engine, limit_s=0.3)
    made = look(engine, asked.id)
    assert made.state is GenerationState.FAILED
    assert "took longer than 0 s: ask for fewer images or steps" in str(made.error)


def test_waiting_for_the_generator_it_can_be_cancelled(engine: Engine) -> None:
    asked = ask(engine)
    with engine.generating:
        runner = threading.Thread(target=run_generation, args=(asked.id,), kwargs={"engine": engine})
        runner.start()
        eventually("it runs", lambda: look(engine, asked.id).state is GenerationState.RUNNING)
        cancel_generation(asked.id, engine=engine, tenant=T)
        runner.join(30)
        assert not runner.is_alive()
    assert look(engine, asked.id).state is GenerationState.CANCELLED


def test_progress_and_a_small_preview_are_seen_from_outside(engine: Engine) -> None:
    asked = ask(engine, wanted(sampling=SLOW))
    runner = threading.Thread(target=run_generation, args=(asked.id,), kwargs={"engine": engine})
    runner.start()
    eventually("a preview", lambda: look(engine, asked.id).preview is not None)
    seen = look(engine, asked.id)
    assert seen.progress is not None
    assert (seen.progress.stage, seen.progress.of) == ("decoder", 1000)
    assert 1 <= seen.progress.step <= 1000
    with Image.open(BytesIO(seen.preview or b"")) as small:
        assert small.format == "WEBP"
        assert max(small.size) <= 96
    cancel_generation(asked.id, engine=engine, tenant=T)
    runner.join()


# --- leases


def test_whom_the_lease_was_taken_from_brings_nothing(engine: Engine) -> None:
    asked = ask(engine, wanted(sampling=SLOW))
    until = datetime.now(UTC) + timedelta(hours=1)
    made = in_the_middle(engine, asked, lambda: rewrite(engine, asked.id, lease_owner="another", lease_until=until))
    assert made.state is GenerationState.RUNNING
    assert left(engine) == []


def test_two_who_run_it_draw_it_once(engine: Engine) -> None:
    asked = ask(engine, wanted(sampling=SamplingChoice(decoder_steps=100)))
    steps: list[Progress] = []
    runners = [
        threading.Thread(target=run_generation, args=(asked.id,), kwargs={"engine": engine, "on_step": steps.append})
        for _ in range(3)
    ]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    made = look(engine, asked.id)
    assert (made.state, made.attempts) == (GenerationState.FINISHED, 1)
    assert len([one for one in steps if one.stage == "decoder"]) == 100
    assert len(left(engine)) == 1
    run_generation(asked.id, engine=engine)
    assert look(engine, asked.id) == made


def test_the_lease_is_renewed_while_it_draws(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phosphene.generation.run.LEASE_S", 2.0)
    asked = ask(engine, wanted(sampling=SLOW))
    taken: list[Generation | None] = []

    def wait() -> None:
        time.sleep(3)  # as one long step of a large model does
        taken.append(engine.catalog.generations.lease(asked.id, owner="another", lease_s=1))
        cancel_generation(asked.id, engine=engine, tenant=T)

    monkeypatch.setattr("phosphene.generation.run.RENEW_EVERY_S", 0.5)
    assert in_the_middle(engine, asked, wait).state is GenerationState.CANCELLED
    assert taken == [None]


def test_cut_off_from_the_catalogue_it_stops_when_the_lease_is_over(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phosphene.generation.run.LEASE_S", 1.0)
    monkeypatch.setattr("phosphene.generation.run.RENEW_EVERY_S", 0.2)
    asked = ask(engine, wanted(sampling=SLOW))

    def no_answer(*_: object, **__: object) -> bool:
        raise Unavailable("the catalogue does not answer")

    monkeypatch.setattr(engine.catalog.generations, "renew", no_answer)
    with pytest.raises(Unavailable, match="did not answer for as long as the lease"):
        run_generation(asked.id, engine=engine)
    monkeypatch.undo()
    assert left(engine) == []
    time.sleep(1)
    assert ended(engine, asked).state is GenerationState.FINISHED


# --- stores that fail


def test_a_blob_store_that_fails_in_the_middle_is_tried_again(engine: Engine, tmp_path: Path) -> None:
    asked = ask(engine)
    obstacle = tmp_path / "data" / "blobs" / "generations"
    obstacle.write_text("in the way")
    with pytest.raises(Unavailable):
        run_generation(asked.id, engine=engine)
    waiting = look(engine, asked.id)
    assert (waiting.state, waiting.attempts) == (GenerationState.QUEUED, 1)
    obstacle.unlink()
    assert sweep_generations(engine=engine) == 1
    assert look(engine, asked.id).state is GenerationState.FINISHED


def test_a_blob_store_that_goes_on_failing_ends_it_with_its_reason(engine: Engine, tmp_path: Path) -> None:
    asked = ask(engine)
    obstacle = tmp_path / "data" / "blobs" / "generations"
    obstacle.write_text("in the way")
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Unavailable):
            run_generation(asked.id, engine=engine)
    made = look(engine, asked.id)
    assert made.state is GenerationState.FAILED
    assert "has a file where a folder should be" in str(made.error) or "blob store" in str(made.error)
    assert "\n" not in str(made.error)
    obstacle.unlink()
    assert left(engine) == []


def test_a_full_disk_leaves_no_half_of_the_pictures(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk can't be filled here: the second file is the one that finds no room."""
    from phosphene import blobs

    write = blobs._write_durably
    written: list[Path] = []

    def write_until_full(path: Path, data: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, data)

    asked = ask(engine, wanted(images=4))
    monkeypatch.setattr(blobs, "_write_durably", write_until_full)
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Unavailable, match="no room left in the blob store"):
            run_generation(asked.id, engine=engine)
    made = look(engine, asked.id)
    assert made.state is GenerationState.FAILED
    assert "no room left in the blob store" in str(made.error)
    assert left(engine) == []
    assert not list((engine.settings.data / "blobs" / "generations").glob("*"))


# --- what nobody may read


@pytest.mark.parametrize("way", ["drawn", "failed", "broken", "cancelled"])
def test_prompts_are_in_no_log(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level(logging.DEBUG)
    changes: dict[str, Any] = {"negative": SECRET[::-1]}
    if way == "failed":
        changes["size"] = Size(100, 100)
    if way == "broken":

        def break_down(*_: object, **options: Any) -> None:  # noqa: ANN401
            raise RuntimeError(f"can't draw {options['captions']}")

        monkeypatch.setattr(engine.generator, "decode", break_down)
    asked = ask(engine, wanted(SECRET, **changes))
    if way == "cancelled":
        cancel_generation(asked.id, engine=engine, tenant=T)
    made = ended(engine, asked)
    assert made.state is not GenerationState.QUEUED
    assert SECRET not in caplog.text
    assert SECRET[::-1] not in caplog.text
    assert str(asked.id) in caplog.text
    if way == "broken":
        assert made.error is not None
        assert made.error.startswith("the generator failed: RuntimeError: can't draw")
        assert "break_down" in caplog.text  # where it was


@pytest.mark.parametrize("way", ["drawn", "broken"])
def test_a_withheld_prompt_is_nowhere_when_it_is_done(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "broken":

        def break_down(*_: object, **__: object) -> None:
            raise RuntimeError(f"can't draw {SECRET}")

        monkeypatch.setattr(engine.generator, "decode", break_down)
    asked = ask(
        engine, wanted(SECRET, withhold_prompt=True, negative=SECRET[::-1], edit=Edit(SECRET, f"{SECRET} at night"))
    )
    assert SECRET not in str(asked)
    made = ended(engine, asked)
    assert made.state is (GenerationState.FINISHED if way == "drawn" else GenerationState.FAILED)
    for said in [str(made), *map(bytes.__repr__, files(engine, made))]:
        assert SECRET not in said
        assert SECRET[::-1] not in said
    with engine.catalog._database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM generations").all()
    assert SECRET not in str(rows)


def test_the_next_one_works_after_one_that_broke(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.generator, "decode", lambda *_, **__: 1 / 0)
    made = ended(engine, ask(engine))
    assert (made.state, made.error) == (
        GenerationState.FAILED,
        "the generator failed: ZeroDivisionError: division by zero",
    )
    monkeypatch.undo()
    assert drawn(engine).id != made.id
