"""Boards as they are asked for over HTTP and on the command line: each function is one request."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from phosphene.assemble import Engine
from phosphene.filters import Filter
from phosphene.types import AssetId, CollectionId, ShareId, TenantId
from search_api.fitting import more_for, outliers_of
from search_api.schemas.collections import (
    CollectionChange,
    CollectionList,
    CollectionOut,
    CollectionRequest,
    ItemOut,
    ItemPage,
    ItemsChanged,
    ItemsRequest,
    MoreOut,
    MoveRequest,
    OutliersOut,
    ShareList,
    ShareOut,
    ShareRequest,
)

_DAY_S = 86_400


class Boards:
    """The boards of one tenant. Raises NotFound, InvalidInput, and Outdated where `if_match` names an older state."""

    def __init__(self, engine: Engine, tenant: TenantId) -> None:
        self._engine, self._tenant = engine, tenant
        self._kept = engine.catalog.collections

    def create(self, body: CollectionRequest) -> CollectionOut:
        """Make a board."""
        items = _assets(body.asset_ids)
        return CollectionOut.of(self._kept.create(self._tenant, body.name.strip(), notes=body.notes, items=items))

    def latest(self, *, before: UUID | None = None, limit: int = 24) -> CollectionList:
        """List boards, the newest first."""
        start = None if before is None else CollectionId(before)
        found = [CollectionOut.of(one) for one in self._kept.latest(self._tenant, before=start, limit=limit + 1)]
        return CollectionList(collections=found[:limit], next_before=found[limit - 1].id if found[limit:] else None)

    def read(self, board: UUID) -> CollectionOut:
        """Give what is known of a board, its pictures apart."""
        return CollectionOut.of(self._kept.one(self._tenant, CollectionId(board)))

    def change(self, board: UUID, body: CollectionChange, *, if_match: str | None = None) -> CollectionOut:
        """Set name or notes."""
        name = None if body.name is None else body.name.strip()
        id_ = CollectionId(board)
        return CollectionOut.of(self._kept.change(self._tenant, id_, name=name, notes=body.notes, if_match=if_match))

    def delete(self, board: UUID, *, if_match: str | None = None) -> None:
        """Take a board away."""
        self._kept.delete(self._tenant, CollectionId(board), if_match=if_match)

    def items(self, board: UUID, *, after: UUID | None = None, limit: int = 100) -> ItemPage:
        """Give some of a board's pictures, in its order."""
        id_ = CollectionId(board)
        start = None if after is None else AssetId(after)
        found = self._kept.items(self._tenant, id_, after=start, limit=limit + 1)
        assets = self._engine.catalog.assets(self._tenant, [item.asset_id for item in found[:limit]])
        shown = [ItemOut.on_board(item, assets[item.asset_id]) for item in found[:limit] if item.asset_id in assets]
        next_after = found[limit - 1].asset_id if len(found) > limit else None
        return ItemPage(collection=self.read(board), items=shown, next_after=next_after)

    def add(self, board: UUID, body: ItemsRequest, *, if_match: str | None = None) -> ItemsChanged:
        """Put pictures on a board."""
        added, now = self._kept.add(
            self._tenant,
            CollectionId(board),
            _assets(body.asset_ids),
            note=body.note,
            after=None if body.after is None else AssetId(body.after),
            first=body.first,
            if_match=if_match,
        )
        return ItemsChanged(changed=added, collection=CollectionOut.of(now))

    def move(self, board: UUID, body: MoveRequest, *, if_match: str | None = None) -> CollectionOut:
        """Put pictures of a board elsewhere in its order."""
        after = None if body.after is None else AssetId(body.after)
        ids = _assets(body.asset_ids)
        return CollectionOut.of(
            self._kept.move(self._tenant, CollectionId(board), ids, after=after, first=body.first, if_match=if_match)
        )

    def remove(self, board: UUID, pictures: Sequence[UUID], *, if_match: str | None = None) -> ItemsChanged:
        """Take pictures off a board."""
        id_ = CollectionId(board)
        removed, now = self._kept.remove(self._tenant, id_, _assets(pictures), if_match=if_match)
        return ItemsChanged(changed=removed, collection=CollectionOut.of(now))

    def note(self, board: UUID, picture: UUID, note: str, *, if_match: str | None = None) -> CollectionOut:
        """Say something about a picture on a board."""
        id_ = CollectionId(board)
        return CollectionOut.of(self._kept.note(self._tenant, id_, AssetId(picture), note, if_match=if_match))

    def share(self, board: UUID, body: ShareRequest) -> ShareOut:
        """Make a link."""
        lasts_s = None if body.expires_in_days is None else body.expires_in_days * _DAY_S
        id_ = CollectionId(board)
        token, made = self._kept.share(self._tenant, id_, with_notes=body.with_notes, expires_in_s=lasts_s)
        return ShareOut.of(made, token)

    def shares(self, board: UUID) -> ShareList:
        """List the links of a board."""
        return ShareList(shares=[ShareOut.of(one) for one in self._kept.shares(self._tenant, CollectionId(board))])

    def revoke(self, board: UUID, share: UUID) -> None:
        """Close a link."""
        self._kept.revoke(self._tenant, CollectionId(board), ShareId(share))

    def more(
        self, board: UUID, *, filter_: Filter | None = None, limit: int = 24, cursor: str | None = None
    ) -> MoreOut:
        """Find pictures that fit."""
        id_, engine, tenant = CollectionId(board), self._engine, self._tenant
        return MoreOut.of(more_for(id_, limit=limit, filter_=filter_, engine=engine, tenant=tenant, cursor=cursor))

    def outliers(self, board: UUID, *, limit: int = 10) -> OutliersOut:
        """Find pictures that don't."""
        return OutliersOut.of(outliers_of(CollectionId(board), limit=limit, engine=self._engine, tenant=self._tenant))


def _assets(ids: Sequence[UUID]) -> list[AssetId]:
    return [AssetId(id_) for id_ in ids]
