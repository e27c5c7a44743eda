"""Jobs of a whole catalogue: what was asked for, who is at it, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select, update

from phosphene.catalog.database import Database, database_time, insert_into, later, now
from phosphene.catalog.ingests import ensure_tenant
from phosphene.catalog.models import JobRow
from phosphene.catalog.records import CatalogueJob, CatalogueJobKind, CatalogueJobState
from phosphene.catalog.storable import storable
from phosphene.errors import NotFound, Overloaded
from phosphene.types import TenantId

MOST_WAITING = 20  # of a tenant, those under way included
_OWNER_CHARACTERS = 200
_UNDONE = (CatalogueJobState.QUEUED, CatalogueJobState.RUNNING)
_COLUMNS = (
    JobRow.id,
    JobRow.tenant_id,
    JobRow.kind,
    JobRow.arguments,
    JobRow.state,
    JobRow.result,
    JobRow.error,
    JobRow.attempts,
    JobRow.queued_at,
    JobRow.started_at,
    JobRow.finished_at,
)


class CatalogueJobs:
    """The jobs of a catalogue; safe to use from many threads. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, tenant: TenantId, kind: CatalogueJobKind, arguments: Mapping[str, Any]) -> CatalogueJob:
        """Note what is to be done. Raises Overloaded where MOST_WAITING of a tenant wait or are under way."""
        at = now()
        with self._database.writing() as connection:
            ensure_tenant(connection, tenant)
            undone = select(func.count()).where(JobRow.tenant_id == tenant, JobRow.state.in_(_UNDONE))
            if connection.execute(undone).scalar_one() >= MOST_WAITING:
                raise Overloaded(f"{MOST_WAITING} jobs wait already: ask again when some are done", retry_after_s=60.0)
            row = {
                "id": uuid4(),
                "tenant_id": tenant,
                "kind": kind,
                "arguments": dict(arguments),
                "state": CatalogueJobState.QUEUED,
                "attempts": 0,
                "queued_at": at,
                "rung_at": at,
            }
            return _job(connection.execute(insert_into(connection, JobRow).values(row).returning(*_COLUMNS)).one())

    def one(self, tenant: TenantId, id_: UUID) -> CatalogueJob:
        """Fetch a job. Raises NotFound."""
        with self._database.reading() as connection:
            wanted = select(*_COLUMNS).where(JobRow.tenant_id == tenant, JobRow.id == id_)
            row = connection.execute(wanted).one_or_none()
        if row is None:
            raise NotFound(f"no job {id_}")
        return _job(row)

    def latest(self, tenant: TenantId, limit: int) -> list[CatalogueJob]:
        """List jobs, the latest first."""
        wanted = select(*_COLUMNS).where(JobRow.tenant_id == tenant)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(JobRow.queued_at.desc(), JobRow.id).limit(limit))
            return [_job(row) for row in rows]

    def lease(self, id_: UUID, *, owner: str, lease_s: float) -> CatalogueJob | None:
        """Take a job to do it; each lease counts as an attempt. None: it has ended, or somebody else is at it."""
        with self._database.writing() as connection:
            row = connection.execute(
                update(JobRow)
                .where(JobRow.id == id_, JobRow.state.in_(_UNDONE), _free(connection))
                .values(
                    state=CatalogueJobState.RUNNING,
                    started_at=func.coalesce(JobRow.started_at, now()),
                    attempts=JobRow.attempts + 1,
                    lease_owner=owner[:_OWNER_CHARACTERS],
                    lease_until=later(connection, database_time(connection), lease_s),
                )
                .returning(*_COLUMNS)
            ).one_or_none()
        return None if row is None else _job(row)

    def renew(self, id_: UUID, *, owner: str, lease_s: float) -> bool:
        """Say that its owner is at it still. False: it is theirs no longer."""
        with self._database.writing() as connection:
            until = later(connection, database_time(connection), lease_s)
            return connection.execute(update(JobRow).where(*_mine(id_, owner)).values(lease_until=until)).rowcount > 0

    def release(self, id_: UUID, *, owner: str, retry_in_s: float = 0.0) -> None:
        """Give it back undone, to be taken up again after a while."""
        with self._database.writing() as connection:
            until = later(connection, database_time(connection), retry_in_s)
            given_back = update(JobRow).where(*_mine(id_, owner))
            connection.execute(given_back.values(state=CatalogueJobState.QUEUED, lease_owner=None, lease_until=until))

    def finish(self, id_: UUID, *, owner: str, result: Mapping[str, Any] | None, error: str | None) -> None:
        """End it: done with a result, or failed with the reason; nothing happens where it is another's by now."""
        state = CatalogueJobState.FINISHED if error is None else CatalogueJobState.FAILED
        with self._database.writing() as connection:
            connection.execute(
                update(JobRow)
                .where(*_mine(id_, owner))
                .values(
                    state=state,
                    result=None if result is None else dict(result),
                    error=None if error is None else storable(error),
                    finished_at=now(),
                    lease_owner=None,
                    lease_until=None,
                )
            )

    def lost(self, limit: int, *, idle_s: float) -> list[UUID]:
        """Find jobs that nobody is at, the oldest first, and note that somebody is told of them now.

        Those are: whose process died or gave them back, and of which nobody was told for `idle_s`.
        """
        with self._database.writing() as connection:
            wanted = (
                select(JobRow.id)
                .where(
                    JobRow.state.in_(_UNDONE),
                    _free(connection),
                    or_(JobRow.rung_at <= now() - timedelta(seconds=idle_s), JobRow.rung_at <= JobRow.lease_until),
                )
                .order_by(JobRow.queued_at, JobRow.id)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            found = list(connection.execute(wanted).scalars())
            if found:
                connection.execute(update(JobRow).where(JobRow.id.in_(found)).values(rung_at=now()))
        return found


def _free(connection: Connection) -> ColumnElement[bool]:
    return or_(JobRow.lease_until.is_(None), JobRow.lease_until <= database_time(connection))


def _mine(id_: UUID, owner: str) -> list[ColumnElement[bool]]:
    return [
        JobRow.id == id_,
        JobRow.state == CatalogueJobState.RUNNING,
        JobRow.lease_owner == owner[:_OWNER_CHARACTERS],
    ]


def _job(row: Row[Any]) -> CatalogueJob:
    return CatalogueJob(
        id=row.id,
        tenant=TenantId(row.tenant_id),
        kind=CatalogueJobKind(row.kind),
        arguments=row.arguments,
        state=CatalogueJobState(row.state),
        result=row.result,
        error=row.error,
        attempts=row.attempts,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
