"""Spaces that pictures were embedded in, and the metadata fields that tenants declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from phosphene.catalog.database import insert_into, now
from phosphene.catalog.ingests import ensure_tenant
from phosphene.catalog.models import EmbeddingRow, FieldRow, PointerRow, ReindexRow, SpaceRow
from phosphene.catalog.records import ReindexState, SpaceRecord
from phosphene.errors import InvalidInput
from phosphene.types import FIELD_NAME, RESERVED_NAMES, Field, FieldKind, PixelSpec, Sha256, Space, SpaceId, TenantId

_SPACES_LOCK = 7_063_451_882
PAYLOAD_VERSION = 1  # to be raised when points carry more than before (indexer/payload.py): 1 has words and attributes
ANSWERS = "retrieval"  # the pointer to the space that answers
WRITES_BOTH = tuple(state for state in ReindexState if state.writes_both)


def record_space(connection: Connection, space: Space) -> None:
    """Note a space, once; and since when its points carry what this version writes."""
    connection.execute(
        insert_into(connection, SpaceRow).on_conflict_do_nothing(),
        {
            "id": space.id,
            "model": space.model,
            "dimension": space.dimension,
            "weights_sha256": space.weights_sha256,
            "pixels": asdict(space.pixels),
            "recorded_at": now(),
            "payload_version": PAYLOAD_VERSION,
        },
    )
    connection.execute(
        update(SpaceRow)
        .where(SpaceRow.id == space.id, SpaceRow.payload_version < PAYLOAD_VERSION)
        .values(payload_version=PAYLOAD_VERSION, payload_since=now())
    )


def outdated(connection: Connection, space_id: SpaceId) -> int:
    """Count the pictures whose points were written by a version that says less of them; costs nothing where none is."""
    since = connection.execute(select(SpaceRow.payload_since).where(SpaceRow.id == space_id)).scalar_one_or_none()
    if since is None:
        return 0
    before = select(func.count()).where(EmbeddingRow.space_id == space_id, EmbeddingRow.indexed_at < since)
    return connection.execute(before).scalar_one()


def settle(connection: Connection, space_id: SpaceId) -> None:
    """Note that all points of a space carry what this version writes."""
    connection.execute(
        update(SpaceRow).where(SpaceRow.id == space_id).values(payload_version=PAYLOAD_VERSION, payload_since=None)
    )


def spaces(connection: Connection) -> list[SpaceRecord]:
    """List all spaces, the oldest first, with how many pictures each holds."""
    grouped = select(EmbeddingRow.space_id, func.count()).group_by(EmbeddingRow.space_id)
    counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(grouped)}
    rows = connection.execute(select(*SpaceRow.__table__.c).order_by(SpaceRow.recorded_at, SpaceRow.id))
    return [SpaceRecord(space_of(row), row.recorded_at, counts.get(row.id, 0)) for row in rows]


def space_of(row: Row[Any]) -> Space:
    """Make a space of its row."""
    return Space(row.model, row.dimension, Sha256(row.weights_sha256), _pixel_spec(row.pixels))


def hold_spaces(connection: Connection, *, change: bool = False) -> None:
    """Keep which spaces are written as it is until this transaction ends; `change`: wait for those who do.

    A picture is so either queued for the new space, or seen by whoever goes through all pictures.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        lock = func.pg_advisory_xact_lock if change else func.pg_advisory_xact_lock_shared
        connection.execute(select(lock(_SPACES_LOCK)))


def written(connection: Connection, asked: SpaceId) -> list[SpaceId]:
    """Name the spaces that writes go to: first the one asked for or, where that is given up, the one that answers.

    Whoever asks may have opened it before the model was changed: what is written goes where it will be looked for.
    """
    pointer = connection.execute(select(PointerRow.space_id).where(PointerRow.name == ANSWERS)).scalar_one_or_none()
    if pointer is None:  # the model was never changed
        return [asked]
    change = select(ReindexRow.before_id, ReindexRow.after_id)
    row = connection.execute(change.where(ReindexRow.active.is_(True), ReindexRow.state.in_(WRITES_BOTH))).one_or_none()
    both = () if row is None else (SpaceId(row.before_id), SpaceId(row.after_id))
    first = asked if asked in (pointer, *both) else SpaceId(pointer)
    return [first, *(one for one in both if one != first)]


def _pixel_spec(stored: dict[str, object]) -> PixelSpec:
    # JSON has lists where the spec has tuples.
    return PixelSpec(**{key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()})  # type: ignore[arg-type]  # written by asdict


def fields(connection: Connection, tenant: TenantId) -> list[Field]:
    """List the declared fields of a tenant, by name, but those that are ours by now."""
    columns = select(FieldRow.name, FieldRow.kind, FieldRow.description, FieldRow.facet)
    rows = connection.execute(columns.where(FieldRow.tenant_id == tenant).order_by(FieldRow.name))
    return [Field(row.name, FieldKind(row.kind), row.description, row.facet) for row in rows if _is_theirs(row.name)]


def _is_theirs(name: str) -> bool:
    return name not in RESERVED_NAMES


def describe_fields(connection: Connection, tenant: TenantId, said: Sequence[Field]) -> list[Field]:
    """Keep what is said of declared fields; give all of the tenant's."""
    for field in said:
        table = FieldRow.__table__
        statement = update(FieldRow).where(FieldRow.tenant_id == tenant, FieldRow.name == field.name)
        connection.execute(statement.values({table.c.description: field.description, table.c.facet: field.facet}))
    return fields(connection, tenant)


def all_fields(connection: Connection) -> list[Field]:
    """List the fields of all tenants, by name; where kinds differ, the one declared first."""
    statement = select(FieldRow.name, FieldRow.kind).order_by(FieldRow.declared_at.desc(), FieldRow.tenant_id.desc())
    kinds = {row.name: FieldKind(row.kind) for row in connection.execute(statement)}
    return [Field(name, kinds[name]) for name in sorted(kinds) if name not in RESERVED_NAMES]


def declare_fields(connection: Connection, tenant: TenantId, new: Sequence[Field]) -> list[Field]:
    """Add fields; give all of the tenant's. Raises InvalidInput for a reserved name or another kind than before."""
    kinds: dict[str, FieldKind] = {}
    for field in new:
        _check(field)
        _agree(field, kinds.setdefault(field.name, field.kind))
    ensure_tenant(connection, tenant)
    at = now()
    if kinds:
        connection.execute(
            insert_into(connection, FieldRow).on_conflict_do_nothing(),
            [{"tenant_id": tenant, "name": name, "kind": kinds[name], "declared_at": at} for name in sorted(kinds)],
        )
    for known in all_fields(connection):  # of every tenant, since they share payload indexes
        _agree(Field(known.name, kinds.get(known.name, known.kind)), known.kind)
    return fields(connection, tenant)


def _check(field: Field) -> None:
    if field.name in RESERVED_NAMES:
        msg = f"{field.name!r} is computed from the picture and can't be declared: name the field otherwise"
        raise InvalidInput(msg)
    if not FIELD_NAME.fullmatch(field.name):
        msg = f"{field.name!r} is no field name: write small letters, digits and _, beginning with a letter, at most 63"
        raise InvalidInput(msg)


def _agree(field: Field, known: FieldKind) -> None:
    if field.kind is not known:
        msg = f"field {field.name!r} is declared as {known} already, not {field.kind}: name the new one otherwise"
        raise InvalidInput(msg)
