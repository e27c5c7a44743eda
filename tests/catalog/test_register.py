"""Registering pictures: the same bytes are the same asset, whatever happens to their files."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import AssetState, Description, IngestCounts, Outcome, Registered
from phosphene.catalog.storable import metadata_digest, storable, storable_metadata
from phosphene.errors import InvalidInput, NotFound
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import FieldValue, IngestId, TenantId, asset_id, sha256_of
from tests.catalog.samples import NEVER, OTHER_SPACE, SPACE, Picture, id_of, new


def outcomes(registered: list[Registered]) -> list[Outcome]:
    return [one.outcome for one in registered]


def test_a_new_picture_is_added_with_all_its_facts_and_waits_for_its_embedding(
    catalog: Catalog, ingest: IngestId
) -> None:
    before = datetime.now(UTC)
    said = {"keywords": ["cat", "pet"], "year": 1999, "price": 1.5, "free": True, "gone": None}
    picture = new("cat", "animals/cat.jpg", "A cat", **said)
    (registered,) = catalog.register(ingest, T, SPACE.id, [picture])
    assert registered == Registered(id_of("cat"), Outcome.ADDED, needs_embedding=True)
    asset = catalog.asset(T, registered.asset_id)
    assert (asset.sha256, asset.title, asset.state) == (picture.info.sha256, "A cat", AssetState.REGISTERED)
    assert asset.metadata == said
    assert (asset.width, asset.height, asset.orientation, asset.format) == (640, 480, "landscape", "jpeg")
    assert (asset.bytes, asset.phash, asset.tenant) == (12345, "00ff00ff00ff00ff", T)
    assert before <= asset.added_at <= datetime.now(UTC)
    assert asset.added_at.tzinfo is UTC
    assert catalog.locations_of(T, asset.id) == ["file:///animals/cat.jpg"]
    assert catalog.pending_work(SPACE.id) == 1
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=1)


def test_the_answers_stand_in_the_order_of_the_items(catalog: Catalog, ingest: IngestId) -> None:
    names = [f"picture {number}" for number in range(50)]
    registered = catalog.register(ingest, T, SPACE.id, [new(name) for name in names])
    assert [one.asset_id for one in registered] == [id_of(name) for name in names]


def test_nothing_to_register_is_nothing(catalog: Catalog, ingest: IngestId) -> None:
    assert catalog.register(ingest, T, SPACE.id, []) == []


def test_the_same_file_again_is_unchanged(catalog: Catalog, ingest: IngestId) -> None:
    for _ in range(2):
        registered = catalog.register(ingest, T, SPACE.id, [new("cat", title="A cat", year=1)])
    assert outcomes(registered) == [Outcome.UNCHANGED]
    assert registered[0].needs_embedding
    assert catalog.count_assets(T) == 1
    assert catalog.pending_work(SPACE.id) == 1
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=1, unchanged=1)


def test_an_embedded_picture_needs_no_embedding_in_that_space_only(catalog: Catalog, ingest: IngestId) -> None:
    catalog.record_space(OTHER_SPACE)
    catalog.register(ingest, T, SPACE.id, [new("cat")])
    catalog.mark_indexed(SPACE.id, [(id_of("cat"), 1.0)])
    assert not catalog.register(ingest, T, SPACE.id, [new("cat")])[0].needs_embedding
    assert catalog.pending_work(SPACE.id) == 0
    assert catalog.register(ingest, T, OTHER_SPACE.id, [new("cat")])[0].needs_embedding
    assert catalog.pending_work(OTHER_SPACE.id) == 1


def test_a_renamed_file_keeps_its_asset_and_its_metadata(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat", "old.jpg", "A cat", year=1999)])
    renamed = catalog.register(ingest, T, SPACE.id, [new("cat", "new.jpg")])
    assert outcomes(renamed) == [Outcome.UNCHANGED]
    asset = catalog.asset(T, id_of("cat"))
    assert (asset.title, asset.metadata) == ("A cat", {"year": 1999})
    assert catalog.locations_of(T, asset.id) == ["file:///new.jpg", "file:///old.jpg"]


def test_changed_metadata_are_an_update_without_new_work(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat", title="A cat", year=1999)])
    catalog.mark_indexed(SPACE.id, [(id_of("cat"), 1.0)])
    (updated,) = catalog.register(ingest, T, SPACE.id, [new("cat", title="A cat", year=2000)])
    assert updated == Registered(id_of("cat"), Outcome.UPDATED, needs_embedding=False)
    assert catalog.asset(T, id_of("cat")).metadata == {"year": 2000}
    assert catalog.asset(T, id_of("cat")).state is AssetState.INDEXED


def test_metadata_taken_away_at_the_source_go(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat", title="A cat", year=1999)])
    assert outcomes(catalog.register(ingest, T, SPACE.id, [new("cat")])) == [Outcome.UPDATED]
    asset = catalog.asset(T, id_of("cat"))
    assert (asset.title, asset.metadata) == (None, {})


def test_what_a_user_edited_stays_until_the_source_says_something_new(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat", title="IMG 1", year=1999)])
    catalog.update_asset(T, id_of("cat"), title="My cat")
    assert outcomes(catalog.register(ingest, T, SPACE.id, [new("cat", title="IMG 1", year=1999)])) == [
        Outcome.UNCHANGED
    ]
    assert catalog.asset(T, id_of("cat")).title == "My cat"
    catalog.register(ingest, T, SPACE.id, [new("cat", title="Felix", year=1999)])
    assert catalog.asset(T, id_of("cat")).title == "Felix"


def test_two_files_of_the_same_bytes_in_one_batch_are_one_asset(catalog: Catalog, ingest: IngestId) -> None:
    registered = catalog.register(
        ingest,
        T,
        SPACE.id,
        [new("cat", "a.jpg"), new("dog", "b.jpg"), new("cat", "c.jpg"), new("cat", "d.jpg", "Late")],
    )
    assert outcomes(registered) == [Outcome.ADDED, Outcome.ADDED, Outcome.UNCHANGED, Outcome.UPDATED]
    assert registered[0].asset_id == registered[2].asset_id == registered[3].asset_id
    assert catalog.count_assets(T) == 2
    assert catalog.pending_work(SPACE.id) == 2
    assert catalog.locations_of(T, id_of("cat")) == ["file:///a.jpg", "file:///c.jpg", "file:///d.jpg"]
    assert catalog.asset(T, id_of("cat")).title == "Late"
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=2, unchanged=1, updated=1)


def test_copies_with_their_own_metadata_settle(catalog: Catalog, ingest: IngestId) -> None:
    """A second run over two copies that say different things changes nothing."""
    copies = [new("cat", "a.jpg", "First", year=1), new("cat", "b.jpg", "Second", year=2)]
    catalog.register(ingest, T, SPACE.id, copies)
    assert outcomes(catalog.register(ingest, T, SPACE.id, copies)) == [Outcome.UNCHANGED, Outcome.UNCHANGED]
    assert catalog.asset(T, id_of("cat")).title == "Second"


def test_a_file_edited_in_place_names_the_picture_it_replaced(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("draft", "a.jpg"), new("kept", "b.jpg"), new("kept", "copy.jpg")])
    edited = catalog.register(ingest, T, SPACE.id, [new("final", "a.jpg"), new("other", "b.jpg")])
    assert outcomes(edited) == [Outcome.ADDED, Outcome.ADDED]
    assert [one.replaced for one in edited] == [id_of("draft"), None]
    assert catalog.locations_of(T, id_of("draft")) == []
    assert catalog.locations_of(T, id_of("kept")) == ["file:///copy.jpg"]


def test_tenants_share_nothing(catalog: Catalog, ingest: IngestId) -> None:
    theirs = TenantId("theirs")
    catalog.register(ingest, T, SPACE.id, [new("cat", title="Ours")])
    (added,) = catalog.register(None, theirs, SPACE.id, [new("cat", title="Theirs")])
    assert added.outcome is Outcome.ADDED
    assert added.asset_id == asset_id(theirs, sha256_of(b"cat")) != id_of("cat")
    assert catalog.assets(T, [id_of("cat"), added.asset_id]).keys() == {id_of("cat")}
    with pytest.raises(NotFound):
        catalog.asset(T, added.asset_id)
    with pytest.raises(NotFound):
        catalog.delete_asset(T, added.asset_id)
    with pytest.raises(NotFound):
        catalog.update_asset(T, added.asset_id, title="Stolen")
    assert catalog.asset(theirs, added.asset_id).title == "Theirs"
    assert catalog.locations(theirs, ["file:///cat.jpg"])["file:///cat.jpg"].asset_id == added.asset_id


def test_locations_tell_what_a_second_run_may_skip(catalog: Catalog, ingest: IngestId) -> None:
    picture = Picture("cat", "cat.jpg", "A cat", {"year": 1999}, fingerprint="640-17").new()
    catalog.register(ingest, T, SPACE.id, [picture])
    known = catalog.locations(T, ["file:///cat.jpg", "file:///unknown.jpg"])
    (location,) = known.values()
    assert location.fingerprint == "640-17"
    assert location.metadata_digest == metadata_digest("A cat", {"year": 1999})
    assert location.metadata_digest != metadata_digest("A cat", {"year": 2000})
    assert (location.asset_id, location.state) == (id_of("cat"), AssetState.REGISTERED)


def test_a_new_fingerprint_of_the_same_bytes_is_kept(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [Picture("cat", "cat.jpg", fingerprint="old").new()])
    touched = catalog.register(ingest, T, SPACE.id, [Picture("cat", "cat.jpg", fingerprint="new").new()])
    assert outcomes(touched) == [Outcome.UNCHANGED]
    assert catalog.locations(T, ["file:///cat.jpg"])["file:///cat.jpg"].fingerprint == "new"


def test_descriptions_change_without_the_bytes(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat", title="A cat", year=1), new("dog", year=1)])
    described = catalog.describe(
        ingest,
        T,
        SPACE.id,
        [
            Description("file:///cat.jpg", "Felix", {"year": 2}),
            Description("file:///dog.jpg", None, {"year": 1}),
            Description("file:///unknown.jpg", "Nobody"),
        ],
    )
    assert {uri: one.outcome for uri, one in described.items()} == {
        "file:///cat.jpg": Outcome.UPDATED,
        "file:///dog.jpg": Outcome.UNCHANGED,
    }
    assert catalog.asset(T, id_of("cat")).title == "Felix"
    known = catalog.locations(T, ["file:///cat.jpg"])["file:///cat.jpg"]
    assert known.metadata_digest == metadata_digest("Felix", {"year": 2})
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=2, updated=1, unchanged=1)
    assert catalog.describe(ingest, T, SPACE.id, []) == {}


def test_a_batch_is_all_or_nothing(catalog: Catalog, ingest: IngestId) -> None:
    with pytest.raises(InvalidInput, match=r"never-recorded.* record_space"):
        catalog.register(ingest, T, NEVER.id, [new("cat"), new("dog")])
    assert catalog.count_assets(T) == 0
    assert catalog.locations(T, ["file:///cat.jpg"]) == {}
    assert catalog.ingest(T, ingest).counts.total == 0


def test_text_that_databases_refuse_is_made_storable(catalog: Catalog, ingest: IngestId) -> None:
    """NUL, lone surrogates (file names that aren't UTF-8) and NaN."""
    picture = Picture("cat", "caf\udce9.jpg", "a\x00b", {"n\x00": "\ud800", "nan": math.nan, "k": ["\x00"]}).new()
    catalog.register(ingest, T, SPACE.id, [picture])
    asset = catalog.asset(T, id_of("cat"))
    assert asset.title == "a\N{REPLACEMENT CHARACTER}b"
    assert asset.metadata["nan"] is None
    assert catalog.locations(T, [picture.uri])[picture.uri].asset_id == asset.id
    assert outcomes(catalog.register(ingest, T, SPACE.id, [picture])) == [Outcome.UNCHANGED]


def test_uris_may_be_longer_than_an_index_entry(catalog: Catalog, ingest: IngestId) -> None:
    long = [new("cat", "x" * 20_000), new("dog", "x" * 20_000 + "y")]
    catalog.register(ingest, T, SPACE.id, long)
    assert len(catalog.locations(T, [one.uri for one in long])) == 2


def test_many_uris_fit_one_question(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat")])
    assert len(catalog.locations(T, [f"file:///{number}" for number in range(70_000)] + ["file:///cat.jpg"])) == 1
    assert len(catalog.assets(T, [id_of(str(number)) for number in range(70_000)] + [id_of("cat")])) == 1


def test_many_threads_register_the_same_pictures(catalog: Catalog, ingest: IngestId) -> None:
    """Nothing twice, nothing lost, no deadlock, whoever comes first."""
    pictures = [new(f"picture {number}") for number in range(100)]
    answers: list[list[Registered]] = []

    def register(shift: int) -> None:
        for start in range(0, 100, 20):
            turned = pictures[shift:] + pictures[:shift]
            answers.append(catalog.register(ingest, T, SPACE.id, turned[start : start + 20]))

    threads = [threading.Thread(target=register, args=(shift,)) for shift in (0, 13, 37, 71)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    added = [one.asset_id for answer in answers for one in answer if one.outcome is Outcome.ADDED]
    assert sorted(added) == sorted(id_of(f"picture {number}") for number in range(100))
    assert catalog.count_assets(T) == catalog.pending_work(SPACE.id) == 100
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=100, unchanged=300)


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.lists(st.text())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=st.none() | st.text(), metadata=st.dictionaries(st.text(), VALUES, max_size=5))
def test_any_metadata_come_back_and_are_unchanged_the_second_time(
    catalog: Catalog, title: str | None, metadata: dict[str, FieldValue]
) -> None:
    picture = Picture("any", "any.jpg", title, metadata).new()
    for _ in range(2):
        registered = catalog.register(None, T, SPACE.id, [picture])
    assert outcomes(registered) == [Outcome.UNCHANGED]
    kept = catalog.asset(T, id_of("any"))
    assert kept.title == (None if title is None else storable(title))
    assert kept.metadata == storable_metadata(metadata)
