"""Work: leases, attempts, failures. One picture is never at two workers at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import AssetState, IngestCounts, Outcome
from phosphene.errors import InvalidInput, PictureFault
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, IngestId, TenantId
from tests.catalog.samples import NEVER, OTHER_SPACE, SPACE, id_of, new


@pytest.fixture
def waiting(catalog: Catalog, ingest: IngestId) -> list[AssetId]:
    """Ten pictures that wait for their embedding, in the order in which they came."""
    names = [f"picture {number}" for number in range(10)]
    for name in names:
        catalog.register(ingest, T, SPACE.id, [new(name)])
    return [id_of(name) for name in names]


def lease(
    catalog: Catalog, *, limit: int = 100, lease_s: float = 60.0, ids: list[AssetId] | None = None
) -> list[AssetId]:
    items = catalog.lease_work(SPACE.id, owner="me", limit=limit, lease_s=lease_s, asset_ids=ids)
    return [item.asset_id for item in items]


def test_the_oldest_work_is_leased_first_and_once(catalog: Catalog, waiting: list[AssetId]) -> None:
    assert lease(catalog, limit=4) == waiting[:4]
    assert lease(catalog, limit=4) == waiting[4:8]
    assert lease(catalog, limit=4) == waiting[8:]
    assert lease(catalog) == []
    assert catalog.pending_work(SPACE.id) == 10, "leased work is not done yet"


def test_a_leased_item_says_what_it_is(catalog: Catalog) -> None:
    theirs = TenantId("theirs")
    (added,) = catalog.register(None, theirs, SPACE.id, [new("cat")])
    (item,) = catalog.lease_work(SPACE.id, owner="me", limit=1, lease_s=60)
    assert (item.asset_id, item.tenant, item.space_id, item.attempts) == (added.asset_id, theirs, SPACE.id, 1)


def test_chosen_work_only(catalog: Catalog, waiting: list[AssetId]) -> None:
    chosen = [waiting[7], waiting[2]]
    assert sorted(lease(catalog, ids=[*chosen, id_of("unknown")])) == sorted(chosen)
    assert lease(catalog, ids=chosen) == []
    assert lease(catalog, ids=[]) == []
    assert len(lease(catalog)) == 8


def test_an_expired_lease_is_taken_again_and_counts_another_attempt(catalog: Catalog, waiting: list[AssetId]) -> None:
    assert len(lease(catalog, lease_s=0.3)) == 10
    assert lease(catalog) == []
    time.sleep(0.4)
    items = catalog.lease_work(SPACE.id, owner="another", limit=10, lease_s=60)
    assert sorted(item.asset_id for item in items) == sorted(waiting)
    assert {item.attempts for item in items} == {2}


def test_a_lease_lasts_for_as_long_as_its_owner_renews_it(catalog: Catalog, waiting: list[AssetId]) -> None:
    lease(catalog, lease_s=0.3)
    catalog.renew_work(SPACE.id, waiting[:4], owner="me", lease_s=60)
    catalog.renew_work(SPACE.id, waiting, owner="another", lease_s=60)
    time.sleep(0.4)
    assert sorted(lease(catalog)) == sorted(waiting[4:])


def test_work_given_back_counts_no_attempt(catalog: Catalog, waiting: list[AssetId]) -> None:
    lease(catalog)
    catalog.release_work(SPACE.id, waiting[:3])
    catalog.release_work(SPACE.id, waiting[:3])  # a second time is no matter
    items = catalog.lease_work(SPACE.id, owner="me", limit=10, lease_s=60)
    assert {item.asset_id: item.attempts for item in items} == dict.fromkeys(waiting[:3], 1)


def test_indexed_pictures_are_done(catalog: Catalog, waiting: list[AssetId]) -> None:
    lease(catalog)
    assert catalog.mark_indexed(SPACE.id, [(waiting[0], 19.5), (waiting[1], 20.25)]) == []
    assert catalog.pending_work(SPACE.id) == 8
    assert catalog.embedded(SPACE.id, waiting) == {waiting[0]: 19.5, waiting[1]: 20.25}
    assert catalog.asset(T, waiting[0]).state is AssetState.INDEXED
    assert catalog.count_assets(T, AssetState.INDEXED) == 2
    assert catalog.count_assets(T, AssetState.REGISTERED) == 8
    assert catalog.mark_indexed(SPACE.id, [(waiting[0], 21.0)]) == [], "a redelivered task may do it again"
    assert catalog.embedded(SPACE.id, waiting[:1]) == {waiting[0]: 21.0}
    assert catalog.mark_indexed(SPACE.id, []) == []


def test_pictures_deleted_meanwhile_are_named(catalog: Catalog, waiting: list[AssetId]) -> None:
    lease(catalog)
    catalog.delete_asset(T, waiting[0])
    assert catalog.mark_indexed(SPACE.id, [(waiting[0], 1.0), (waiting[1], 1.0)]) == [waiting[0]]
    assert catalog.embedded(SPACE.id, waiting) == {waiting[1]: 1.0}


def test_a_failure_is_tried_again_but_not_at_once(catalog: Catalog, waiting: list[AssetId]) -> None:
    lease(catalog)
    catalog.fail_work(SPACE.id, waiting[0], PictureFault.EMBEDDING_FAILED, "odd", final=False)
    catalog.fail_work(SPACE.id, waiting[1], PictureFault.EMBEDDING_FAILED, "odd", final=False, retry_in_s=0.3)
    (item,) = catalog.lease_work(SPACE.id, owner="me", limit=10, lease_s=60)
    assert (item.asset_id, item.attempts) == (waiting[0], 2)
    time.sleep(0.4)
    assert lease(catalog) == [waiting[1]]
    assert catalog.asset(T, waiting[0]).state is AssetState.REGISTERED
    assert catalog.quarantined(T, None, after=None, limit=10) == []


def test_a_final_failure_is_quarantined_with_its_reason(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat", "a.jpg"), new("cat", "b.jpg"), new("dog")])
    lease(catalog)
    catalog.fail_work(SPACE.id, id_of("cat"), PictureFault.DECODER_DIED, "killed\x00 it", final=True)
    assert catalog.asset(T, id_of("cat")).state is AssetState.FAILED
    assert catalog.pending_work(SPACE.id) == 1
    listed = catalog.quarantined(T, ingest, after=None, limit=10)
    assert [(one.uri, one.fault) for one in listed] == [
        ("file:///a.jpg", PictureFault.DECODER_DIED),
        ("file:///b.jpg", PictureFault.DECODER_DIED),
    ]
    assert listed[0].reason == "killed\N{REPLACEMENT CHARACTER} it"
    assert catalog.ingest(T, ingest).counts == IngestCounts(added=1, unchanged=1, quarantined=2)


def test_a_failed_picture_that_comes_again_gets_another_chance(catalog: Catalog, ingest: IngestId) -> None:
    catalog.register(ingest, T, SPACE.id, [new("cat")])
    catalog.fail_work(SPACE.id, id_of("cat"), PictureFault.EMBEDDING_FAILED, "odd", final=True)
    assert catalog.locations(T, ["file:///cat.jpg"])["file:///cat.jpg"].state is AssetState.FAILED
    (again,) = catalog.register(ingest, T, SPACE.id, [new("cat")])
    assert (again.outcome, again.needs_embedding) == (Outcome.UNCHANGED, True)
    assert catalog.asset(T, id_of("cat")).state is AssetState.REGISTERED
    assert catalog.quarantined(T, None, after=None, limit=10) == []
    (item,) = catalog.lease_work(SPACE.id, owner="me", limit=10, lease_s=60)
    assert item.attempts == 1


def test_failing_in_one_space_leaves_it_found_in_the_other(catalog: Catalog, ingest: IngestId) -> None:
    catalog.record_space(OTHER_SPACE)
    catalog.register(ingest, T, SPACE.id, [new("cat")])
    catalog.mark_indexed(SPACE.id, [(id_of("cat"), 1.0)])
    assert catalog.queue_for(OTHER_SPACE.id, [id_of("cat")]) == 1
    catalog.fail_work(OTHER_SPACE.id, id_of("cat"), PictureFault.EMBEDDING_FAILED, "odd", final=True)
    assert catalog.asset(T, id_of("cat")).state is AssetState.INDEXED


def test_failing_what_was_deleted_meanwhile_is_no_matter(catalog: Catalog, waiting: list[AssetId]) -> None:
    catalog.delete_asset(T, waiting[0])
    for final in (False, True):
        catalog.fail_work(SPACE.id, waiting[0], PictureFault.BROKEN, "gone", final=final)
    assert catalog.quarantined(T, None, after=None, limit=10) == []


def test_pictures_can_be_queued_again(catalog: Catalog, waiting: list[AssetId]) -> None:
    catalog.mark_indexed(SPACE.id, [(id_, 1.0) for id_ in waiting])
    assert catalog.queue_for(SPACE.id, [waiting[0], waiting[1], waiting[0], id_of("unknown")]) == 2
    assert catalog.queue_for(SPACE.id, waiting[:1]) == 1, "a second time changes nothing"
    assert catalog.pending_work(SPACE.id) == 2
    assert catalog.asset(T, waiting[0]).state is AssetState.REGISTERED
    assert catalog.asset(T, waiting[2]).state is AssetState.INDEXED
    assert waiting[0] not in catalog.embedded(SPACE.id, waiting)
    assert sorted(lease(catalog)) == sorted(waiting[:2])


def test_work_is_kept_apart_by_space(catalog: Catalog, waiting: list[AssetId]) -> None:
    catalog.record_space(OTHER_SPACE)
    catalog.queue_for(OTHER_SPACE.id, waiting[:2])
    assert catalog.pending_work(OTHER_SPACE.id) == 2
    items = catalog.lease_work(OTHER_SPACE.id, owner="me", limit=100, lease_s=60)
    assert {item.space_id for item in items} == {OTHER_SPACE.id}
    assert len(lease(catalog)) == 10
    with pytest.raises(InvalidInput, match="record_space"):
        catalog.queue_for(NEVER.id, waiting)


WORKER = """
import json, sys, time
from phosphene.catalog.catalog import Catalog
from phosphene.types import SpaceId
catalog = Catalog.at(sys.argv[1], migrate=False)
print("ready", flush=True)
sys.stdin.readline()
taken = []
while items := catalog.lease_work(SpaceId(sys.argv[2]), owner=sys.argv[3], limit=7, lease_s=60):
    taken.append([str(item.asset_id) for item in items])
    time.sleep(0.01)  # working: SQLite lets the one that just wrote go first
print(json.dumps(taken))
catalog.close()
"""


def test_two_processes_never_lease_the_same_picture(catalog: Catalog, catalog_url: str) -> None:
    for start in range(0, 600, 100):
        catalog.register(None, T, SPACE.id, [new(f"picture {start + number}") for number in range(100)])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, catalog_url, SPACE.id, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for name in ("one", "two")
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    each = [[id_ for batch in batches for id_ in batch] for batches in taken]
    assert sorted(each[0] + each[1]) == sorted(str(id_of(f"picture {number}")) for number in range(600))
    assert all(each), "both got some"


def test_a_lease_of_a_killed_process_expires(catalog: Catalog, catalog_url: str, waiting: list[AssetId]) -> None:
    program = f"""
import os
from phosphene.catalog.catalog import Catalog
Catalog.at({catalog_url!r}, migrate=False).lease_work({SPACE.id!r}, owner="doomed", limit=10, lease_s=1)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    deadline = time.monotonic() + 20
    while not (found := lease(catalog)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(found) == sorted(waiting)


def test_what_a_method_returned_survives_kill_9(catalog_url: str) -> None:
    program = f"""
import os
from phosphene.catalog.catalog import Catalog
from tests.catalog.samples import SPACE, new
catalog = Catalog.at({catalog_url!r}, migrate=True)
catalog.record_space(SPACE)
catalog.register(None, "default", SPACE.id, [new("cat")])
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    catalog = Catalog.at(catalog_url, migrate=False)
    assert catalog.count_assets(T) == catalog.pending_work(SPACE.id) == 1
    catalog.close()
