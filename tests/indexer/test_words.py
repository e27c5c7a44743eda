"""Words of pictures stay in step with the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from indexer.pipeline import add_asset, ingest, remove_asset, update_asset_metadata
from indexer.verify import Difference, outdated, verify
from phosphene.assemble import Engine
from phosphene.catalog.models import SpaceRow
from phosphene.catalog.records import Asset
from phosphene.filters import tenant_filter
from phosphene.types import DEFAULT_TENANT, AssetId, TenantId, point_id
from phosphene.vectors.base import WordQuery, asset_of
from phosphene.vectors.conditions import WORDS
from phosphene.words.said import MOST_WORDS, file_stem, words_of
from phosphene.words.tokens import words_asked
from search_api.schemas import StatusResponse
from tests.indexer.conftest import save_picture, save_pictures


def found(engine: Engine, text: str, *, tenant: TenantId = DEFAULT_TENANT) -> set[AssetId]:
    own = tenant_filter(tenant, None)
    points = engine.index.query_words([WordQuery(tuple(words_asked(text)), 50, own, own)])[0]
    return {asset_of(point) for point in points}


def stored(engine: Engine, asset: Asset) -> str:
    point = point_id(asset.id, engine.current.space.id)
    return str({one.id: one for one in engine.index.scroll(after=None, limit=100)}[point].payload[WORDS])


def test_pictures_are_found_by_the_names_of_their_files(tmp_path: Path, engine: Engine) -> None:
    save_picture(tmp_path / "in" / "IMG_2041.png", seed=1)
    save_picture(tmp_path / "in" / "DSC-17.png", seed=2)
    ingest([str(tmp_path / "in")], engine=engine, tenant=DEFAULT_TENANT)
    by_title = {asset.title: asset.id for asset in engine.catalog.page_assets(tenant=None, after=None, limit=10)}
    assert found(engine, "img2041") == found(engine, "IMG-2041") == found(engine, "2041") == {by_title["IMG_2041"]}
    assert found(engine, "dsc17") == {by_title["DSC-17"]}
    assert found(engine, "img2041", tenant=TenantId("other")) == set()


def test_words_follow_edits_copies_renames_and_deletions(tmp_path: Path, engine: Engine) -> None:
    path = save_picture(tmp_path / "in" / "first.png", seed=1)
    ingest([str(tmp_path / "in")], engine=engine, tenant=DEFAULT_TENANT)
    (asset,) = engine.catalog.page_assets(tenant=None, after=None, limit=10)
    update_asset_metadata(
        DEFAULT_TENANT,
        asset.id,
        engine=engine,
        title="Kölner Dom",
        metadata={"article": 471100, "keywords": ["Gothic", "Köln"], "creator": "Ada O'Neill"},
    )
    for text in ("koln", "dom", "471100", "neill", "gothic", "first"):
        assert found(engine, text) == {asset.id}, text
    # A further place of the same picture that says nothing new gives it a name all the same.
    (tmp_path / "in" / "second.png").write_bytes(path.read_bytes())
    ingest([str(tmp_path / "in")], engine=engine, tenant=DEFAULT_TENANT)
    assert found(engine, "second") == {asset.id}
    # The place shows another picture from now on, and its name goes there.
    save_picture(path, seed=2)
    ingest([str(tmp_path / "in")], engine=engine, tenant=DEFAULT_TENANT)
    assert len(found(engine, "first")) == 1
    assert found(engine, "first") != {asset.id}
    remove_asset(DEFAULT_TENANT, asset.id, engine=engine)
    assert found(engine, "second") == found(engine, "dom") == set()
    assert verify(engine=engine, repair=False).counts == {}


def test_uploads_are_found_by_their_words_and_not_by_the_place_they_have_none(tmp_path: Path, engine: Engine) -> None:
    data = save_picture(tmp_path / "a.png", seed=1).read_bytes()
    one = add_asset(data, engine=engine, tenant=DEFAULT_TENANT, uri="upload:abc123", title="Blue bird")
    assert found(engine, "bird") == {one.asset_id}
    assert found(engine, "abc123") == found(engine, "upload") == set()


def test_verify_gives_points_from_before_words_theirs(tmp_path: Path, engine: Engine) -> None:
    save_pictures(tmp_path / "in", 3)
    ingest([str(tmp_path / "in")], engine=engine, tenant=DEFAULT_TENANT)
    points = engine.index.scroll(after=None, limit=10)
    old = [{name: value for name, value in point.payload.items() if name != WORDS} for point in points]
    engine.index.set_payloads([point.id for point in points], old)
    assert found(engine, "0001") == set()
    _as_by_an_earlier_version(engine)
    engine.catalog.record_space(engine.current.space)  # as each start does
    assert outdated(engine) is not None
    assert str(outdated(engine)).startswith("3 pictures were indexed by an earlier version")
    assert StatusResponse.of(engine, tenant=DEFAULT_TENANT, local=False).outdated == outdated(engine)
    save_picture(tmp_path / "in" / "new.png", seed=9)
    ingest([str(tmp_path / "in")], engine=engine, tenant=DEFAULT_TENANT)
    assert engine.catalog.outdated_points(engine.current.space.id) == 3  # what comes in now is as it should be
    assert verify(engine=engine, repair=False).counts == {Difference.STALE_PAYLOAD: 3}
    assert outdated(engine) is not None
    assert verify(engine=engine, repair=True).mended == {Difference.STALE_PAYLOAD: 3}
    assert outdated(engine) is None
    engine.catalog.record_space(engine.current.space)
    assert outdated(engine) is None
    assert len(found(engine, "0001")) == 1
    assert verify(engine=engine, repair=False).counts == {}


def _as_by_an_earlier_version(engine: Engine) -> None:
    with engine.catalog._database.writing() as connection:
        connection.execute(update(SpaceRow).values(payload_version=0))


@pytest.mark.parametrize(
    ("uri", "stem"),
    [
        ("/home/me/IMG_2041.JPG", "IMG_2041"),
        ("/x/catalogue.tar::birds/owl.webp", "owl"),
        ("zip://birds/owl.webp::s3://bucket/all.zip", "owl"),
        ("https://example.org/a/owl.jpg?size=3", "owl"),
        ("s3://bucket/owl", "owl"),
        ("/x/.hidden", ".hidden"),
        ("upload:0123", ""),
        ("generation:0123/0", ""),
    ],
)
def test_the_name_of_a_file(uri: str, stem: str) -> None:
    assert file_stem(uri) == stem


def test_a_book_in_a_caption_stays_bounded(tmp_path: Path, engine: Engine) -> None:
    data = save_picture(tmp_path / "a.png", seed=1).read_bytes()
    one = add_asset(
        data, engine=engine, tenant=DEFAULT_TENANT, uri="upload:1", metadata={"caption": "word-1 " * 50_000}
    )
    asset = engine.catalog.asset(DEFAULT_TENANT, one.asset_id)
    assert len(words_of(asset, ()).split()) == MOST_WORDS
    assert stored(engine, asset) == words_of(asset, ())
