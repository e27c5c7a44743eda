"""Curators' boards: pictures in an order of one's own, with notes, and links that show them.

Every change takes the board's row first, so that concurrent ones queue up and each of them is whole. Items carry a
place, a number with room to its neighbours: a move writes only what moves, and the board is numbered anew where the
room between two pictures is used up. A deleted asset takes its items along.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, insert, select, update

from phosphene.catalog.database import Database, database_time, in_chunks, now
from phosphene.catalog.ingests import ensure_tenant
from phosphene.catalog.models import AssetRow, CollectionItemRow, CollectionRow, CollectionShareRow
from phosphene.catalog.storable import storable
from phosphene.errors import InvalidCursor, InvalidInput, NotFound, Outdated
from phosphene.types import AssetId, CollectionId, ShareId, TenantId, sha256_of

MAX_ITEMS = 10_000  # pictures on a board
MAX_SHARES = 100  # links to a board
ROOM = 1 << 20  # between two places that are given anew
_TOKEN_BYTES = 32
_NAMED = 3  # ids in a message


@dataclass(frozen=True, slots=True)
class Collection:
    """A board. `etag` changes with all that is seen of it, its pictures' own titles apart."""

    id: CollectionId
    tenant: TenantId
    name: str
    notes: str
    count: int  # pictures on it
    version: int
    created_at: datetime  # UTC
    changed_at: datetime

    @property
    def etag(self) -> str:
        """Name this state: pictures that were deleted leave the version as it was."""
        return f'"{self.version}-{self.count}"'


@dataclass(frozen=True, slots=True)
class CollectionItem:
    """A picture on a board, and what a curator says about it there."""

    asset_id: AssetId
    note: str
    added_at: datetime  # UTC


@dataclass(frozen=True, slots=True)
class Share:
    """A link to a board, without its token: that is told once, when it is made."""

    id: ShareId
    with_notes: bool
    made_at: datetime  # UTC
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Shared:
    """What a token opens, and nothing else of that tenant."""

    tenant: TenantId
    collection: CollectionId
    with_notes: bool


class Collections:
    """Boards of all tenants. Every method is one transaction; those that change take `if_match`, an etag.

    Raises NotFound for a board that is not the tenant's, Outdated where `if_match` names another state.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, tenant: TenantId, name: str, *, notes: str = "", items: Sequence[AssetId] = ()) -> Collection:
        """Make a board with these pictures on it. Raises NotFound for one that is not the tenant's."""
        id_ = CollectionId(uuid4())
        at = now()
        with self._database.writing() as connection:
            ensure_tenant(connection, tenant)
            row = {"id": id_, "tenant_id": tenant, "name": storable(name), "notes": storable(notes), "version": 1}
            connection.execute(insert(CollectionRow), {**row, "created_at": at, "changed_at": at})
            _add(connection, tenant, id_, items, notes="", lower=0, upper=None)
            return _one(connection, tenant, id_)

    def one(self, tenant: TenantId, id_: CollectionId) -> Collection:
        """Fetch a board."""
        with self._database.reading() as connection:
            return _one(connection, tenant, id_)

    def latest(self, tenant: TenantId, *, before: CollectionId | None, limit: int) -> list[Collection]:
        """List boards, the newest first, those older than `before`. Raises NotFound for an unknown one."""
        statement = _collections(tenant).order_by(CollectionRow.created_at.desc(), CollectionRow.id.desc()).limit(limit)
        with self._database.reading() as connection:
            if before is not None:
                start, row = _one(connection, tenant, before), CollectionRow
                same = (row.created_at == start.created_at) & (row.id < start.id)
                statement = statement.where((row.created_at < start.created_at) | same)
            return [_collection(row) for row in connection.execute(statement)]

    def change(
        self,
        tenant: TenantId,
        id_: CollectionId,
        *,
        name: str | None = None,
        notes: str | None = None,
        if_match: str | None = None,
    ) -> Collection:
        """Set name, notes, or both."""
        said = {key: storable(text) for key, text in (("name", name), ("notes", notes)) if text is not None}
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, if_match)
            if said:
                connection.execute(update(CollectionRow).where(CollectionRow.id == id_).values(said))
            return _changed(connection, tenant, id_)

    def delete(self, tenant: TenantId, id_: CollectionId, *, if_match: str | None = None) -> None:
        """Take a board away with its links; its pictures stay in the catalogue."""
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, if_match)
            connection.execute(delete(CollectionRow).where(CollectionRow.id == id_))

    # --- pictures on a board

    def items(
        self, tenant: TenantId, id_: CollectionId, *, after: AssetId | None = None, limit: int = MAX_ITEMS
    ) -> list[CollectionItem]:
        """List the pictures in order, those behind `after`. Raises InvalidCursor where that one has left the board."""
        row = CollectionItemRow
        statement = select(row.asset_id, row.note, row.added_at).where(row.collection_id == id_)
        with self._database.reading() as connection:
            _one(connection, tenant, id_)
            if after is not None:
                place = _place_of(connection, id_, after)
                if place is None:
                    raise InvalidCursor(f"picture {after} has left the board: begin the list again")
                statement = statement.where(row.place > place)
            found = connection.execute(statement.order_by(row.place, row.asset_id).limit(limit))
            return [CollectionItem(AssetId(asset), note, added_at) for asset, note, added_at in found]

    def holds(self, id_: CollectionId, asset: AssetId) -> bool:
        """Tell whether a picture is on a board."""
        with self._database.reading() as connection:
            return _place_of(connection, id_, asset) is not None

    def add(
        self,
        tenant: TenantId,
        id_: CollectionId,
        assets: Sequence[AssetId],
        *,
        note: str = "",
        after: AssetId | None = None,
        first: bool = False,
        if_match: str | None = None,
    ) -> tuple[int, Collection]:
        """Put pictures behind another one, first, or else last; those that are on it stay where they are.

        Tells how many are new. Raises NotFound, and adds none, for a picture that is not the tenant's or an `after`
        that is not on the board; InvalidInput where it would become too large.
        """
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, if_match)
            there = _on_board(connection, id_, assets)
            new = [asset for asset in dict.fromkeys(assets) if asset not in there]
            lower, upper = _between(connection, id_, after, first=first, count=len(new), moving=())
            _add(connection, tenant, id_, new, notes=note, lower=lower, upper=upper)
            return len(new), _changed(connection, tenant, id_) if new else _one(connection, tenant, id_)

    def remove(
        self, tenant: TenantId, id_: CollectionId, assets: Sequence[AssetId], *, if_match: str | None = None
    ) -> tuple[int, Collection]:
        """Take pictures off a board; tells how many were on it."""
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, if_match)
            there = _on_board(connection, id_, assets)
            for chunk in in_chunks(sorted(there)):
                gone = (CollectionItemRow.collection_id == id_) & CollectionItemRow.asset_id.in_(chunk)
                connection.execute(delete(CollectionItemRow).where(gone))
            return len(there), _changed(connection, tenant, id_) if there else _one(connection, tenant, id_)

    def move(
        self,
        tenant: TenantId,
        id_: CollectionId,
        assets: Sequence[AssetId],
        *,
        after: AssetId | None = None,
        first: bool = False,
        if_match: str | None = None,
    ) -> Collection:
        """Put pictures of the board, in the order given, behind another one, first, or else last.

        Raises NotFound for one that is not on the board, InvalidInput for a picture behind itself or one given twice.
        """
        if len(set(assets)) < len(assets):
            raise InvalidInput("a picture is to be moved twice: name each once")
        if after in assets:
            raise InvalidInput(f"picture {after} can't be put behind itself")
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, if_match)
            there = _on_board(connection, id_, assets)
            missing = [asset for asset in assets if asset not in there]
            if missing:
                raise _not_on_board(missing)
            lower, upper = _between(connection, id_, after, first=first, count=len(assets), moving=assets)
            _set_places(connection, id_, list(zip(assets, _places(lower, upper, len(assets)), strict=True)))
            return _changed(connection, tenant, id_)

    def note(
        self, tenant: TenantId, id_: CollectionId, asset: AssetId, note: str, *, if_match: str | None = None
    ) -> Collection:
        """Say something about a picture on a board. Raises NotFound."""
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, if_match)
            this = (CollectionItemRow.collection_id == id_) & (CollectionItemRow.asset_id == asset)
            done = connection.execute(update(CollectionItemRow).where(this).values(note=storable(note)))
            if not done.rowcount:
                raise _not_on_board([asset])
            return _changed(connection, tenant, id_)

    # --- links

    def share(
        self, tenant: TenantId, id_: CollectionId, *, with_notes: bool, expires_in_s: float | None
    ) -> tuple[str, Share]:
        """Make a link: its token, which is told only now, and what is kept of it. Raises InvalidInput: MAX_SHARES."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        at = now()
        expires_at = None if expires_in_s is None else at + timedelta(seconds=expires_in_s)
        made = Share(ShareId(uuid4()), with_notes, at, expires_at)
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, None)
            of_this = select(func.count()).where(CollectionShareRow.collection_id == id_)
            if connection.execute(of_this).scalar_one() >= MAX_SHARES:
                raise InvalidInput(f"{MAX_SHARES} links show this board already: close one first")
            row = {"id": made.id, "collection_id": id_, "token_sha256": sha256_of(token.encode())}
            dated = {"with_notes": with_notes, "made_at": at, "expires_at": expires_at}
            connection.execute(insert(CollectionShareRow), {**row, **dated})
        return token, made

    def shares(self, tenant: TenantId, id_: CollectionId) -> list[Share]:
        """List the links of a board, the latest first; expired ones too."""
        row = CollectionShareRow
        statement = select(row.id, row.with_notes, row.made_at, row.expires_at).where(row.collection_id == id_)
        with self._database.reading() as connection:
            _one(connection, tenant, id_)
            found = connection.execute(statement.order_by(row.made_at.desc(), row.id))
            return [Share(ShareId(share), notes, made, expires) for share, notes, made, expires in found]

    def revoke(self, tenant: TenantId, id_: CollectionId, share: ShareId) -> None:
        """Close a link, from now on. Raises NotFound."""
        row = CollectionShareRow
        with self._database.writing() as connection:
            _hold(connection, tenant, id_, None)
            this = (row.id == share) & (row.collection_id == id_)
            if not connection.execute(delete(row).where(this)).rowcount:
                raise NotFound(f"no link {share} to collection {id_}")

    def opened(self, token: str) -> Shared:
        """Say what a token shows. Raises NotFound for one that never was, is revoked or has expired, all alike."""
        row = CollectionShareRow
        with self._database.reading() as connection:
            statement = (
                select(CollectionRow.tenant_id, CollectionRow.id, row.with_notes)
                .join(row, row.collection_id == CollectionRow.id)
                .where(row.token_sha256 == sha256_of(token.encode("utf-8", "surrogatepass")))
                .where(row.expires_at.is_(None) | (row.expires_at > database_time(connection)))
            )
            found = connection.execute(statement).one_or_none()
        if found is None:
            raise NotFound("this link shows nothing: it was revoked, has expired, or was copied in part")
        return Shared(TenantId(found[0]), CollectionId(found[1]), found[2])


def _collections(tenant: TenantId) -> Select[*tuple[Any, ...]]:
    row = CollectionRow
    items = select(func.count()).where(CollectionItemRow.collection_id == row.id).scalar_subquery()
    columns = (row.id, row.tenant_id, row.name, row.notes, items, row.version, row.created_at, row.changed_at)
    return select(*columns).where(row.tenant_id == tenant)


def _collection(row: Row[*tuple[Any, ...]]) -> Collection:
    return Collection(*row)  # the columns of `_collections` are in its order


def _one(connection: Connection, tenant: TenantId, id_: CollectionId) -> Collection:
    row = connection.execute(_collections(tenant).where(CollectionRow.id == id_)).one_or_none()
    if row is None:
        raise NotFound(f"no collection {id_}")
    return _collection(row)


def _hold(connection: Connection, tenant: TenantId, id_: CollectionId, if_match: str | None) -> None:
    """Let nobody else change the board until this transaction ends, and see that it is what the caller knows."""
    this = (CollectionRow.id == id_) & (CollectionRow.tenant_id == tenant)
    if connection.execute(select(CollectionRow.id).where(this).with_for_update()).one_or_none() is None:
        raise NotFound(f"no collection {id_}")
    if if_match is not None:
        current = _one(connection, tenant, id_).etag
        if current != if_match:
            raise Outdated(f"collection {id_} is at {current} and not at {if_match}: somebody changed it, read it anew")


def _changed(connection: Connection, tenant: TenantId, id_: CollectionId) -> Collection:
    values = {"version": CollectionRow.version + 1, "changed_at": now()}
    connection.execute(update(CollectionRow).where(CollectionRow.id == id_).values(values))
    return _one(connection, tenant, id_)


def _place_of(connection: Connection, id_: CollectionId, asset: AssetId) -> int | None:
    this = (CollectionItemRow.collection_id == id_) & (CollectionItemRow.asset_id == asset)
    return connection.execute(select(CollectionItemRow.place).where(this)).scalar_one_or_none()


def _on_board(connection: Connection, id_: CollectionId, assets: Sequence[AssetId]) -> set[UUID]:
    found: set[UUID] = set()
    for chunk in in_chunks(sorted(set(assets))):
        these = (CollectionItemRow.collection_id == id_) & CollectionItemRow.asset_id.in_(chunk)
        found |= set(connection.execute(select(CollectionItemRow.asset_id).where(these)).scalars())
    return found


def _not_on_board(missing: Sequence[AssetId]) -> NotFound:
    return NotFound(f"not on this board: {', '.join(map(str, missing[:_NAMED]))}{' …' * (len(missing) > _NAMED)}")


def _add(
    connection: Connection,
    tenant: TenantId,
    id_: CollectionId,
    assets: Sequence[AssetId],
    *,
    notes: str,
    lower: int,
    upper: int | None,
) -> None:
    """Write items that are not there yet, between two places."""
    _require_assets(connection, tenant, assets)
    count = connection.execute(select(func.count()).where(CollectionItemRow.collection_id == id_)).scalar_one()
    if count + len(assets) > MAX_ITEMS:
        raise InvalidInput(
            f"a board holds {MAX_ITEMS:,} pictures; {count:,} are on it, so {len(assets):,} more don't fit"
        )
    at, note = now(), storable(notes)
    rows = [
        {"collection_id": id_, "asset_id": asset, "place": place, "note": note, "added_at": at}
        for asset, place in zip(dict.fromkeys(assets), _places(lower, upper, len(set(assets))), strict=True)
    ]
    if rows:
        connection.execute(insert(CollectionItemRow), rows)


def _require_assets(connection: Connection, tenant: TenantId, assets: Sequence[AssetId]) -> None:
    """See that all are the tenant's, and that none is deleted before they are on the board."""
    known: set[UUID] = set()
    for chunk in in_chunks(sorted(set(assets))):
        these = (AssetRow.tenant_id == tenant) & AssetRow.id.in_(chunk)
        statement = select(AssetRow.id).where(these).order_by(AssetRow.id).with_for_update(read=True)
        known |= set(connection.execute(statement).scalars())
    missing = [asset for asset in assets if asset not in known]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise NotFound(f"no asset {', '.join(map(str, missing[:_NAMED]))}{more}: nothing was added")


def _between(
    connection: Connection,
    id_: CollectionId,
    after: AssetId | None,
    *,
    first: bool,
    count: int,
    moving: Sequence[AssetId],
) -> tuple[int, int | None]:
    """Give the places on both sides of a gap with room for so many; None: nothing comes behind."""
    for _ in range(2):
        lower, upper = _neighbours(connection, id_, after, first=first, moving=moving)
        if upper is None or upper - lower > count:
            return lower, upper
        _number_anew(connection, id_, room=max(ROOM, count + 1))
    raise AssertionError("a board that was numbered anew has room")


def _neighbours(
    connection: Connection, id_: CollectionId, after: AssetId | None, *, first: bool, moving: Sequence[AssetId]
) -> tuple[int, int | None]:
    row = CollectionItemRow
    resting = (row.collection_id == id_) & row.asset_id.not_in(moving)
    if after is not None:
        place = _place_of(connection, id_, after)
        if place is None:
            raise _not_on_board([after])
        behind = select(func.min(row.place)).where(resting, row.place > place)
        return place, connection.execute(behind).scalar_one()
    ends = connection.execute(select(func.min(row.place), func.max(row.place)).where(resting)).one()
    lowest: int | None = ends[0]
    if lowest is None:
        return 0, None
    return (lowest - ROOM * (MAX_ITEMS + 1), lowest) if first else (ends[1], None)


def _places(lower: int, upper: int | None, count: int) -> list[int]:
    """Spread so many places between two, both left out; there is room."""
    if upper is None:
        return [lower + ROOM * (at + 1) for at in range(count)]
    step = (upper - lower) // (count + 1)
    return [lower + step * (at + 1) for at in range(count)]


def _number_anew(connection: Connection, id_: CollectionId, *, room: int) -> None:
    row = CollectionItemRow
    statement = select(row.asset_id).where(row.collection_id == id_).order_by(row.place, row.asset_id)
    ordered = [AssetId(asset) for asset in connection.execute(statement).scalars()]
    _set_places(connection, id_, [(asset, room * (at + 1)) for at, asset in enumerate(ordered)])


def _set_places(connection: Connection, id_: CollectionId, places: Sequence[tuple[AssetId, int]]) -> None:
    if not places:
        return
    this = (CollectionItemRow.collection_id == id_) & (CollectionItemRow.asset_id == bindparam("asset"))
    statement = update(CollectionItemRow).where(this).values(place=bindparam("new_place"))
    connection.execute(statement, [{"asset": asset, "new_place": place} for asset, place in places])
