"""Reading pictures back, changing and deleting them."""

from __future__ import annotations

import threading
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import event

from phosphene.catalog import assets
from phosphene.catalog.catalog import Catalog
from phosphene.errors import NotFound
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, TenantId, asset_id, sha256_of
from tests.catalog.samples import SPACE, id_of, new


@pytest.fixture
def three(catalog: Catalog) -> list[AssetId]:
    catalog.register(None, T, SPACE.id, [new(name, title=name.title(), year=1999) for name in ("cat", "dog", "emu")])
    return [id_of(name) for name in ("cat", "dog", "emu")]


def test_those_that_exist_are_found_with_one_select(catalog: Catalog, three: list[AssetId]) -> None:
    statements: list[str] = []
    engine = catalog._database.engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    found = catalog.assets(T, [*three, AssetId(uuid4())])
    assert found.keys() == set(three)
    assert [found[id_].title for id_ in three] == ["Cat", "Dog", "Emu"]
    assert len([one for one in statements if one.startswith("SELECT")]) == 1
    assert catalog.assets(T, []) == {}


def test_a_missing_picture_is_named(catalog: Catalog) -> None:
    missing = AssetId(uuid4())
    for attempt in (catalog.asset, catalog.update_asset, catalog.delete_asset):
        with pytest.raises(NotFound, match=str(missing)):
            attempt(T, missing)


def test_title_and_metadata_change_each_alone(catalog: Catalog, three: list[AssetId]) -> None:
    assert catalog.update_asset(T, three[0], title="Felix").metadata == {"year": 1999}
    changed = catalog.update_asset(T, three[0], metadata={"keywords": ["pet"]})
    assert (changed.title, changed.metadata) == ("Felix", {"keywords": ["pet"]})
    assert catalog.update_asset(T, three[0], title=None).title is None
    assert catalog.update_asset(T, three[0]) == catalog.asset(T, three[0])
    assert catalog.asset(T, three[1]).title == "Dog"


def test_the_tenants_that_hold_the_same_bytes_are_counted(catalog: Catalog, three: list[AssetId]) -> None:
    theirs = TenantId("theirs")
    catalog.register(None, theirs, SPACE.id, [new("cat")])
    assert catalog.holders_of(sha256_of(b"cat")) == 2
    catalog.delete_asset(T, three[0])
    assert catalog.holders_of(sha256_of(b"cat")) == 1
    assert catalog.holders_of(sha256_of(b"never seen")) == 0


def test_pictures_are_found_by_the_ends_of_their_places(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_PLACES", 2)  # several pages
    places = ["a/dog.jpg", "b/dog.jpg", "hotdog.jpg", "set.tar::c/dog.jpg", "set.tar::emu.jpg", "100%/_.jpg", "x.jpg"]
    catalog.register(None, T, SPACE.id, [new(place, place) for place in places])
    catalog.register(None, TenantId("theirs"), SPACE.id, [new("mine", "a/dog.jpg")])
    catalog.register(None, T, SPACE.id, [new("x.jpg", "again/x.jpg")])
    expected = {
        "dog.jpg": {"a/dog.jpg", "b/dog.jpg", "set.tar::c/dog.jpg"},
        "a/dog.jpg": {"a/dog.jpg"},
        "c/dog.jpg": {"set.tar::c/dog.jpg"},
        "set.tar::emu.jpg": {"set.tar::emu.jpg"},
        "emu.jpg": {"set.tar::emu.jpg"},
        "_.jpg": {"100%/_.jpg"},
        "file:///hotdog.jpg": {"hotdog.jpg"},
        "x.jpg": {"x.jpg"},
    }
    found = catalog.assets_named(T, [*expected, "og.jpg", "gone.jpg", ""])
    assert found == {name: {id_of(place) for place in those} for name, those in expected.items()}
    assert catalog.assets_named(T, []) == {}


def test_a_deleted_picture_leaves_nothing_behind(catalog: Catalog, three: list[AssetId]) -> None:
    catalog.mark_indexed(SPACE.id, [(three[0], 1.0)])
    assert catalog.delete_asset(T, three[1]).title == "Dog"
    catalog.delete_asset(T, three[0])
    assert catalog.count_assets(T) == 1
    assert catalog.pending_work(SPACE.id) == 1
    assert catalog.embedded(SPACE.id, three) == {}
    assert catalog.locations(T, ["file:///cat.jpg", "file:///dog.jpg"]) == {}
    assert catalog.spaces()[0].embedded == 0


def test_pages_go_through_all_pictures_in_order(catalog: Catalog) -> None:
    theirs = TenantId("theirs")
    catalog.register(None, T, SPACE.id, [new(str(number)) for number in range(57)])
    catalog.register(None, theirs, SPACE.id, [new(str(number)) for number in range(5)])
    for tenant, expected in ((T, 57), (theirs, 5), (None, 62)):
        seen: list[AssetId] = []
        while page := catalog.page_assets(tenant=tenant, after=seen[-1] if seen else None, limit=10):
            assert len(page) <= 10
            seen += [one.id for one in page]
        assert len(seen) == len(set(seen)) == expected
        assert seen == sorted(seen)
        assert catalog.count_assets(tenant) == expected
    assert catalog.page_assets(tenant=theirs, after=None, limit=1)[0].tenant == theirs
    assert asset_id(theirs, sha256_of(b"0")) in {
        one.id for one in catalog.page_assets(tenant=None, after=None, limit=99)
    }


def test_readers_see_what_was_committed_while_a_writer_works(catalog: Catalog, three: list[AssetId]) -> None:
    with catalog._database.writing() as connection:
        connection.exec_driver_sql("UPDATE assets SET title = 'half-way'")
        seen: list[str | None] = []
        reader = threading.Thread(target=lambda: seen.append(catalog.asset(T, three[0]).title))
        reader.start()
        reader.join(20)
        assert seen == ["Cat"]
    assert catalog.asset(T, three[0]).title == "half-way"


def test_an_index_serves_every_question_that_is_asked_often(tmp_path: Path) -> None:
    """At a million rows a scan would be seconds. On SQLite only: PostgreSQL rightly scans tables as small as these."""
    catalog = Catalog.at(str(tmp_path / "catalog.sqlite"), migrate=True)
    catalog.record_space(SPACE)
    asked: list[tuple[str, object]] = []
    engine = catalog._database.engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: asked.append((arguments[2], arguments[3])))
    catalog.register(None, T, SPACE.id, [new("cat")])
    catalog.assets(T, [id_of("cat")])
    catalog.page_assets(tenant=T, after=id_of("cat"), limit=10)
    catalog.page_assets(tenant=None, after=id_of("cat"), limit=10)
    catalog.lease_work(SPACE.id, owner="me", limit=10, lease_s=1)
    catalog.mark_indexed(SPACE.id, [(id_of("cat"), 1.0)])
    catalog.quarantined(T, None, after=None, limit=10)
    catalog.count_assets(T)
    catalog.holders_of(sha256_of(b"cat"))
    catalog.delete_asset(T, id_of("cat"))
    plans = []
    with catalog._database.reading() as connection:
        for statement, parameters in asked:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]  # as the driver got them
                plans += [row.detail for row in plan]
    catalog.close()
    assert len(plans) > 15
    assert [plan for plan in plans if plan.startswith("SCAN")] == []


def test_sqlite_is_set_up_to_lose_nothing(tmp_path: Path) -> None:
    catalog = Catalog.at(str(tmp_path / "catalog.sqlite"), migrate=True)
    with catalog._database.reading() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    catalog.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
