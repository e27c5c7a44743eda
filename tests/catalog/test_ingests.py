"""Ingests, their quarantine, declared fields and spaces."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import IngestCounts, IngestState, Quarantined
from phosphene.errors import InvalidInput, NotFound, PictureFault
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import Field, FieldKind, IngestId, TenantId, sha256_of
from tests.catalog.samples import OTHER_SPACE, SPACE, id_of, new

THEIRS = TenantId("theirs")


def broken(name: str, fault: PictureFault = PictureFault.TRUNCATED) -> Quarantined:
    return Quarantined(f"file:///{name}", fault, f"{name} is broken", sha256_of(name.encode()), datetime.now(UTC))


def test_an_ingest_runs_and_finishes(catalog: Catalog) -> None:
    started = catalog.start_ingest(T, ["/pictures", "s3://bucket/x"])
    running = catalog.ingest(T, started)
    assert (running.id, running.tenant, running.sources) == (started, T, ("/pictures", "s3://bucket/x"))
    assert (running.state, running.counts, running.finished_at) == (IngestState.RUNNING, IngestCounts(), None)
    catalog.finish_ingest(started, IngestState.FINISHED)
    finished = catalog.ingest(T, started)
    assert finished.state is IngestState.FINISHED
    assert finished.finished_at is not None
    assert finished.started_at <= finished.finished_at <= datetime.now(UTC)


def test_a_failed_ingest_says_why_and_can_go_on(catalog: Catalog, ingest: IngestId) -> None:
    catalog.finish_ingest(ingest, IngestState.FAILED, "the source is gone\x00")
    assert catalog.ingest(T, ingest).error == "the source is gone\N{REPLACEMENT CHARACTER}"
    catalog.finish_ingest(ingest, IngestState.RUNNING)
    again = catalog.ingest(T, ingest)
    assert (again.state, again.error, again.finished_at) == (IngestState.RUNNING, None, None)


def test_an_unknown_ingest_or_another_tenants_is_not_found(catalog: Catalog, ingest: IngestId) -> None:
    with pytest.raises(NotFound):
        catalog.ingest(T, IngestId(uuid4()))
    with pytest.raises(NotFound):
        catalog.finish_ingest(IngestId(uuid4()), IngestState.FINISHED)
    with pytest.raises(NotFound):
        catalog.ingest(THEIRS, ingest)
    assert catalog.ingests(THEIRS, 10) == []


def test_ingests_are_listed_latest_first(catalog: Catalog) -> None:
    ids = [catalog.start_ingest(T, [str(number)]) for number in range(4)]
    assert [one.id for one in catalog.ingests(T, 3)] == ids[:0:-1]


def test_an_ingest_whose_process_died_is_interrupted_but_a_live_one_is_not(catalog: Catalog, ingest: IngestId) -> None:
    finished = catalog.start_ingest(T, ["done"])
    catalog.finish_ingest(finished, IngestState.FINISHED)
    assert catalog.interrupt_ingests(idle_s=60) == []
    assert catalog.interrupt_ingests(idle_s=0) == [ingest]
    assert catalog.ingest(T, ingest).state is IngestState.INTERRUPTED
    assert catalog.ingest(T, ingest).finished_at is not None
    assert catalog.ingest(T, finished).state is IngestState.FINISHED


def test_counts_add_up(catalog: Catalog, ingest: IngestId) -> None:
    catalog.note_unchanged(ingest, 40)
    catalog.note_unchanged(ingest, 2)
    catalog.quarantine(ingest, T, [broken("a"), broken("b")])
    catalog.register(ingest, T, SPACE.id, [new("cat")])
    counts = catalog.ingest(T, ingest).counts
    assert counts == IngestCounts(added=1, unchanged=42, quarantined=2)
    assert counts.total == 45


def test_a_place_is_taken_out_of_quarantine_for_its_tenant_alone(catalog: Catalog, ingest: IngestId) -> None:
    catalog.quarantine(ingest, T, [broken("a"), broken("b")])
    catalog.quarantine(catalog.start_ingest(THEIRS, ["b"]), THEIRS, [broken("b")])
    catalog.resolve_quarantine(T, [broken("b").uri, "file:///never-heard-of"])
    assert [one.uri for one in catalog.quarantined(T, None, after=None, limit=10)] == [broken("a").uri]
    assert len(catalog.quarantined(THEIRS, None, after=None, limit=10)) == 1


def test_quarantine_says_what_and_why(catalog: Catalog, ingest: IngestId) -> None:
    entry = broken("a", PictureFault.TOO_MANY_PIXELS)
    catalog.quarantine(ingest, T, [entry])
    (listed,) = catalog.quarantined(T, ingest, after=None, limit=10)
    assert listed.id > 0
    assert (listed.uri, listed.fault, listed.reason) == (entry.uri, entry.fault, entry.reason)
    assert listed.sha256 == entry.sha256
    assert abs(listed.at - entry.at) < timedelta(milliseconds=1)
    assert catalog.quarantined(THEIRS, None, after=None, limit=10) == []


def test_quarantine_is_paged(catalog: Catalog, ingest: IngestId) -> None:
    catalog.quarantine(ingest, T, [broken(f"{number:02}") for number in range(25)])
    seen: list[str] = []
    after: int | None = None
    while page := catalog.quarantined(T, None, after=after, limit=10):
        seen += [one.uri for one in page]
        after = page[-1].id
    assert seen == [f"file:///{number:02}" for number in range(25)]


def test_a_file_that_ingests_well_later_leaves_the_current_list(catalog: Catalog, ingest: IngestId) -> None:
    catalog.quarantine(ingest, T, [broken("cat.jpg"), broken("dog.jpg")])
    later = catalog.start_ingest(T, ["again"])
    catalog.register(later, T, SPACE.id, [new("cat")])
    assert [one.uri for one in catalog.quarantined(T, None, after=None, limit=10)] == ["file:///dog.jpg"]
    assert len(catalog.quarantined(T, ingest, after=None, limit=10)) == 2, "what that ingest found stays its history"


def test_a_file_that_stays_broken_is_listed_once(catalog: Catalog, ingest: IngestId) -> None:
    catalog.quarantine(ingest, T, [broken("cat.jpg")])
    later = catalog.start_ingest(T, ["again"])
    catalog.quarantine(later, T, [broken("cat.jpg", PictureFault.BROKEN)])
    (listed,) = catalog.quarantined(T, None, after=None, limit=10)
    assert listed.fault is PictureFault.BROKEN
    assert catalog.ingest(T, later).counts.quarantined == 1


def test_quarantine_without_an_ingest(catalog: Catalog) -> None:
    catalog.quarantine(None, T, [broken("upload")])
    catalog.quarantine(None, T, [])
    assert len(catalog.quarantined(T, None, after=None, limit=10)) == 1


def test_fields_are_declared_for_each_tenant(catalog: Catalog) -> None:
    declared = catalog.declare_fields(T, [Field("year", FieldKind.INTEGER), Field("creator", FieldKind.KEYWORD)])
    assert declared == [Field("creator", FieldKind.KEYWORD), Field("year", FieldKind.INTEGER)]
    assert catalog.declare_fields(T, [Field("year", FieldKind.INTEGER), Field("open", FieldKind.BOOL)]) == [
        Field("creator", FieldKind.KEYWORD),
        Field("open", FieldKind.BOOL),
        Field("year", FieldKind.INTEGER),
    ]
    assert catalog.declare_fields(T, []) == catalog.fields(T)
    assert catalog.fields(THEIRS) == []


def test_a_field_keeps_its_kind(catalog: Catalog) -> None:
    catalog.declare_fields(T, [Field("year", FieldKind.INTEGER)])
    with pytest.raises(InvalidInput, match="'year' is declared as integer already, not keyword"):
        catalog.declare_fields(T, [Field("new", FieldKind.BOOL), Field("year", FieldKind.KEYWORD)])
    with pytest.raises(InvalidInput, match="'twice'"):
        catalog.declare_fields(T, [Field("twice", FieldKind.BOOL), Field("twice", FieldKind.KEYWORD)])
    assert catalog.fields(T) == [Field("year", FieldKind.INTEGER)]
    # Tenants share payload indexes, so a field is of one kind for all of them.
    with pytest.raises(InvalidInput, match="'year' is declared as integer already, not keyword"):
        catalog.declare_fields(THEIRS, [Field("year", FieldKind.KEYWORD)])
    assert catalog.fields(THEIRS) == []
    assert catalog.declare_fields(THEIRS, [Field("year", FieldKind.INTEGER)]) == [Field("year", FieldKind.INTEGER)]


def test_the_fields_of_all_tenants(catalog: Catalog) -> None:
    catalog.declare_fields(THEIRS, [Field("year", FieldKind.INTEGER), Field("artist", FieldKind.KEYWORD)])
    catalog.declare_fields(T, [Field("year", FieldKind.INTEGER), Field("open", FieldKind.BOOL)])
    assert catalog.all_fields() == [
        Field("artist", FieldKind.KEYWORD),
        Field("open", FieldKind.BOOL),
        Field("year", FieldKind.INTEGER),
    ]


@pytest.mark.parametrize("name", ["width", "tenant", "Year", "1st", "", "a-b", "x" * 64])
def test_a_field_needs_a_name_of_its_own(catalog: Catalog, name: str) -> None:
    with pytest.raises(InvalidInput, match=name or "''"):
        catalog.declare_fields(T, [Field(name, FieldKind.INTEGER)])


def test_spaces_come_back_exactly_with_their_counts(catalog: Catalog, ingest: IngestId) -> None:
    catalog.record_space(OTHER_SPACE)
    catalog.record_space(SPACE)
    catalog.register(ingest, T, SPACE.id, [new("cat"), new("dog")])
    catalog.mark_indexed(SPACE.id, [(id_of("cat"), 1.0)])
    recorded = catalog.spaces()
    assert [(one.space, one.embedded) for one in recorded] == [(SPACE, 1), (OTHER_SPACE, 0)]
    assert [one.space.id for one in recorded] == [SPACE.id, OTHER_SPACE.id]


def test_one_worker_at_a_time_is_at_an_ingest_and_a_dead_ones_is_told_of_again(catalog: Catalog) -> None:
    job = {"tenant": T, "sources": ["x"]}
    ingest = catalog.start_ingest(T, ["x"], job=job)
    assert catalog.lost_ingests(10, idle_s=60) == {}  # a worker was told just now
    assert catalog.lost_ingests(10, idle_s=0) == {ingest: job}
    taken = catalog.lease_ingest(ingest, owner="one", lease_s=0.3)
    assert taken is not None
    assert (taken.attempts, taken.counts) == (1, IngestCounts())
    assert catalog.lease_ingest(ingest, owner="two", lease_s=60) is None
    assert catalog.renew_ingest(ingest, owner="one", lease_s=0.3)
    assert catalog.lost_ingests(10, idle_s=60) == {}
    time.sleep(0.4)
    assert catalog.lost_ingests(10, idle_s=60) == {ingest: job}
    assert catalog.lost_ingests(10, idle_s=60) == {}  # told once
    again = catalog.lease_ingest(ingest, owner="two", lease_s=60)
    assert again is not None
    assert again.attempts == 2
    assert not catalog.renew_ingest(ingest, owner="one", lease_s=60)
    catalog.finish_ingest(ingest, IngestState.FAILED, "late", owner="one")
    assert catalog.ingest(T, ingest).state is IngestState.RUNNING
    catalog.release_ingest(ingest, owner="two")
    assert catalog.lost_ingests(10, idle_s=60) == {ingest: job}
    assert catalog.lease_ingest(ingest, owner="three", lease_s=60) is not None
    catalog.finish_ingest(ingest, IngestState.FINISHED, owner="three")
    assert catalog.ingest(T, ingest).state is IngestState.FINISHED
    assert catalog.lease_ingest(ingest, owner="four", lease_s=60) is None
    assert catalog.lost_ingests(10, idle_s=0) == {}


def test_what_was_added_before_an_ingest_is_taken_up_again_counts_once(catalog: Catalog) -> None:
    ingest = catalog.start_ingest(T, ["x"], job={})
    catalog.lease_ingest(ingest, owner="one", lease_s=0)
    catalog.register(ingest, T, SPACE.id, [new("1"), new("2")])
    catalog.note_unchanged(ingest, 5)
    catalog.quarantine(ingest, T, [broken("bad")])
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=2, unchanged=5, quarantined=1)
    taken = catalog.lease_ingest(ingest, owner="two", lease_s=60)
    assert taken is not None
    assert (taken.attempts, taken.counts) == (1, IngestCounts(added=2))  # it had got on: attempts count anew
    catalog.note_unchanged(ingest, 7)
    catalog.quarantine(ingest, T, [broken("bad")])
    catalog.register(ingest, T, SPACE.id, [new("3")])
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=3, unchanged=5, quarantined=1)


def test_an_ingest_that_workers_take_up_is_not_interrupted_for_being_idle(catalog: Catalog, ingest: IngestId) -> None:
    theirs = catalog.start_ingest(T, ["x"], job={})
    assert catalog.interrupt_ingests(idle_s=0, orphans_only=True) == [ingest]
    assert catalog.interrupt_ingests(idle_s=0) == [theirs]
