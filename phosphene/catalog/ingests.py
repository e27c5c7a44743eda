"""Ingests with their counts, and the quarantine of files that can't be used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4, uuid5

from sqlalchemy import Connection, Row, select, update

from phosphene import metrics
from phosphene.catalog.database import in_chunks, insert_into, now
from phosphene.catalog.models import IngestRow, QuarantineRow, TenantRow
from phosphene.catalog.records import Ingest, IngestCounts, IngestState, Quarantined, storable
from phosphene.errors import NotFound, PictureFault
from phosphene.types import IngestId, Sha256, TenantId


def ensure_tenant(connection: Connection, tenant: TenantId) -> None:
    """Make the row of a tenant."""
    connection.execute(insert_into(connection, TenantRow).on_conflict_do_nothing(), {"id": tenant, "created_at": now()})


def start(connection: Connection, tenant: TenantId, sources: Sequence[str]) -> IngestId:
    """Begin an ingest."""
    ensure_tenant(connection, tenant)
    ingest = IngestId(uuid4())
    at = now()
    connection.execute(
        insert_into(connection, IngestRow),
        {
            "id": ingest,
            "tenant_id": tenant,
            "sources": [storable(source) for source in sources],
            "state": IngestState.RUNNING,
            "added": 0,
            "unchanged": 0,
            "updated": 0,
            "quarantined": 0,
            "started_at": at,
            "touched_at": at,
        },
    )
    return ingest


def finish(connection: Connection, ingest: IngestId, state: IngestState, error: str | None) -> None:
    """Close an ingest; RUNNING opens it again. Raises NotFound."""
    at = now()
    done = connection.execute(
        update(IngestRow)
        .where(IngestRow.id == ingest)
        .values(
            state=state,
            error=None if error is None else storable(error),
            touched_at=at,
            finished_at=None if state is IngestState.RUNNING else at,
        )
    )
    if done.rowcount == 0:
        msg = f"no ingest {ingest}"
        raise NotFound(msg)


def interrupt(connection: Connection, idle_s: float) -> list[IngestId]:
    """Mark ingests that say they run, but have not moved for so long: their process is gone."""
    statement = (
        update(IngestRow)
        .where(IngestRow.state == IngestState.RUNNING, IngestRow.touched_at <= now() - timedelta(seconds=idle_s))
        .values(state=IngestState.INTERRUPTED, finished_at=IngestRow.touched_at)
        .returning(IngestRow.id)
    )
    return [IngestId(id_) for id_ in connection.execute(statement).scalars()]


def add_counts(connection: Connection, ingest: IngestId | None, counts: IngestCounts) -> None:
    """Add to the counts of an ingest, and note that it lives."""
    if ingest is None:
        return
    connection.execute(
        update(IngestRow)
        .where(IngestRow.id == ingest)
        .values(
            added=IngestRow.added + counts.added,
            unchanged=IngestRow.unchanged + counts.unchanged,
            updated=IngestRow.updated + counts.updated,
            quarantined=IngestRow.quarantined + counts.quarantined,
            touched_at=now(),
        )
    )


def _ingest(row: Row[Any]) -> Ingest:
    return Ingest(
        id=IngestId(row.id),
        tenant=TenantId(row.tenant_id),
        sources=tuple(row.sources),
        state=IngestState(row.state),
        counts=IngestCounts(row.added, row.unchanged, row.updated, row.quarantined),
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
    )


_COLUMNS = IngestRow.__table__.c


def one(connection: Connection, tenant: TenantId, ingest: IngestId) -> Ingest:
    """Fetch an ingest. Raises NotFound."""
    statement = select(*_COLUMNS).where(IngestRow.id == ingest, IngestRow.tenant_id == tenant)
    row = connection.execute(statement).one_or_none()
    if row is None:
        msg = f"no ingest {ingest}"
        raise NotFound(msg)
    return _ingest(row)


def latest(connection: Connection, tenant: TenantId, limit: int) -> list[Ingest]:
    """List ingests, the latest first."""
    statement = (
        select(*_COLUMNS)
        .where(IngestRow.tenant_id == tenant)
        .order_by(IngestRow.started_at.desc(), IngestRow.id)
        .limit(limit)
    )
    return [_ingest(row) for row in connection.execute(statement)]


_LOCATIONS = UUID("0b0c5f3a-6a0e-5c55-8f6e-0d6a5b1f7c42")


def location_id(tenant: TenantId, uri: str) -> UUID:
    """Give the key of a place of a tenant."""
    return uuid5(_LOCATIONS, f"{tenant}/{storable(uri)}")


def quarantine(
    connection: Connection, ingest: IngestId | None, tenant: TenantId, entries: Sequence[Quarantined]
) -> None:
    """List files that can't be used; what was listed of them before is history."""
    if not entries:
        return
    ensure_tenant(connection, tenant)
    by_place = {location_id(tenant, entry.uri): entry for entry in entries}
    resolve_quarantine(connection, tenant, list(by_place))
    rows = [
        {
            "tenant_id": tenant,
            "ingest_id": ingest,
            "location_id": place,
            "uri": storable(entry.uri),
            "fault": entry.fault,
            "reason": storable(entry.reason),
            "sha256": entry.sha256,
            "at": entry.at,
        }
        for place, entry in by_place.items()
    ]
    connection.execute(insert_into(connection, QuarantineRow), rows)
    for entry in entries:
        metrics.QUARANTINED.labels(entry.fault.value).inc()
    add_counts(connection, ingest, IngestCounts(quarantined=len(entries)))


def resolve_quarantine(connection: Connection, tenant: TenantId, places: Sequence[UUID]) -> None:
    """Take files out of the current list."""
    for chunk in in_chunks(sorted(set(places))):
        connection.execute(
            update(QuarantineRow)
            .where(
                QuarantineRow.location_id.in_(chunk),
                QuarantineRow.tenant_id == tenant,
                QuarantineRow.resolved_at.is_(None),
            )
            .values(resolved_at=now())
        )


def quarantined(
    connection: Connection, tenant: TenantId, ingest: IngestId | None, after: int | None, limit: int
) -> list[Quarantined]:
    """List what one ingest found unusable, or, without one, what is unusable now."""
    statement = select(QuarantineRow.__table__).where(QuarantineRow.tenant_id == tenant)
    if ingest is None:
        statement = statement.where(QuarantineRow.resolved_at.is_(None))
    else:
        statement = statement.where(QuarantineRow.ingest_id == ingest)
    if after is not None:
        statement = statement.where(QuarantineRow.id > after)
    statement = statement.order_by(QuarantineRow.id).limit(limit)
    return [
        Quarantined(
            uri=row.uri,
            fault=PictureFault(row.fault),
            reason=row.reason,
            sha256=cast("Sha256 | None", row.sha256),
            at=row.at,
            id=row.id,
        )
        for row in connection.execute(statement)
    ]
