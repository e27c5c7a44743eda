"""What metrics ask the catalogue: right numbers, bounded counts, and few rows read."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import event

from phosphene.catalog import backlog as counting
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.generation_records import GenerationState, NewGeneration
from phosphene.errors import PictureFault
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import GenerationId, IngestId, TenantId
from tests.catalog.samples import OTHER_SPACE, SPACE, id_of, new


def test_an_empty_catalogue_has_nothing_to_do(catalog: Catalog) -> None:
    told = catalog.backlog()
    assert told.queues == {SPACE.id: counting.Queue(0, 0, 0, 0, 0.0)}
    assert (told.registered, told.registered_oldest_s) == (0, 0.0)
    assert set(told.generations.values()) == {0}
    assert told.oldest_s == {GenerationState.QUEUED: 0.0, GenerationState.RUNNING: 0.0}


def test_pictures_are_counted_where_they_are(catalog: Catalog, ingest: IngestId) -> None:
    catalog.record_space(OTHER_SPACE)
    names = [f"picture {number}" for number in range(10)]
    catalog.register(ingest, T, SPACE.id, [new(name) for name in names])
    catalog.register(None, TenantId("other"), SPACE.id, [new("theirs")])
    lease = {"owner": "somebody", "limit": 3}
    (held, *_) = catalog.lease_work(SPACE.id, lease_s=600, **lease)  # type: ignore[arg-type]  # as above
    catalog.lease_work(SPACE.id, lease_s=0, asset_ids=[id_of(names[8])], **lease)  # type: ignore[arg-type]  # as above
    catalog.mark_indexed(SPACE.id, [(id_of(names[9]), 1.0)])
    catalog.queue_for(OTHER_SPACE.id, [id_of(names[9])])
    told = catalog.backlog()
    queue = told.queues[SPACE.id]
    assert (queue.waiting, queue.leased, queue.lost, queue.retried) == (10, 3, 1, 0)
    assert queue.oldest_s > 0
    assert told.queues[OTHER_SPACE.id].waiting == 1
    assert told.registered == 10
    assert told.registered_oldest_s > 0

    catalog.lease_work(SPACE.id, lease_s=0, asset_ids=[id_of(names[8])], **lease)  # type: ignore[arg-type]  # as above
    catalog.fail_work(SPACE.id, held.asset_id, PictureFault.EMBEDDING_FAILED, "no", final=True)
    queue = catalog.backlog().queues[SPACE.id]
    assert (queue.waiting, queue.leased, queue.lost, queue.retried) == (9, 2, 1, 1)


def test_generations_are_counted_by_state(catalog: Catalog) -> None:
    for number in range(3):
        id_ = GenerationId(uuid4())
        asked = NewGeneration(
            id=id_,
            key=f"{number:064}",
            generator="g",
            request={},
            withheld=None,
            prompt=None,
            seed=1,
            images=1,
            parents=(),
        )
        catalog.generations.add(T, asked, per_day=None, queue=9)
    catalog.generations.fail(id_, owner=None, error="no", state=GenerationState.FAILED)
    told = catalog.backlog()
    assert {state: count for state, count in told.generations.items() if count} == {
        GenerationState.QUEUED: 2,
        GenerationState.FAILED: 1,
    }
    assert told.oldest_s[GenerationState.QUEUED] > 0
    assert told.oldest_s[GenerationState.RUNNING] == 0


def test_counts_end_at_their_limit(catalog: Catalog, ingest: IngestId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "COUNTED_AT_MOST", 4)
    monkeypatch.setattr(counting, "LOOKED_AT", 2)
    catalog.register(ingest, T, SPACE.id, [new(f"picture {number}") for number in range(6)])
    catalog.register(None, TenantId("other"), SPACE.id, [new("theirs")])
    catalog.lease_work(SPACE.id, owner="somebody", limit=5, lease_s=600)
    told = catalog.backlog()
    assert (told.queues[SPACE.id].waiting, told.queues[SPACE.id].leased) == (4, 2)
    assert told.registered == 5, "four of one tenant, one of the other"


def test_postgresql_reads_few_rows_however_large_the_tables_are(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a change of the model, most pictures wait. The limits are small as the tables are, so that more is there."""
    monkeypatch.setattr(counting, "COUNTED_AT_MOST", 100)
    monkeypatch.setattr(counting, "LOOKED_AT", 50)
    catalog = Catalog.at(postgres_url, migrate=True)
    catalog.record_space(SPACE)
    catalog.record_space(OTHER_SPACE)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as filling:
        for statement in _MANY:
            filling.execute(statement, {"space": SPACE.id, "other": OTHER_SPACE.id})
    read: dict[str, int] = {}

    def explain(*given: Any) -> None:  # noqa: ANN401  SQLAlchemy's
        connection, _, statement, parameters, *_ = given
        if statement.startswith("SELECT"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            read[statement] = rows_read(cursor.fetchone()[0][0]["Plan"])

    event.listen(catalog._database.engine, "before_cursor_execute", explain)
    try:
        told = catalog.backlog()
    finally:
        event.remove(catalog._database.engine, "before_cursor_execute", explain)
        catalog.close()
    assert {queue.waiting for queue in told.queues.values()} == {100}
    assert told.registered == 200
    assert told.registered_oldest_s > 0
    assert len(read) >= 8
    assert {statement: rows for statement, rows in read.items() if rows > 1000} == {}


def rows_read(plan: dict[str, Any]) -> int:
    """Add up what the scans of a plan read, whether it was of use or not."""
    below = sum(rows_read(part) for part in plan.get("Plans", ()))
    if "Scan" not in plan["Node Type"] or "Relation Name" not in plan:
        return below
    return below + int(plan["Actual Loops"] * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)))


_MANY = (
    "INSERT INTO tenants SELECT 'tenant ' || n, now() FROM generate_series(1, 2) n",
    """INSERT INTO assets SELECT gen_random_uuid(), 'tenant ' || (1 + n %% 2), lpad(n::text, 64, '0'), NULL, '{}',
       1, 1, 'square', 'png', 1, '0', now(), CASE WHEN n %% 100 < 2 THEN 'registered' ELSE 'indexed' END, false
       FROM generate_series(1, 40000) n""",
    """INSERT INTO work (asset_id, space_id, queued_at, attempts)
       SELECT id, CASE WHEN state = 'registered' THEN %(space)s ELSE %(other)s END,
       now() - random() * interval '1 day', 0 FROM assets""",
    """INSERT INTO generations
       (id, tenant_id, state, generator, request, seed, images, parents, pictures, attempts, cancel_asked, queued_at,
        rung_at)
       SELECT gen_random_uuid(), 'tenant 1',
       (ARRAY['queued', 'running', 'finished', 'failed', 'cancelled'])[1 + n %% 5], 'g',
       '{}', 1, 1, '[]', '[]', 0, false, now() - random() * interval '90 days', now()
       FROM generate_series(1, 40000) n""",
    "ANALYZE",
)
