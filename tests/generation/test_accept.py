"""A generated picture is found by nobody until it is accepted; then by all, marked as generated."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.generated import accept_picture
from indexer.payload import payload_of
from indexer.uploads import add_asset, remove_asset, update_asset_metadata
from indexer.verify import Difference, verify
from phosphene.assemble import Engine
from phosphene.blobs import generation_key, original_key
from phosphene.catalog.records import AssetState
from phosphene.errors import InvalidInput, NotFound
from phosphene.filters import Exists, Filter, Not, parse_filter
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import TenantId, point_id
from tests.generation.asking import ask, drawn, files, left, look, picture, rewrite, wanted


def found(engine: Engine, *conditions: object) -> int:
    where: Filter = parse_filter({"and": list(conditions)}, engine.fields(T)) if conditions else Exists("tenant")
    return engine.index.count(where)


def test_it_becomes_an_asset_like_any_other(engine: Engine) -> None:
    add_asset(picture(1), engine=engine, tenant=T, uri="upload:x")
    made = drawn(engine, wanted(images=2))
    assert engine.catalog.count_assets(T) == 1
    assert found(engine, {"field": "generated", "equals": True}) == 0
    asset = accept_picture(T, made.id, 1, engine=engine)
    assert (asset.generated, asset.title, asset.state) == (True, "a red bus", AssetState.INDEXED)
    assert engine.blobs.get(original_key(asset.sha256)) == files(engine, made)[1]
    assert engine.catalog.locations_of(T, asset.id) == [f"generation:{made.id}/1"]
    assert [one.asset_id for one in look(engine, made.id).pictures] == [None, asset.id]
    assert found(engine, {"field": "generated", "equals": True}) == 1
    assert found(engine, {"field": "generated", "equals": False}) == 1
    assert found(engine, {"field": "generated", "any_of": [True, False]}) == 2
    assert found(engine, {"not": {"field": "generated", "equals": True}}) == 1


def test_accepting_again_changes_nothing(engine: Engine) -> None:
    made = drawn(engine)
    asset = accept_picture(T, made.id, 0, engine=engine, title="mine")
    assert asset.title == "mine"
    assert accept_picture(T, made.id, 0, engine=engine, title="other") == asset
    assert engine.catalog.count_assets(T) == engine.index.count() == 1
    renamed = update_asset_metadata(T, asset.id, engine=engine, title="renamed")
    assert accept_picture(T, made.id, 0, engine=engine) == renamed
    assert renamed.generated


def test_what_was_taken_out_can_be_accepted_anew(engine: Engine) -> None:
    made = drawn(engine)
    asset = accept_picture(T, made.id, 0, engine=engine)
    remove_asset(T, asset.id, engine=engine)
    assert engine.index.count() == 0
    assert files(engine, made)  # the generation keeps its own
    assert accept_picture(T, made.id, 0, engine=engine).id == asset.id
    assert engine.index.count() == 1


def test_one_that_was_downloaded_and_ingested_before_is_marked_then(engine: Engine) -> None:
    made = drawn(engine)
    before = add_asset(files(engine, made)[0], engine=engine, tenant=T, uri="upload:saved.png")
    assert not engine.catalog.asset(T, before.asset_id).generated
    asset = accept_picture(T, made.id, 0, engine=engine)
    assert (asset.id, asset.generated) == (before.asset_id, True)
    assert found(engine, {"field": "generated", "equals": True}) == 1


def test_what_there_is_not_can_not_be_accepted(engine: Engine) -> None:
    waiting = ask(engine)
    with pytest.raises(InvalidInput, match="is queued"):
        accept_picture(T, waiting.id, 0, engine=engine)
    made = drawn(engine)
    for place in (-1, 1):
        with pytest.raises(NotFound, match=r"has pictures 0\.\.0"):
            accept_picture(T, made.id, place, engine=engine)
    with pytest.raises(NotFound):
        accept_picture(TenantId("others"), made.id, 0, engine=engine)
    for key in left(engine):
        engine.blobs.delete(key)
    with pytest.raises(NotFound, match="no blob"):
        accept_picture(T, made.id, 0, engine=engine)
    assert engine.catalog.count_assets(T) == 0


def test_points_older_than_the_field_are_not_generated(engine: Engine) -> None:
    """As they were written before there was the field."""
    asset = engine.catalog.asset(T, add_asset(picture(1), engine=engine, tenant=T, uri="upload:x").asset_id)
    old = {name: value for name, value in payload_of(asset, ["upload:x"]).items() if name != "generated"}
    engine.index.set_payloads([point_id(asset.id, engine.encoder.space.id)], [old])
    assert found(engine, {"field": "generated", "equals": False}) == 1
    assert found(engine, {"field": "generated", "any_of": [False]}) == 1
    assert found(engine, {"field": "generated", "equals": True}) == 0
    assert found(engine, {"field": "generated", "exists": True}) == 1
    assert engine.index.count(Not(Exists("generated"))) == 0
    assert verify(engine=engine, repair=False).ok


def test_verify_finds_what_ended_generations_left(engine: Engine) -> None:
    made = drawn(engine)
    rewrite(engine, ask(engine, wanted(seed=8)).id, state="running")
    report = verify(engine=engine, repair=True)
    assert report.ok
    assert report.counts == {}
    failed = ask(engine, wanted(seed=9))
    engine.catalog.generations.fail(failed.id, owner=None, error="x")
    lost = [
        generation_key(failed.id, made.pictures[0].sha256, "png"),
        generation_key(made.id, failed.key or "", "png"),  # type: ignore[arg-type]  # a hash of something else
        f"generation-inputs/{made.id}/0",
    ]
    for key in lost:
        engine.blobs.put(key, b"leftover")
    assert verify(engine=engine, repair=False).counts == {Difference.UNUSED_BLOB: 3}
    assert verify(engine=engine, repair=True).ok
    assert left(engine) == [generation_key(made.id, made.pictures[0].sha256, "png")]
    assert np.asarray(files(engine, made)).size == 1
