"""Ingests with their counts, and the quarantine of files that can't be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4, uuid5

from sqlalchemy import ColumnElement, Connection, Row, or_, select, update

from phosphene import metrics
from phosphene.addresses import told
from phosphene.catalog.database import database_time, in_chunks, insert_into, later, now
from phosphene.catalog.models import IngestRow, QuarantineRow, TenantRow
from phosphene.catalog.records import Ingest, IngestCounts, IngestState, Quarantined
from phosphene.catalog.storable import storable
from phosphene.errors import NotFound, PictureFault
from phosphene.types import IngestId, Sha256, TenantId


def ensure_tenant(connection: Connection, tenant: TenantId) -> None:
    """Make the row of a tenant."""
    connection.execute(insert_into(connection, TenantRow).on_conflict_do_nothing(), {"id": tenant, "created_at": now()})


_OWNER_CHARACTERS = 200


def start(
    connection: Connection, tenant: TenantId, sources: Sequence[str], job: Mapping[str, Any] | None = None
) -> IngestId:
    """Begin an ingest. `job` is what workers are sent for it, its id apart."""
    ensure_tenant(connection, tenant)
    ingest = IngestId(uuid4())
    at = now()
    connection.execute(
        insert_into(connection, IngestRow),
        {
            "id": ingest,
            "tenant_id": tenant,
            "sources": [storable(told(source)) for source in sources],
            "state": IngestState.RUNNING,
            "added": 0,
            "unchanged": 0,
            "updated": 0,
            "quarantined": 0,
            "started_at": at,
            "touched_at": at,
            "job": None if job is None else dict(job),
            "rung_at": at,
            "attempts": 0,
        },
    )
    return ingest


def finish(
    connection: Connection, ingest: IngestId, state: IngestState, error: str | None, *, owner: str | None = None
) -> None:
    """Close an ingest; RUNNING opens it again. With an owner: unless another has it by now. Raises NotFound."""
    at = now()
    done = connection.execute(
        update(IngestRow)
        .where(IngestRow.id == ingest, *_owned(owner))
        .values(
            state=state,
            error=None if error is None else storable(error),
            touched_at=at,
            finished_at=None if state is IngestState.RUNNING else at,
            lease_owner=None,
            lease_until=None,
        )
    )
    if done.rowcount == 0 and owner is None:
        msg = f"no ingest {ingest}"
        raise NotFound(msg)


def _owned(owner: str | None) -> list[ColumnElement[bool]]:
    return [] if owner is None else [IngestRow.lease_owner == owner[:_OWNER_CHARACTERS]]


def interrupt(connection: Connection, idle_s: float, *, orphans_only: bool) -> list[IngestId]:
    """Mark ingests that say they run, but have not moved for so long: their process is gone.

    `orphans_only`: those that no worker will take up again.
    """
    idle = [IngestRow.state == IngestState.RUNNING, IngestRow.touched_at <= now() - timedelta(seconds=idle_s)]
    if orphans_only:
        idle.append(IngestRow.job.is_(None))
    statement = (
        update(IngestRow)
        .where(*idle)
        .values(state=IngestState.INTERRUPTED, finished_at=IngestRow.touched_at)
        .returning(IngestRow.id)
    )
    return [IngestId(id_) for id_ in connection.execute(statement).scalars()]


def lease(connection: Connection, ingest: IngestId, *, owner: str, lease_s: float) -> Ingest | None:
    """Take an ingest, to do what is left of it. None: it has ended, or somebody else is at it.

    What a dead worker has counted as added stays counted as that, and as nothing else when it comes by again.
    """
    row = connection.execute(
        update(IngestRow)
        .where(IngestRow.id == ingest, IngestRow.state == IngestState.RUNNING, _free(connection))
        .values(
            lease_owner=owner[:_OWNER_CHARACTERS],
            lease_until=later(connection, database_time(connection), lease_s),
            attempts=IngestRow.attempts + 1,
            unchanged=-(IngestRow.added + IngestRow.updated),
            quarantined=0,
        )
        .returning(*_COLUMNS)
    ).one_or_none()
    return None if row is None else _ingest(row)


def _free(connection: Connection) -> ColumnElement[bool]:
    return or_(IngestRow.lease_until.is_(None), IngestRow.lease_until <= database_time(connection))


def renew(connection: Connection, ingest: IngestId, *, owner: str, lease_s: float) -> bool:
    """Say that somebody is at it still. False: it is theirs no longer."""
    until = later(connection, database_time(connection), lease_s)
    mine = update(IngestRow).where(IngestRow.id == ingest, IngestRow.state == IngestState.RUNNING, *_owned(owner))
    return connection.execute(mine.values(lease_until=until)).rowcount > 0


def release(connection: Connection, ingest: IngestId, *, owner: str, retry_in_s: float) -> None:
    """Give it back, to be taken up after a while by whoever hears of it then."""
    mine = update(IngestRow).where(IngestRow.id == ingest, *_owned(owner))
    until = later(connection, database_time(connection), retry_in_s)
    connection.execute(mine.values(lease_owner=None, lease_until=until))


def lost(connection: Connection, limit: int, *, idle_s: float) -> dict[IngestId, dict[str, Any]]:
    """Find ingests that nobody is at, the oldest first, with what workers are sent; note that they are told now.

    Those are: whose worker died or gave them back, and of which nobody was told for `idle_s`.
    """
    long_ago = IngestRow.rung_at <= now() - timedelta(seconds=idle_s)
    died = IngestRow.rung_at <= IngestRow.lease_until
    statement = (
        select(IngestRow.id, IngestRow.job)
        .where(
            IngestRow.state == IngestState.RUNNING,
            IngestRow.job.is_not(None),
            _free(connection),
            or_(long_ago, died),
        )
        .order_by(IngestRow.started_at, IngestRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = {IngestId(row.id): dict(row.job) for row in connection.execute(statement)}
    if found:
        connection.execute(update(IngestRow).where(IngestRow.id.in_(found)).values(rung_at=now()))
    return found


def add_counts(connection: Connection, ingest: IngestId | None, counts: IngestCounts) -> None:
    """Add to the counts of an ingest, and note that it lives, and perhaps gets on."""
    if ingest is None:
        return
    gets_on = {"attempts": 0} if counts.added or counts.updated else {}
    connection.execute(
        update(IngestRow)
        .where(IngestRow.id == ingest)
        .values(
            added=IngestRow.added + counts.added,
            unchanged=IngestRow.unchanged + counts.unchanged,
            updated=IngestRow.updated + counts.updated,
            quarantined=IngestRow.quarantined + counts.quarantined,
            touched_at=now(),
            **gets_on,
        )
    )


def _ingest(row: Row[Any]) -> Ingest:
    return Ingest(
        id=IngestId(row.id),
        tenant=TenantId(row.tenant_id),
        sources=tuple(row.sources),
        state=IngestState(row.state),
        counts=IngestCounts(row.added, max(0, row.unchanged), row.updated, row.quarantined),
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
        attempts=row.attempts,
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
