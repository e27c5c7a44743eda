"""Pictures in: what a batch of them meets in the catalogue, and what it leaves there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, update

from phosphene.catalog import duplicates, ingests, spaces, work
from phosphene.catalog.database import in_chunks, insert_into, now
from phosphene.catalog.ingests import location_id
from phosphene.catalog.models import AssetRow, LocationRow
from phosphene.catalog.records import AssetState, Description, IngestCounts, NewAsset, Outcome, Registered
from phosphene.catalog.storable import metadata_digest, storable, storable_metadata
from phosphene.types import AssetId, IngestId, Metadata, SpaceId, TenantId, asset_id


@dataclass(slots=True)
class _Known:
    """An asset as the batch has left it so far."""

    title: str | None
    metadata: Metadata
    state: str
    generated: bool
    changed: bool = False


@dataclass(slots=True)
class _Batch:
    """What a batch of items meets in the catalogue, and what it leaves there."""

    assets: dict[UUID, _Known]
    added: set[UUID]
    locations: dict[UUID, tuple[UUID, str]]  # -> asset, metadata digest
    left: dict[UUID, UUID] = field(default_factory=dict)  # location -> the asset it showed before
    outcomes: list[Outcome] = field(default_factory=list)


def register(
    connection: Connection, ingest: IngestId | None, tenant: TenantId, space_id: SpaceId, items: Sequence[NewAsset]
) -> list[Registered]:
    """Write pictures, their places and their work; answer in the order of the items.

    The same bytes again change only places, title and metadata: a place that says something new wins; a further place
    that says nothing leaves the metadata alone. Where the space was given up, the work is of the one that answers.
    """
    if not items:
        return []
    spaces.hold_spaces(connection)
    ingests.ensure_tenant(connection, tenant)
    ids: list[UUID] = [asset_id(tenant, item.info.sha256) for item in items]
    places = [location_id(tenant, item.uri) for item in items]
    batch = _Batch(
        added=_insert_assets(connection, tenant, items, ids),
        assets=_lock_assets(connection, ids),
        locations=_known_locations(connection, places),
    )
    renamed = [_renamed(batch, id_, place) for id_, place in zip(ids, places, strict=True)]
    for item, id_, place in zip(items, ids, places, strict=True):
        batch.outcomes.append(_settle(batch, item, id_, place))
    _write_descriptions(connection, batch)
    _write_locations(connection, tenant, items, ids, places)
    duplicates.put_looks(
        connection, tenant, {AssetId(i): one.look for i, one in zip(ids, items, strict=True) if one.look}
    )
    first, *others = spaces.written(connection, space_id)
    waiting = work.queue_missing(connection, first, set(ids), ingest)
    for other in others:  # the model is being changed: counted in the ingest once
        work.queue_missing(connection, other, set(ids), None)
    ingests.resolve_quarantine(connection, tenant, places)
    ingests.add_counts(connection, ingest, _counts(batch.outcomes))
    orphans = _without_location(connection, set(batch.left.values()))
    return [
        Registered(AssetId(id_), outcome, id_ in waiting, _orphan(batch.left.get(place), orphans), also)
        for id_, place, outcome, also in zip(ids, places, batch.outcomes, renamed, strict=True)
    ]


def _renamed(batch: _Batch, id_: UUID, place: UUID) -> tuple[AssetId, ...]:
    """Name the pictures, those added now apart, that get or lose a place."""
    before = batch.locations.get(place)
    if before is not None and before[0] == id_:
        return ()
    ids = [id_] if before is None else [id_, before[0]]
    return tuple(AssetId(one) for one in ids if one not in batch.added)


def _settle(batch: _Batch, item: NewAsset, id_: UUID, place: UUID) -> Outcome:
    """Fold one item into the batch."""
    digest = metadata_digest(item.title, item.metadata)
    before = batch.locations.get(place)
    batch.locations[place] = (id_, digest)
    if before is not None and before[0] != id_:
        batch.left[place] = before[0]
    if id_ in batch.added:
        batch.added.discard(id_)  # a second file of the same bytes in this batch finds it known
        return Outcome.ADDED
    if before == (id_, digest) and not item.generated:
        return Outcome.UNCHANGED
    known = batch.assets[id_]
    newly_generated = item.generated and not known.generated  # once generated, always generated
    known.generated, known.changed = known.generated or item.generated, known.changed or newly_generated
    same_place = before is not None and before[0] == id_
    described = _describe(known, item.title, item.metadata, replace=same_place)
    return Outcome.UPDATED if newly_generated else described


def _describe(known: _Known, title: str | None, metadata: Metadata, *, replace: bool) -> Outcome:
    """Take over what a place says; `replace`: also where it says less than before."""
    title = None if title is None else storable(title)
    metadata = storable_metadata(metadata)
    if not replace and not metadata:
        metadata, title = known.metadata, known.title or title
    elif title is None and not replace:
        title = known.title
    if metadata_digest(title, metadata) == metadata_digest(known.title, known.metadata):  # False == 0 in Python
        return Outcome.UNCHANGED
    known.title, known.metadata, known.changed = title, metadata, True
    return Outcome.UPDATED


def _insert_assets(
    connection: Connection, tenant: TenantId, items: Sequence[NewAsset], ids: Sequence[UUID]
) -> set[UUID]:
    at = now()
    rows = {
        id_: {
            "id": id_,
            "tenant_id": tenant,
            "sha256": item.info.sha256,
            "title": None if item.title is None else storable(item.title),
            "metadata": storable_metadata(item.metadata),
            "width": item.info.width,
            "height": item.info.height,
            "orientation": item.info.orientation,
            "format": item.info.format,
            "bytes": item.info.bytes,
            "phash": item.info.phash,
            "added_at": at,
            "state": AssetState.REGISTERED,
            "generated": item.generated,
            "attributes": None if item.attributes is None else item.attributes.as_json(),
        }
        for id_, item in reversed(list(zip(ids, items, strict=True)))  # the first item of the same bytes wins
    }
    # Ordered by id, as everywhere: two transactions then lock in the same order and can't wait for each other.
    statement = insert_into(connection, AssetRow).on_conflict_do_nothing().returning(AssetRow.id)
    return set(connection.execute(statement, [rows[id_] for id_ in sorted(rows)]).scalars())


def _lock_assets(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, _Known]:
    known: dict[UUID, _Known] = {}
    for chunk in in_chunks(sorted(set(ids))):
        statement = (
            select(AssetRow.id, AssetRow.title, AssetRow.metadata_, AssetRow.state, AssetRow.generated)
            .where(AssetRow.id.in_(chunk))
            .order_by(AssetRow.id)
            .with_for_update()
        )
        known |= {row.id: _Known(row.title, row[2], row.state, row.generated) for row in connection.execute(statement)}
    return known


def _known_locations(connection: Connection, places: Sequence[UUID]) -> dict[UUID, tuple[UUID, str]]:
    known: dict[UUID, tuple[UUID, str]] = {}
    for chunk in in_chunks(sorted(set(places))):
        statement = select(LocationRow.id, LocationRow.asset_id, LocationRow.metadata_digest).where(
            LocationRow.id.in_(chunk)
        )
        known |= {row.id: (row.asset_id, row.metadata_digest) for row in connection.execute(statement)}
    return known


def _write_descriptions(connection: Connection, batch: _Batch) -> None:
    rows = [
        {"the_id": id_, "title": known.title, "metadata": known.metadata, "generated": known.generated}
        for id_, known in sorted(batch.assets.items())
        if known.changed
    ]
    if rows:
        table = AssetRow.__table__
        connection.execute(
            update(AssetRow)
            .where(AssetRow.id == bindparam("the_id"))
            .values(
                {
                    table.c.title: bindparam("title"),
                    table.c.metadata: bindparam("metadata"),
                    table.c.generated: bindparam("generated"),
                }
            ),
            rows,
        )


def _write_locations(
    connection: Connection, tenant: TenantId, items: Sequence[NewAsset], ids: Sequence[UUID], places: Sequence[UUID]
) -> None:
    rows = {
        place: {
            "id": place,
            "tenant_id": tenant,
            "uri": storable(item.uri),
            "asset_id": id_,
            "fingerprint": None if item.fingerprint is None else storable(item.fingerprint),
            "metadata_digest": metadata_digest(item.title, item.metadata),
        }
        for item, id_, place in zip(items, ids, places, strict=True)
    }
    statement = insert_into(connection, LocationRow)
    statement = statement.on_conflict_do_update(
        index_elements=[LocationRow.id],
        set_={name: statement.excluded[name] for name in ("asset_id", "fingerprint", "metadata_digest")},
    )
    connection.execute(statement, [rows[place] for place in sorted(rows)])


def _without_location(connection: Connection, ids: set[UUID]) -> set[UUID]:
    if not ids:
        return set()
    statement = select(LocationRow.asset_id).where(LocationRow.asset_id.in_(ids)).distinct()
    return ids - set(connection.execute(statement).scalars())


def _orphan(left: UUID | None, orphans: set[UUID]) -> AssetId | None:
    return AssetId(left) if left is not None and left in orphans else None


def _counts(outcomes: Sequence[Outcome]) -> IngestCounts:
    return IngestCounts(**{outcome.value: outcomes.count(outcome) for outcome in Outcome})


def describe(
    connection: Connection,
    ingest: IngestId | None,
    tenant: TenantId,
    space_id: SpaceId,
    items: Sequence[Description],
) -> dict[str, Registered]:
    """Change title and metadata by known places, without their bytes; unknown places are left out of the answer."""
    places = {location_id(tenant, item.uri): item for item in items}
    owners = {place: owner for place, (owner, _) in _known_locations(connection, list(places)).items()}
    if not owners:
        return {}
    batch = _Batch(_lock_assets(connection, owners.values()), set(), {})
    answers: dict[str, Registered] = {}
    embedded = set(work.embedded(connection, spaces.written(connection, space_id)[0], list(owners.values())))
    for place, owner in owners.items():
        item = places[place]
        outcome = _describe(batch.assets[owner], item.title, item.metadata, replace=True)
        answers[item.uri] = Registered(AssetId(owner), outcome, owner not in embedded)
    _write_descriptions(connection, batch)
    connection.execute(
        update(LocationRow).where(LocationRow.id == bindparam("place")).values(metadata_digest=bindparam("digest")),
        [
            {"place": place, "digest": metadata_digest(places[place].title, places[place].metadata)}
            for place in sorted(owners)
        ],
    )
    ingests.add_counts(connection, ingest, _counts([answer.outcome for answer in answers.values()]))
    return answers
