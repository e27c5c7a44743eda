"""Asking: what is refused leaves nothing, the same question gets the kept answer, limits hold."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from phosphene.assemble import Engine
from phosphene.blobs import generation_input_key
from phosphene.catalog.generation_records import GenerationState
from phosphene.errors import (
    Blocked,
    Forbidden,
    InvalidInput,
    ModelNotFound,
    NotFound,
    Overloaded,
    PictureError,
    Unavailable,
)
from phosphene.generation.asked import AskedPart
from phosphene.generation.concepts import Concepts
from phosphene.generation.request import cancel_generation, request_generation
from phosphene.generation.run import run_generation
from phosphene.jobs import JSON, JobName
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, TenantId
from phosphene.unclip.imagine import Edit
from tests.generation.asking import ask, drawn, files, left, picture, pixels_of, wanted
from tests.generation.conftest import OpenEngine


def kept(engine: Engine) -> int:
    return len(engine.catalog.generations.latest(T, before=None, limit=1000))


def test_the_same_request_and_seed_give_the_kept_answer(engine: Engine) -> None:
    made = drawn(engine, wanted(images=2))
    again = ask(engine, wanted(images=2))
    assert again == made
    assert kept(engine) == 1
    assert drawn(engine, wanted(images=2, seed=8)).id != made.id
    # Another tenant asks the same: the answer is its own, of the same pixels.
    theirs = request_generation(wanted(images=2), engine=engine, tenant=TenantId("others"), jobs=None)
    run_generation(theirs.id, engine=engine)
    theirs = engine.catalog.generations.one(TenantId("others"), theirs.id)
    for mine, other in zip(files(engine, made), files(engine, theirs), strict=True):
        assert (pixels_of(mine) == pixels_of(other)).all()


def test_without_a_seed_each_is_another_picture(engine: Engine) -> None:
    one, two = (drawn(engine, wanted(seed=None)) for _ in range(2))
    assert one.seed != two.seed
    assert (pixels_of(files(engine, one)[0]) != pixels_of(files(engine, two)[0])).any()
    # The seed that was drawn is told, and draws the same picture again.
    assert ask(engine, wanted(seed=one.seed)).id == one.id


def test_a_picture_that_is_gone_is_drawn_anew(engine: Engine) -> None:
    made = drawn(engine)
    before = pixels_of(files(engine, made)[0])
    for key in left(engine):
        engine.blobs.delete(key)
    anew = drawn(engine)
    assert anew.id != made.id
    assert (pixels_of(files(engine, anew)[0]) == before).all()


def test_what_other_weights_drew_is_not_served(open_with: OpenEngine, tiny_generator: Path, tmp_path: Path) -> None:
    folder = tmp_path / "generator"
    shutil.copytree(tiny_generator, folder)
    with open_with(generator=str(folder)) as engine:
        first = drawn(engine)
        assert ask(engine).id == first.id
    weights = next((folder / "decoder").glob("*.safetensors"))
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with open_with(generator=str(folder)) as engine:
        second = drawn(engine)
        assert second.id != first.id
        assert second.weights_sha256 != first.weights_sha256


def test_the_weights_in_memory_count_not_those_put_on_the_disk_meanwhile(
    open_with: OpenEngine, tiny_generator: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "generator"
    shutil.copytree(tiny_generator, folder)
    with open_with(generator=str(folder)) as engine:
        first = drawn(engine)
        (folder / "unclip.json").write_text("{}")
        assert ask(engine).id == first.id


@pytest.mark.parametrize(
    ("part", "error", "said"),
    [
        (AskedPart(image=b"no picture"), PictureError, "no jpeg"),
        (AskedPart(image=picture()[:200]), PictureError, "cut off"),
        (AskedPart(asset_id=AssetId(uuid4())), NotFound, "no asset"),
    ],
)
def test_what_can_not_be_used_is_refused_and_leaves_nothing(
    engine: Engine, part: AskedPart, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        ask(engine, wanted(parts=(AskedPart(text="a"), part)))
    assert kept(engine) == 0
    assert left(engine) == []


def test_an_asset_of_another_tenant_is_not_there(engine: Engine) -> None:
    from indexer.uploads import add_asset

    theirs = add_asset(picture(), engine=engine, tenant=TenantId("others"), uri="upload:x")
    with pytest.raises(NotFound, match="no asset"):
        ask(engine, wanted(parts=(AskedPart(asset_id=theirs.asset_id),)))


def test_the_guard_rails_are_asked_first(open_with: OpenEngine) -> None:
    with open_with(moderation="tests.generation.asking:no_weasels") as engine:
        for request in (
            wanted("two weasels"),
            wanted("a lawn", edit=Edit("a lawn", "a weasel")),
            wanted("a weasel", withhold_prompt=True, parts=(AskedPart(text="a weasel"), AskedPart(image=picture()))),
        ):
            with pytest.raises(Blocked):
                ask(engine, request)
        assert kept(engine) == 0
        assert left(engine) == []
        assert ask(engine, wanted("a lawn", negative="a weasel")).state is GenerationState.QUEUED


def test_what_was_drawn_under_other_guard_rails_is_judged_anew(open_with: OpenEngine, tmp_path: Path) -> None:
    listed = tmp_path / "blocked.txt"
    listed.write_text("weasels\n")
    with open_with(blocked_concepts=(f"@{listed}",)) as engine:
        first = drawn(engine)
        assert ask(engine).id == first.id
    listed.write_text("weasels\nstoats\n")
    with open_with(blocked_concepts=(f"@{listed}",)) as engine:
        assert ask(engine).id != first.id


@pytest.mark.parametrize(
    "change",
    [
        {"words": ("stoat",)},
        {"pairs": ((("stoat",), ("car",)),)},
        {"allowed": ("a stoat",)},
        {"everyday": ("a stoat",)},
        {"blocked": {"stoats": ("a stoat",)}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_shipped_list_counts_as_other_guard_rails(
    open_with: OpenEngine, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    with open_with() as engine:
        first = drawn(engine)
    shipped = Concepts.shipped()
    monkeypatch.setattr(Concepts, "shipped", lambda: replace(shipped, **change))
    with open_with() as engine:
        assert ask(engine).id != first.id


def test_without_a_generator_nothing_is_kept(open_with: OpenEngine, tmp_path: Path) -> None:
    with open_with(generator=str(tmp_path / "nowhere")) as engine:
        with pytest.raises(ModelNotFound, match="nowhere"):
            ask(engine)
        assert kept(engine) == 0


def test_budget_and_queue_are_those_of_the_settings(open_with: OpenEngine) -> None:
    with open_with(generations_per_day=3, generation_queue=2) as engine:
        first = ask(engine, wanted(images=2))
        with pytest.raises(Overloaded, match="2 of 3 pictures") as caught:
            ask(engine, wanted(images=2, seed=8))
        assert 23.9 * 3600 < caught.value.retry_after_s <= 24 * 3600
        ask(engine, wanted(seed=9))
        with pytest.raises(InvalidInput, match="4 images are more than the 3"):
            ask(engine, wanted(images=4))
        cancel_generation(first.id, engine=engine, tenant=T)
        ask(engine, wanted(images=2, seed=8))
        with pytest.raises(Overloaded, match="try again"):
            ask(engine, wanted(seed=10, parts=(AskedPart(image=picture()),)))
        assert left(engine) == []
    with open_with(generations_per_day=0) as engine, pytest.raises(Forbidden):
        ask(engine, wanted(seed=11))


class Refusing:
    """Jobs that take none: a broker that is down can't be made to answer so at will."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def send(self, name: JobName, arguments: Mapping[str, JSON]) -> None:  # noqa: ARG002  their protocol
        raise self.error

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    "error", [Unavailable("the broker is away"), Overloaded("full", retry_after_s=1), KeyboardInterrupt()]
)
def test_what_can_not_be_sent_fails_and_leaves_nothing(engine: Engine, error: BaseException) -> None:
    with pytest.raises(type(error)):
        ask(engine, wanted(parts=(AskedPart(image=picture()),)), jobs=Refusing(error))
    (row,) = engine.catalog.generations.latest(T, before=None, limit=10)
    assert row.state is GenerationState.FAILED
    assert "could not be queued" in str(row.error)
    assert left(engine) == []


def test_uploads_that_can_not_be_stored_fail_it_and_leave_nothing(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "data" / "blobs" / "generation-inputs").write_text("in the way")
    with pytest.raises(Unavailable):
        ask(engine, wanted(parts=(AskedPart(image=picture()),)))
    (tmp_path / "data" / "blobs" / "generation-inputs").unlink()
    (row,) = engine.catalog.generations.latest(T, before=None, limit=10)
    assert row.state is GenerationState.FAILED
    assert left(engine) == []


def test_uploads_wait_for_the_worker_and_go_with_a_cancellation(engine: Engine) -> None:
    parts = (AskedPart(text="a"), AskedPart(image=picture(1)), AskedPart(image=picture(2)))
    asked = ask(engine, wanted(parts=parts))
    assert left(engine) == [generation_input_key(asked.id, number) for number in (1, 2)]
    cancelled = cancel_generation(asked.id, engine=engine, tenant=T)
    assert cancelled.state is GenerationState.CANCELLED
    assert left(engine) == []
    assert ask(engine, wanted(parts=parts)).id != asked.id


def test_parents_are_kept(engine: Engine) -> None:
    from indexer.uploads import add_asset

    ids = [add_asset(picture(seed), engine=engine, tenant=T, uri=f"upload:{seed}").asset_id for seed in (1, 2)]
    parts = tuple(AskedPart(asset_id=id_, weight=weight) for id_, weight in zip(ids, (1.0, 3.0), strict=True))
    made = drawn(engine, wanted(parts=(*parts, AskedPart(text="a"))))
    assert [(parent.asset_id, parent.weight) for parent in made.parents] == [(ids[0], 1.0), (ids[1], 3.0)]
    assert replace(made, parents=()).prompt == "a"
