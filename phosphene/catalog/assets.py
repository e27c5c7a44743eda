"""Pictures and their places: reading, changing and deleting them; registering.py brings them in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from phosphene.attributes import Attributes
from phosphene.catalog.database import in_chunks
from phosphene.catalog.ingests import location_id
from phosphene.catalog.models import AssetRow, LocationRow
from phosphene.catalog.records import (
    Asset,
    AssetLabels,
    AssetState,
    Location,
)
from phosphene.errors import NotFound
from phosphene.types import AssetId, Sha256, TenantId

COLUMNS = (
    AssetRow.id,
    AssetRow.tenant_id,
    AssetRow.sha256,
    AssetRow.title,
    AssetRow.metadata_,
    AssetRow.width,
    AssetRow.height,
    AssetRow.orientation,
    AssetRow.format,
    AssetRow.bytes,
    AssetRow.phash,
    AssetRow.added_at,
    AssetRow.state,
    AssetRow.generated,
    AssetRow.attributes,
    AssetRow.labels,
)

_PLACES = 5000  # rows of one select that goes through all places

# Made once, since every search runs it: building it anew took half of the 1 ms for 24 rows.
_BY_IDS = select(*COLUMNS).where(
    AssetRow.id.in_(bindparam("ids", expanding=True)), AssetRow.tenant_id == bindparam("tenant")
)


def _asset(row: Row[*tuple[Any, ...]]) -> Asset:
    # By position: this stands on the way of every hit of every search.
    return Asset(
        id=AssetId(row[0]),
        tenant=TenantId(row[1]),
        sha256=Sha256(row[2]),
        title=row[3],
        metadata=row[4],
        width=row[5],
        height=row[6],
        orientation=row[7],
        format=row[8],
        bytes=row[9],
        phash=row[10],
        added_at=row[11],
        state=AssetState(row[12]),
        generated=row[13],
        attributes=None if row[14] is None else Attributes.of_json(row[14]),
        labels=AssetLabels.from_json(row[15]),
    )


def locations(connection: Connection, tenant: TenantId, uris: Sequence[str]) -> dict[str, Location]:
    """Find those uris that are known."""
    by_place = {location_id(tenant, uri): uri for uri in uris}
    found = {}
    for chunk in in_chunks(list(by_place)):
        statement = (
            select(
                LocationRow.id,
                LocationRow.asset_id,
                LocationRow.fingerprint,
                LocationRow.metadata_digest,
                AssetRow.state,
            )
            .join(AssetRow, AssetRow.id == LocationRow.asset_id)
            .where(LocationRow.id.in_(chunk))
        )
        for place, owner, fingerprint, digest, state in connection.execute(statement):
            uri = by_place[place]
            found[uri] = Location(uri, AssetId(owner), fingerprint, digest, AssetState(state))
    return found


def locations_of(connection: Connection, tenant: TenantId, id_: AssetId) -> list[str]:
    """List the places of a picture, in order."""
    statement = select(LocationRow.uri).where(LocationRow.tenant_id == tenant, LocationRow.asset_id == id_)
    return sorted(connection.execute(statement).scalars())


def places(connection: Connection, ids: Sequence[AssetId]) -> dict[AssetId, tuple[str, ...]]:
    """List the places of each of these pictures, in order; those without any are left out."""
    found: dict[AssetId, list[str]] = {}
    for chunk in in_chunks(ids):
        statement = select(LocationRow.asset_id, LocationRow.uri).where(LocationRow.asset_id.in_(chunk))
        for owner, uri in connection.execute(statement):
            found.setdefault(AssetId(owner), []).append(uri)
    return {id_: tuple(sorted(uris)) for id_, uris in found.items()}


def named(connection: Connection, tenant: TenantId, names: Collection[str]) -> dict[str, set[AssetId]]:
    """Find pictures by file name, or by more of the end of their place; names of nothing are left out.

    Goes through all places of the tenant once, page by page.
    """
    found: dict[str, set[AssetId]] = {}
    by_file: dict[str, list[str]] = {}
    for name in names:
        by_file.setdefault(_file_of(name), []).append(name)
    statement = select(LocationRow.id, LocationRow.uri, LocationRow.asset_id).where(LocationRow.tenant_id == tenant)
    statement = statement.order_by(LocationRow.id).limit(_PLACES)
    after: UUID | None = None
    while by_file:
        rows = connection.execute(statement if after is None else statement.where(LocationRow.id > after)).all()
        for _, uri, owner in rows:
            for name in by_file.get(_file_of(uri), ()):
                if uri == name or uri.endswith((f"/{name}", f"::{name}")):
                    found.setdefault(name, set()).add(AssetId(owner))
        if len(rows) < _PLACES:
            break
        after = rows[-1][0]
    return found


def _file_of(uri: str) -> str:
    return uri.rpartition("/")[2].rpartition("::")[2]


def assets(connection: Connection, tenant: TenantId, ids: Sequence[AssetId]) -> dict[AssetId, Asset]:
    """Fetch those pictures of a tenant that exist."""
    found: dict[AssetId, Asset] = {}
    for chunk in in_chunks(ids):
        rows = connection.execute(_BY_IDS, {"ids": chunk, "tenant": tenant})
        found |= {row[0]: _asset(row) for row in rows}
    return found


def asset(connection: Connection, tenant: TenantId, id_: AssetId) -> Asset:
    """Fetch one picture. Raises NotFound."""
    found = assets(connection, tenant, [id_]).get(id_)
    if found is None:
        msg = f"no asset {id_}"
        raise NotFound(msg)
    return found


def change(connection: Connection, tenant: TenantId, id_: AssetId, changes: dict[str, Any]) -> Asset:
    """Set columns of one picture. Raises NotFound."""
    if changes:
        table = AssetRow.__table__
        connection.execute(
            update(AssetRow)
            .where(AssetRow.id == id_, AssetRow.tenant_id == tenant)
            .values({table.c[name]: value for name, value in changes.items()})
        )
    return asset(connection, tenant, id_)


def set_attributes(connection: Connection, tenant: TenantId, told: Mapping[AssetId, Attributes]) -> None:
    """Write what was told from the pixels; unknown ids are ignored."""
    rows = [{"the_id": id_, "attributes": told[id_].as_json()} for id_ in sorted(told)]
    if rows:
        table = AssetRow.__table__
        connection.execute(
            update(AssetRow)
            .where(AssetRow.id == bindparam("the_id"), AssetRow.tenant_id == tenant)
            .values({table.c.attributes: bindparam("attributes")}),
            rows,
        )


def remove(connection: Connection, tenant: TenantId, id_: AssetId) -> Asset:
    """Delete a picture with its places, work and embeddings; give what it was. Raises NotFound."""
    gone = asset(connection, tenant, id_)
    connection.execute(delete(AssetRow).where(AssetRow.id == id_, AssetRow.tenant_id == tenant))
    return gone


def page(connection: Connection, tenant: TenantId | None, after: AssetId | None, limit: int) -> list[Asset]:
    """List pictures in the order of their ids, those greater than `after`."""
    statement = select(*COLUMNS).order_by(AssetRow.id).limit(limit)
    if tenant is not None:
        statement = statement.where(AssetRow.tenant_id == tenant)
    if after is not None:
        statement = statement.where(AssetRow.id > after)
    return [_asset(row) for row in connection.execute(statement)]


def count(connection: Connection, tenant: TenantId | None, state: AssetState | None) -> int:
    """Count pictures of a tenant, or of all."""
    statement = select(func.count()).select_from(AssetRow)
    if tenant is not None:
        statement = statement.where(AssetRow.tenant_id == tenant)
    if state is not None:
        statement = statement.where(AssetRow.state == state)
    return connection.execute(statement).scalar_one()


def holders_of(connection: Connection, sha256: Sha256) -> int:
    """Count pictures of these bytes, of any tenant."""
    statement = select(func.count()).select_from(AssetRow).where(AssetRow.sha256 == sha256)
    return connection.execute(statement).scalar_one()
