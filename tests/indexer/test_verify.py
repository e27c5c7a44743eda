from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from indexer.pipeline import ingest, recover
from indexer.verify import Difference, verify
from phosphene.assemble import Engine
from phosphene.blobs import original_key, thumbnail_key
from phosphene.catalog.records import Asset
from phosphene.types import DEFAULT_TENANT, UnitEmbeddings, point_id
from tests.indexer.conftest import OpenEngine, save_pictures
from tests.indexer.running import registered_only

PICTURES = 12


@pytest.fixture
def assets(tmp_path: Path, engine: Engine) -> list[Asset]:
    save_pictures(tmp_path / "pictures", PICTURES)
    (tmp_path / "pictures" / "0000.json").write_text('{"year": 1990, "sold": true, "note": null, "keywords": ["a"]}')
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=DEFAULT_TENANT)
    return engine.catalog.page_assets(tenant=None, after=None, limit=100)


def check(engine: Engine, expected: dict[Difference, int]) -> None:
    """See that verify finds exactly this, mends it, and then finds nothing."""
    found = verify(engine=engine, repair=False)
    assert found.counts == expected
    assert found.ok is (not expected)
    assert set(found.examples) == set(expected)
    mended = verify(engine=engine, repair=True)
    assert mended.ok
    assert mended.mended == expected
    assert verify(engine=engine, repair=True).counts == {}
    assert engine.index.count() == engine.catalog.count_assets(None)


def test_nothing_differs_after_an_ingest(engine: Engine, assets: list[Asset]) -> None:
    report = verify(engine=engine, repair=False, deep=True)
    assert (report.assets, report.points, report.blobs, report.counts) == (PICTURES, PICTURES, PICTURES, {})
    assert assets


def test_missing_points_are_embedded_again(engine: Engine, assets: list[Asset]) -> None:
    space = engine.encoder.space
    ids = [point_id(asset.id, space.id) for asset in assets[:3]]
    before = engine.index.vectors(ids)
    engine.index.delete(ids)
    check(engine, {Difference.MISSING_POINT: 3})
    after = engine.index.vectors(ids)
    assert all(float(before[id_] @ after[id_]) > 0.999 for id_ in ids)


def test_a_damaged_index_is_made_anew_from_catalogue_and_blobs(
    tmp_path: Path, open_with: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    save_pictures(tmp_path / "pictures", PICTURES)
    with open_with() as engine:
        ingest([str(tmp_path / "pictures")], engine=engine, tenant=DEFAULT_TENANT)
    for pointer in (tmp_path / "data" / "vectors").glob("*/current.json"):
        pointer.write_text("{")
    with open_with() as engine:
        found = verify(engine=engine, repair=False)
        assert found.counts == {Difference.DAMAGED_INDEX: 1}
        assert "verify --repair" in found.examples[Difference.DAMAGED_INDEX][0]
        mended = verify(engine=engine, repair=True)
        assert mended.ok
        assert mended.counts == {Difference.DAMAGED_INDEX: 1, Difference.MISSING_POINT: PICTURES}
        assert verify(engine=engine, repair=False).counts == {}
        engine.index.delete([point.id for point in engine.index.scroll(after=None, limit=2)])
        assert recover(engine) == 0
        assert f"holds {PICTURES - 2} of {PICTURES} pictures" in caplog.text


def test_points_without_a_row_are_deleted(engine: Engine, assets: list[Asset]) -> None:
    space = engine.encoder.space
    row = np.zeros((1, space.dimension), dtype=np.float32)
    row[0, 0] = 1
    stray = point_id(assets[0].id, type(space.id)("another"))
    engine.index.upsert([stray], UnitEmbeddings(space, row), [{"tenant": "default", "asset_id": str(assets[0].id)}])
    check(engine, {Difference.ORPHAN_POINT: 1})


def test_stale_payloads_are_written_anew(engine: Engine, assets: list[Asset]) -> None:
    engine.catalog.update_asset(DEFAULT_TENANT, assets[0].id, title="changed behind the index")
    check(engine, {Difference.STALE_PAYLOAD: 1})


def test_missing_thumbnails_are_made_anew(engine: Engine, assets: list[Asset]) -> None:
    key = thumbnail_key(assets[0].sha256)
    before = engine.blobs.get(key)
    engine.blobs.delete(key)
    check(engine, {Difference.MISSING_THUMBNAIL: 1})
    assert engine.blobs.get(key) == before


def test_blobs_that_no_row_needs_are_deleted(engine: Engine, assets: list[Asset]) -> None:
    engine.catalog.delete_asset(DEFAULT_TENANT, assets[0].id)
    engine.index.delete([point_id(assets[0].id, engine.encoder.space.id)])
    check(engine, {Difference.UNUSED_BLOB: 2})
    assert not engine.blobs.exists(original_key(assets[0].sha256))
    assert engine.blobs.exists(original_key(assets[1].sha256))


def test_blobs_stay_while_an_ingest_runs(engine: Engine, assets: list[Asset]) -> None:
    engine.catalog.start_ingest(DEFAULT_TENANT, ["somewhere"])
    engine.blobs.put(original_key(assets[0].sha256)[:-4] + "0000", b"on its way")
    report = verify(engine=engine, repair=True)
    assert report.counts == {Difference.UNUSED_BLOB: 1}
    assert not report.ok


def test_leftover_work_is_done(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", PICTURES)
    registered_only(engine, tmp_path / "pictures")
    check(engine, {Difference.LEFTOVER_WORK: PICTURES})


def test_lost_and_damaged_originals_are_told_and_can_not_be_mended(engine: Engine, assets: list[Asset]) -> None:
    engine.blobs.delete(original_key(assets[0].sha256))
    engine.blobs.put(original_key(assets[1].sha256), b"other bytes")
    report = verify(engine=engine, repair=True, deep=True)
    assert report.counts == {Difference.MISSING_ORIGINAL: 1, Difference.DAMAGED_ORIGINAL: 1}
    assert not report.ok
    assert str(assets[0].id) in report.examples[Difference.MISSING_ORIGINAL][0]


def test_pictures_that_nobody_is_to_embed_are_found_and_embedded(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "pictures", 3)
    assets = registered_only(engine, tmp_path / "pictures")
    with sqlite3.connect(engine.settings.data / "catalog.sqlite") as database:
        database.execute("DELETE FROM work")
    database.close()
    assert len(assets) == 3
    check(engine, {Difference.FORGOTTEN: 3})
