"""On a filled PostgreSQL, what is asked often finds its rows by an index: a scan of a large table would be seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import Description, IngestState, NamedSpace, Quarantined
from phosphene.errors import PictureFault
from phosphene.types import AssetId, IngestId, TenantId, sha256_of
from tests.catalog.samples import OTHER_SPACE, SPACE, id_of, new

T = TenantId("tenant 1")
ROWS = 20_000
_FILL = (
    "INSERT INTO tenants SELECT 'tenant ' || n, now() FROM generate_series(1, 2) n",
    """INSERT INTO assets
       SELECT gen_random_uuid(), 'tenant ' || (1 + n %% 2), lpad(n::text, 64, '0'), 'Title ' || n, '{}',
       1, 1, 'square', 'png', 1, '0', now(), CASE WHEN n %% 100 = 0 THEN 'registered' ELSE 'indexed' END, false
       FROM generate_series(1, %(rows)s) n""",
    """INSERT INTO locations
       SELECT gen_random_uuid(), tenant_id, 'file:///' || sha256, id, '1-1', sha256 FROM assets""",
    "INSERT INTO embeddings SELECT id, %(space)s, 1, now() FROM assets WHERE state = 'indexed'",
    """INSERT INTO work (asset_id, space_id, queued_at, attempts, lease_owner, lease_until)
       SELECT id, CASE WHEN state = 'registered' THEN %(space)s ELSE %(other)s END,
       now() - random() * interval '1 day', 1, 'somebody',
       CASE WHEN random() < 0.5 THEN now() + interval '1 day' ELSE now() - interval '1 hour' END FROM assets""",
    """INSERT INTO ingests (id, tenant_id, sources, state, added, unchanged, updated, quarantined, started_at,
                            touched_at, attempts, job, rung_at)
       SELECT gen_random_uuid(), 'tenant ' || (1 + n %% 2), '[]',
       CASE WHEN n %% 1000 = 0 THEN 'running' ELSE 'finished' END,
       1, 0, 0, 0, now() - random() * interval '900 days', now() - interval '1 day', 0, '{}', now() - interval '1 day'
       FROM generate_series(1, %(rows)s) n""",
    """INSERT INTO quarantine (tenant_id, ingest_id, location_id, uri, fault, reason, at, resolved_at)
       SELECT tenant_id, id, gen_random_uuid(), 'file:///x', 'truncated', 'cut off', now(),
       CASE WHEN random() < 0.5 THEN now() END FROM ingests""",
    """INSERT INTO generations
       (id, tenant_id, state, generator, request, seed, images, parents, pictures, attempts, cancel_asked, queued_at,
        rung_at)
       SELECT gen_random_uuid(), 'tenant ' || (1 + n %% 2),
       (ARRAY['queued', 'running', 'finished', 'failed', 'cancelled'])[
           CASE WHEN n %% 100 < 2 THEN 1 + n %% 2 ELSE 3 + n %% 3 END],
       'g', '{}', 1, 1, '[]', '[]', 0, false, now() - random() * interval '90 days', now()
       FROM generate_series(1, %(rows)s) n""",
    "ANALYZE",
)
LARGE = {"assets", "locations", "embeddings", "work", "ingests", "quarantine", "generations"}


@pytest.fixture
def filled(postgres_url: str) -> Iterator[Catalog]:
    catalog = Catalog.at(postgres_url, migrate=True)
    catalog.record_space(SPACE)
    catalog.record_space(OTHER_SPACE)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as filling:
        for statement in _FILL:
            filling.execute(statement, {"space": SPACE.id, "other": OTHER_SPACE.id, "rows": ROWS})
    yield catalog
    catalog.close()


def asked_often(catalog: Catalog) -> dict[str, Callable[[], object]]:
    """Name what searches, ingests, workers, sweeps, verify and a change of the model ask again and again."""
    some = catalog.page_assets(tenant=T, after=None, limit=64)
    ids = [asset.id for asset in some]
    uris = [catalog.locations_of(T, id_)[0] for id_ in ids[:8]]
    registered = [new(f"picture {n}") for n in range(32)]
    ingest = IngestId(catalog.ingests(T, 1)[0].id)
    waiting = [item.asset_id for item in catalog.lease_work(OTHER_SPACE.id, owner="me", limit=40, lease_s=60)]
    reindexes = catalog.reindexes
    change = reindexes.start(NamedSpace("starter", SPACE), NamedSpace("other", OTHER_SPACE), {"swap": True})
    generation = catalog.generations.latest(T, before=None, limit=1)[0].id
    spot = AssetId(UUID("80000000-0000-0000-0000-000000000000"))
    return {
        "a page of hits": lambda: catalog.assets(T, ids[:24]),
        "a picture": lambda: catalog.asset(T, ids[0]),
        "places that are known": lambda: catalog.locations(T, uris),
        "places of a picture": lambda: catalog.locations_of(T, ids[0]),
        "a page of a tenant": lambda: catalog.page_assets(tenant=T, after=spot, limit=24),
        "a page of verify": lambda: catalog.page_assets(tenant=None, after=spot, limit=500),
        "who has these bytes": lambda: catalog.holders_of(sha256_of(b"x")),
        "a new batch": lambda: catalog.register(ingest, T, SPACE.id, registered),
        "the same batch": lambda: catalog.register(ingest, T, SPACE.id, registered),
        "descriptions": lambda: catalog.describe(None, T, SPACE.id, [Description(uris[0], "New", {"year": 1})]),
        "a change of one": lambda: catalog.update_asset(T, ids[1], title="Newer"),
        "what is embedded": lambda: catalog.embedded(SPACE.id, ids),
        "what is forgotten": lambda: catalog.forgotten(SPACE.id, ids),
        "a sweep's lease": lambda: catalog.lease_work(OTHER_SPACE.id, owner="me", limit=64, lease_s=60),
        "a task's lease": lambda: catalog.lease_work(SPACE.id, owner="me", limit=64, lease_s=60, asset_ids=ids),
        "a lease renewed": lambda: catalog.renew_work(OTHER_SPACE.id, waiting, owner="me", lease_s=60),
        "work given back": lambda: catalog.release_work(OTHER_SPACE.id, waiting[:8]),
        "work done": lambda: catalog.mark_indexed(OTHER_SPACE.id, [(id_, 1.0) for id_ in waiting[8:16]]),
        "work that failed": lambda: catalog.fail_work(
            OTHER_SPACE.id, waiting[17], PictureFault.EMBEDDING_FAILED, "no", final=True
        ),
        "work queued again": lambda: catalog.queue_for(SPACE.id, ids[2:10]),
        "how much waits": lambda: catalog.pending_work(SPACE.id, at_most=50),
        "ingests nobody is at": lambda: catalog.lost_ingests(100, idle_s=60),
        "ingests that died": lambda: catalog.interrupt_ingests(idle_s=900, orphans_only=True),
        "an ingest taken": lambda: catalog.lease_ingest(ingest, owner="me", lease_s=20),
        "an ingest ended": lambda: catalog.finish_ingest(ingest, IngestState.FINISHED),
        "ingests of a tenant": lambda: catalog.ingests(T, 20),
        "a page of quarantine": lambda: catalog.quarantined(T, None, after=None, limit=20),
        "a picture in quarantine": lambda: catalog.quarantine(
            None, T, [Quarantined("file:///y", PictureFault.TRUNCATED, "cut", None, some[0].added_at)]
        ),
        "a page of generations": lambda: catalog.generations.latest(T, before=generation, limit=20),
        "generations nobody is at": lambda: catalog.generations.lost(20, idle_s=60),
        "a page for the new space": lambda: reindexes.queue_page(change, limit=64),
        "left behind for the new space": lambda: reindexes.left_behind(OTHER_SPACE.id, older_than_s=30, limit=64),
        "a picture out": lambda: catalog.delete_asset(T, ids[-1]),
        "id of nothing": lambda: catalog.assets(T, [id_of("nothing")]),
    }


def test_postgresql_finds_rows_by_an_index(filled: Catalog) -> None:
    scanned: list[str] = []
    explained: set[str] = set()
    questions = asked_often(filled)
    name = ""

    def explain(*given: Any) -> None:  # noqa: ANN401  SQLAlchemy's
        connection, _, statement, parameters, *_ = given
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            cursor = connection.connection.cursor()
            cursor.execute(
                f"EXPLAIN (FORMAT JSON) {statement}", parameters[0] if isinstance(parameters, list) else parameters
            )
            explained.add(name)
            scanned.extend(f"{name}: {table}: {statement}" for table in scans(cursor.fetchone()[0][0]["Plan"]))

    event.listen(filled._database.engine, "before_cursor_execute", explain)
    try:
        for name, ask in questions.items():  # noqa: B007  read by explain
            ask()
    finally:
        event.remove(filled._database.engine, "before_cursor_execute", explain)
    assert explained == set(questions)
    assert scanned == []


def scans(plan: dict[str, Any]) -> list[str]:
    """Name the large tables that a plan reads from end to end."""
    below = [table for part in plan.get("Plans", ()) for table in scans(part)]
    whole = plan["Node Type"] == "Seq Scan" and plan["Relation Name"] in LARGE
    return [*below, plan["Relation Name"]] if whole else below
