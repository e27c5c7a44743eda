from __future__ import annotations

from pathlib import Path

import pytest

from indexer.pipeline import add_asset, remove_asset, update_asset_metadata
from indexer.verify import verify
from phosphene.assemble import Engine
from phosphene.blobs import original_key
from phosphene.catalog.records import AssetState, Outcome
from phosphene.errors import InvalidInput, NotFound, PictureError, PictureFault
from phosphene.filters import Equals, Range
from phosphene.types import DEFAULT_TENANT, TenantId
from tests.indexer.conftest import save_picture, watch
from tests.indexer.running import RecordedJobs, fail_on_red, red

OTHER = TenantId("other")


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    return save_picture(tmp_path / "a.png", seed=1).read_bytes()


def test_an_upload_is_searchable_at_once_and_a_second_changes_nothing(engine: Engine, picture: bytes) -> None:
    added = add_asset(
        picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png", title="Fox", metadata={"Year": 1990}
    )
    assert added.outcome is Outcome.ADDED
    assert engine.index.count(Range("year", gte=1990)) == 1
    watched = watch(engine)
    again = add_asset(
        picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png", title="Fox", metadata={"Year": 1990}
    )
    assert (again.asset_id, again.outcome) == (added.asset_id, Outcome.UNCHANGED)
    changed = add_asset(
        picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png", title="Fox", metadata={"Year": 1985}
    )
    assert changed.outcome is Outcome.UPDATED
    assert engine.index.count(Range("year", gte=1990)) == 0
    assert watched.batches == []
    assert verify(engine=engine, repair=False).counts == {}


def test_a_bad_upload_leaves_nothing_behind(engine: Engine, picture: bytes) -> None:
    with pytest.raises(PictureError) as caught:
        add_asset(picture[:50], engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png")
    assert caught.value.fault is PictureFault.TRUNCATED
    add_asset(picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png", metadata={"year": 1990})
    with pytest.raises(InvalidInput, match="'year' holds integer values"):
        add_asset(picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:b.png", metadata={"year": "long ago"})
    with pytest.raises(InvalidInput, match="no field name"):
        add_asset(picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:b.png", metadata={"年": 1})
    assert engine.catalog.count_assets(None) == 1
    assert verify(engine=engine, repair=False).counts == {}


def test_an_upload_that_can_not_be_encoded_is_refused(tmp_path: Path, engine: Engine) -> None:
    watch(engine, fail_on_red)
    data = red(tmp_path / "red.png").read_bytes()
    with pytest.raises(PictureError) as caught:
        add_asset(data, engine=engine, tenant=DEFAULT_TENANT, uri="upload:red.png")
    assert caught.value.fault is PictureFault.EMBEDDING_FAILED
    assert engine.index.count() == 0
    assert engine.catalog.count_assets(None, AssetState.FAILED) == 1


def test_where_others_embed_an_upload_is_sent_on(engine: Engine, picture: bytes) -> None:
    jobs = RecordedJobs()
    added = add_asset(picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png", jobs=jobs)
    assert jobs.sent == [("phosphene.embed.online", {"asset_ids": [str(added.asset_id)]})]
    assert engine.index.count() == 0


def test_metadata_is_changed_in_row_and_payload(engine: Engine, picture: bytes) -> None:
    id_ = add_asset(picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png", title="Fox").asset_id
    watched = watch(engine)
    asset = update_asset_metadata(
        DEFAULT_TENANT, id_, engine=engine, metadata={"Sold": True, "taken": "2024-05-17", "width": 3}
    )
    assert asset.title == "Fox"
    assert asset.metadata == {"sold": True, "taken": "2024-05-17T00:00:00Z", "source_width": 3}
    assert engine.index.count(Equals("sold", value=True)) == 1
    asset = update_asset_metadata(DEFAULT_TENANT, id_, engine=engine, title=None)
    assert asset.title is None
    assert asset.metadata["sold"] is True
    with pytest.raises(InvalidInput, match="'taken' holds datetime values"):
        update_asset_metadata(DEFAULT_TENANT, id_, engine=engine, metadata={"taken": "long ago"})
    with pytest.raises(NotFound):
        update_asset_metadata(OTHER, id_, engine=engine, title="not theirs")
    assert watched.batches == []
    assert verify(engine=engine, repair=False).counts == {}


def test_removal_takes_all_but_what_another_tenant_needs(engine: Engine, picture: bytes) -> None:
    mine = add_asset(picture, engine=engine, tenant=DEFAULT_TENANT, uri="upload:a.png").asset_id
    theirs = add_asset(picture, engine=engine, tenant=OTHER, uri="upload:a.png").asset_id
    with pytest.raises(NotFound):
        remove_asset(OTHER, mine, engine=engine)
    gone = remove_asset(DEFAULT_TENANT, mine, engine=engine)
    assert gone.id == mine
    assert engine.index.count() == 1
    assert engine.blobs.get(original_key(gone.sha256)) == picture
    with pytest.raises(NotFound):
        remove_asset(DEFAULT_TENANT, mine, engine=engine)
    remove_asset(OTHER, theirs, engine=engine)
    assert engine.index.count() == 0
    assert not list(engine.blobs.keys("originals"))
    assert verify(engine=engine, repair=False).counts == {}
