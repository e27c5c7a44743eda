"""How much is still to be done, and how old the oldest of it is: for metrics, which ask every few seconds.

Every statement reads a bounded number of rows, however large the catalogue is (a test counts them on PostgreSQL).
Beyond `COUNTED_AT_MOST` a count says only that there are at least so many.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, and_, case, func, literal, select

from phosphene.catalog.database import database_time, now
from phosphene.catalog.generation_records import GenerationState
from phosphene.catalog.models import AssetRow, GenerationRow, SpaceRow, TenantRow, WorkRow
from phosphene.catalog.records import AssetState
from phosphene.types import SpaceId

COUNTED_AT_MOST = 1_000_000
LOOKED_AT = 100_000  # of a queue, the oldest: those that are leased are among them
DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Queue:
    """Pictures that wait for their embedding in a space. `leased` to `retried` are counted among the oldest."""

    waiting: int  # leased ones included
    leased: int  # somebody is at them
    lost: int  # somebody was at them until the lease ran out
    retried: int  # tried before, or given back
    oldest_s: float  # age; 0 where there are none


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is to be done, over all tenants."""

    queues: dict[SpaceId, Queue]
    registered: int  # pictures that no search finds yet
    registered_oldest_s: float  # age of the oldest of them in a queue; 0 where there are none
    generations: dict[GenerationState, int]  # those that ended: of the last 24 hours
    oldest_s: dict[GenerationState, float]  # age of the oldest that is queued or running


def backlog(connection: Connection) -> Backlog:
    """Count what is to be done."""
    spaces = [SpaceId(id_) for id_ in connection.execute(select(SpaceRow.id)).scalars()]
    registered = connection.execute(registered_count()).scalar_one() or 0
    since = [connection.execute(oldest_registered(space)).scalar_one_or_none() for space in spaces if registered]
    return Backlog(
        queues={space: _queue(connection, space) for space in spaces},
        registered=registered,
        registered_oldest_s=max(map(_age_s, since), default=0.0),
        generations={state: connection.execute(generations_count(state)).scalar_one() for state in GenerationState},
        oldest_s={
            state: _age_s(connection.execute(oldest_generation(state)).scalar_one_or_none())
            for state in GenerationState
            if not state.ended
        },
    )


def _queue(connection: Connection, space: SpaceId) -> Queue:
    row = connection.execute(queue_states(connection, space)).one()
    oldest = connection.execute(oldest_work(space)).scalar_one_or_none()
    return Queue(
        waiting=connection.execute(work_count(space)).scalar_one(),
        leased=row.leased or 0,
        lost=row.lost or 0,
        retried=row.retried or 0,
        oldest_s=_age_s(oldest),
    )


def work_count(space: SpaceId) -> Select[int]:
    """Count the queue of a space."""
    some = select(WorkRow.space_id).where(WorkRow.space_id == space).limit(COUNTED_AT_MOST).subquery()
    return select(func.count()).select_from(some)


def oldest_work(space: SpaceId) -> Select[datetime]:
    """Find since when the oldest of a queue waits."""
    return select(WorkRow.queued_at).where(WorkRow.space_id == space).order_by(WorkRow.queued_at).limit(1)


def queue_states(connection: Connection, space: SpaceId) -> Select[int, int, int]:
    """Count those of the oldest in a queue that are leased, lost and retried."""
    at = database_time(connection)
    columns = (WorkRow.lease_until, WorkRow.lease_owner, WorkRow.attempts)
    oldest = select(*columns).where(WorkRow.space_id == space).order_by(WorkRow.queued_at).limit(LOOKED_AT).subquery()
    held = oldest.c.lease_owner.is_not(None)
    under_way = and_(held, oldest.c.lease_until > at)
    return select(
        func.sum(case((under_way, 1), else_=0)).label("leased"),
        func.sum(case((and_(held, oldest.c.lease_until <= at), 1), else_=0)).label("lost"),
        func.sum(case((oldest.c.attempts > case((held, 1), else_=0), 1), else_=0)).label("retried"),
    )


def registered_count() -> Select[int]:
    """Count pictures that wait to be found, tenant by tenant: that is how they are indexed."""
    some = (
        select(literal(1))
        .select_from(AssetRow)
        .where(AssetRow.tenant_id == TenantRow.id, AssetRow.state == AssetState.REGISTERED)
        .limit(COUNTED_AT_MOST)
        .correlate(TenantRow)
        .subquery()
    )
    of_tenant = select(func.count()).select_from(some).scalar_subquery()
    return select(func.sum(of_tenant)).select_from(TenantRow)


def oldest_registered(space: SpaceId) -> Select[datetime]:
    """Find since when the oldest picture that no search finds yet waits in a queue."""
    columns = (WorkRow.asset_id, WorkRow.queued_at)
    oldest = select(*columns).where(WorkRow.space_id == space).order_by(WorkRow.queued_at).limit(LOOKED_AT).subquery()
    return (
        select(oldest.c.queued_at)
        .join(AssetRow, AssetRow.id == oldest.c.asset_id)
        .where(AssetRow.state == AssetState.REGISTERED)
        .order_by(oldest.c.queued_at)
        .limit(1)
    )


def generations_count(state: GenerationState) -> Select[int]:
    """Count generations in a state; those that ended, among the ones asked for in the last 24 hours."""
    which = select(literal(1)).select_from(GenerationRow).where(GenerationRow.state == state)
    if state.ended:
        which = which.where(GenerationRow.queued_at > now() - DAY)
    return select(func.count()).select_from(which.limit(COUNTED_AT_MOST).subquery())


def oldest_generation(state: GenerationState) -> Select[datetime]:
    """Find since when the oldest generation in a state has been asked for."""
    return (
        select(GenerationRow.queued_at).where(GenerationRow.state == state).order_by(GenerationRow.queued_at).limit(1)
    )


def _age_s(since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now() - since).total_seconds())
