"""What is still to be embedded, who is at it, and what has been done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import (
    Connection,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from phosphene.catalog import ingests, spaces
from phosphene.catalog.database import database_time, in_chunks, insert_into, later, now
from phosphene.catalog.models import AssetRow, EmbeddingRow, IngestRow, LocationRow, SpaceRow, WorkRow
from phosphene.catalog.records import AssetState, Quarantined, WorkItem
from phosphene.catalog.storable import storable
from phosphene.errors import InvalidInput, PictureFault
from phosphene.types import AssetId, IngestId, Sha256, SpaceId, TenantId


def queue_missing(connection: Connection, space_id: SpaceId, ids: Iterable[UUID], ingest: IngestId | None) -> set[UUID]:
    """Make work entries for pictures without an embedding; give those that have one now."""
    done = embedded(connection, space_id, list(ids))
    waiting = {id_ for id_ in ids if id_ not in done}
    if waiting:
        queue(connection, space_id, waiting, ingest)
    return waiting


def queue(connection: Connection, space_id: SpaceId, ids: set[UUID], ingest: IngestId | None) -> None:
    """Make work entries; those that there are stay as they are. Raises InvalidInput for a space not recorded."""
    known = connection.execute(select(SpaceRow.id).where(SpaceRow.id == space_id)).first()
    if known is None:
        msg = f"space {space_id} is not in the catalogue: record_space() comes first"
        raise InvalidInput(msg)
    at = now()
    connection.execute(
        insert_into(connection, WorkRow).on_conflict_do_nothing(),
        [
            {"asset_id": id_, "space_id": space_id, "ingest_id": ingest, "queued_at": at, "attempts": 0}
            for id_ in sorted(ids)
        ],
    )
    for chunk in in_chunks(sorted(ids)):
        connection.execute(
            update(AssetRow)
            .where(AssetRow.id.in_(chunk), AssetRow.state == AssetState.FAILED)
            .values(state=AssetState.REGISTERED)
        )


def queue_for(connection: Connection, space_id: SpaceId, ids: Sequence[AssetId]) -> int:
    """Have pictures embedded again, as though they never had been; give how many there are.

    Where the space was given up, those are queued that the one that answers lacks.
    """
    first = spaces.written(connection, space_id)[0]
    count = 0
    for chunk in in_chunks(sorted(set(ids))):
        present = set(connection.execute(select(AssetRow.id).where(AssetRow.id.in_(chunk))).scalars())
        if not present:
            continue
        count += len(present)
        if first != space_id:
            queue_missing(connection, first, present, None)
            continue
        connection.execute(
            delete(EmbeddingRow).where(EmbeddingRow.space_id == space_id, EmbeddingRow.asset_id.in_(present))
        )
        queue(connection, space_id, present, None)
        elsewhere = exists().where(EmbeddingRow.asset_id == AssetRow.id)
        connection.execute(
            update(AssetRow).where(AssetRow.id.in_(present), ~elsewhere).values(state=AssetState.REGISTERED)
        )
    return count


def lease(
    connection: Connection,
    space_id: SpaceId,
    *,
    owner: str,
    limit: int,
    lease_s: float,
    asset_ids: Sequence[AssetId] | None,
) -> list[WorkItem]:
    """Take work that nobody is at, the oldest first. On PostgreSQL rows that another is just taking are skipped."""
    at = database_time(connection)
    statement = (
        select(WorkRow.asset_id, AssetRow.tenant_id, WorkRow.attempts)
        .join(AssetRow, AssetRow.id == WorkRow.asset_id)
        .where(WorkRow.space_id == space_id, or_(WorkRow.lease_until.is_(None), WorkRow.lease_until <= at))
        .order_by(WorkRow.queued_at, WorkRow.asset_id)
        .limit(limit)
        .with_for_update(of=WorkRow, skip_locked=True)
    )
    if asset_ids is not None:
        statement = statement.where(WorkRow.asset_id.in_(asset_ids))
    rows = connection.execute(statement).all()
    if rows:
        connection.execute(
            update(WorkRow)
            .where(WorkRow.space_id == space_id, WorkRow.asset_id.in_([row.asset_id for row in rows]))
            .values(
                lease_owner=_stored_owner(owner),
                lease_until=later(connection, at, lease_s),
                attempts=WorkRow.attempts + 1,
            )
        )
    return [WorkItem(AssetId(row.asset_id), TenantId(row.tenant_id), space_id, row.attempts + 1) for row in rows]


def mark_indexed(connection: Connection, space_id: SpaceId, norms: Sequence[tuple[AssetId, float]]) -> list[AssetId]:
    """Note that pictures are in the index; give those whose points must go.

    They were deleted meanwhile, or the space was given up: then all.
    """
    if not norms:
        return []
    if spaces.written(connection, space_id)[0] != space_id:
        return [id_ for id_, _ in norms]
    by_id: dict[UUID, float] = {id_: float(norm) for id_, norm in norms}
    present: set[UUID] = set()
    for chunk in in_chunks(sorted(by_id)):
        locked = select(AssetRow.id).where(AssetRow.id.in_(chunk)).order_by(AssetRow.id).with_for_update()
        present |= set(connection.execute(locked).scalars())
    if present:
        _write_embeddings(connection, space_id, {id_: by_id[id_] for id_ in present})
    return [id_ for id_, _ in norms if id_ not in present]


def _write_embeddings(connection: Connection, space_id: SpaceId, norms: dict[UUID, float]) -> None:
    at = now()
    statement = insert_into(connection, EmbeddingRow)
    statement = statement.on_conflict_do_update(
        index_elements=[EmbeddingRow.asset_id, EmbeddingRow.space_id],
        set_={name: statement.excluded[name] for name in ("norm", "indexed_at")},
    )
    ids = sorted(norms)
    connection.execute(
        statement, [{"asset_id": id_, "space_id": space_id, "norm": norms[id_], "indexed_at": at} for id_ in ids]
    )
    for chunk in in_chunks(ids):
        connection.execute(delete(WorkRow).where(WorkRow.space_id == space_id, WorkRow.asset_id.in_(chunk)))
        connection.execute(
            update(AssetRow)
            .where(AssetRow.id.in_(chunk), AssetRow.state != AssetState.INDEXED)
            .values(state=AssetState.INDEXED)
        )


def _stored_owner(owner: str) -> str:
    return storable(owner)[:200]


def renew(connection: Connection, space_id: SpaceId, ids: Sequence[AssetId], *, owner: str, lease_s: float) -> None:
    """Hold on to leased work."""
    until = later(connection, database_time(connection), lease_s)
    for chunk in in_chunks(sorted(set(ids))):
        held = WorkRow.space_id == space_id, WorkRow.asset_id.in_(chunk), WorkRow.lease_owner == _stored_owner(owner)
        connection.execute(update(WorkRow).where(*held).values(lease_until=until))


def release(connection: Connection, space_id: SpaceId, ids: Sequence[AssetId]) -> None:
    """Give leased work back; the attempt does not count."""
    for chunk in in_chunks(sorted(set(ids))):
        connection.execute(
            update(WorkRow)
            .where(WorkRow.space_id == space_id, WorkRow.asset_id.in_(chunk), WorkRow.lease_owner.is_not(None))
            .values(lease_owner=None, lease_until=None, attempts=func.max(WorkRow.attempts - 1, 0))
            if connection.dialect.name == "sqlite"
            else update(WorkRow)
            .where(WorkRow.space_id == space_id, WorkRow.asset_id.in_(chunk), WorkRow.lease_owner.is_not(None))
            .values(lease_owner=None, lease_until=None, attempts=func.greatest(WorkRow.attempts - 1, 0))
        )


def fail(
    connection: Connection,
    space_id: SpaceId,
    id_: AssetId,
    fault: PictureFault,
    reason: str,
    *,
    final: bool,
    retry_in_s: float,
) -> None:
    """Note that embedding a picture failed: it is tried again later, or, when final, given up and quarantined."""
    reason = storable(reason)
    here = (WorkRow.space_id == space_id, WorkRow.asset_id == id_)
    if not final:
        not_before = later(connection, database_time(connection), retry_in_s) if retry_in_s > 0 else None
        connection.execute(update(WorkRow).where(*here).values(lease_owner=None, lease_until=not_before, reason=reason))
        return
    ingest = connection.execute(delete(WorkRow).where(*here).returning(WorkRow.ingest_id)).scalar_one_or_none()
    row = connection.execute(
        select(AssetRow.tenant_id, AssetRow.sha256).where(AssetRow.id == id_).with_for_update()
    ).one_or_none()
    if row is None:
        return
    elsewhere = exists().where(EmbeddingRow.asset_id == id_)
    connection.execute(update(AssetRow).where(AssetRow.id == id_, ~elsewhere).values(state=AssetState.FAILED))
    uris = sorted(connection.execute(select(LocationRow.uri).where(LocationRow.asset_id == id_)).scalars())
    at = now()
    entries = [Quarantined(uri, fault, reason, Sha256(row.sha256), at) for uri in uris]
    ingests.quarantine(connection, None if ingest is None else IngestId(ingest), TenantId(row.tenant_id), entries)
    if ingest is not None:  # it was counted as added when it was registered
        connection.execute(
            update(IngestRow).where(IngestRow.id == ingest, IngestRow.added > 0).values(added=IngestRow.added - 1)
        )


def pending(connection: Connection, space_id: SpaceId, at_most: int | None = None) -> int:
    """Count pictures that wait for their embedding, leased ones included; no further than `at_most`."""
    waiting = select(WorkRow.asset_id).where(WorkRow.space_id == space_id).limit(at_most).subquery()
    return connection.execute(select(func.count()).select_from(waiting)).scalar_one()


def forgotten(connection: Connection, space_id: SpaceId, ids: Sequence[AssetId]) -> list[AssetId]:
    """Name those pictures that are neither in the index of a space, nor wait for it, nor were given up."""
    found: list[AssetId] = []
    there = exists().where(EmbeddingRow.asset_id == AssetRow.id, EmbeddingRow.space_id == space_id)
    coming = exists().where(WorkRow.asset_id == AssetRow.id, WorkRow.space_id == space_id)
    statement = select(AssetRow.id).where(AssetRow.state != AssetState.FAILED, ~there, ~coming).order_by(AssetRow.id)
    for chunk in in_chunks(ids):
        found += map(AssetId, connection.execute(statement.where(AssetRow.id.in_(chunk))).scalars())
    return found


def embedded(connection: Connection, space_id: SpaceId, ids: Sequence[UUID]) -> dict[UUID, float]:
    """Give the norms of those pictures that are in the index of a space."""
    found: dict[UUID, float] = {}
    for chunk in in_chunks(ids):
        statement = select(EmbeddingRow.asset_id, EmbeddingRow.norm).where(
            EmbeddingRow.space_id == space_id, EmbeddingRow.asset_id.in_(chunk)
        )
        found |= {row.asset_id: row.norm for row in connection.execute(statement)}
    return found
