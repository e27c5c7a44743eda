"""Clusters of near-duplicates as they are shown: with what to keep, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from indexer.duplicates import RULE
from phosphene.assemble import Engine
from phosphene.catalog.duplicates import best, keep_reason
from phosphene.catalog.records import Asset, Pair
from phosphene.types import AssetId, TenantId

MAX_CLUSTERS = 200
MAX_SHOWN = 100  # pictures of a cluster: a thousand blank scans are one
_LOOKED_AT = 1_000  # pictures of a cluster that are compared for the one to keep
Kind = Literal["near", "exact"]
KINDS: tuple[Kind, ...] = ("near", "exact")


@dataclass(frozen=True, slots=True)
class ShownCluster:
    """Pictures that are near-duplicates, or one picture at several places. `count`: of them, shown or not."""

    id: UUID
    kind: Kind
    count: int
    keep: AssetId
    reason: str
    assets: tuple[Asset, ...]  # the one to keep first
    places: Mapping[AssetId, Sequence[str]]  # of those that have any
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class ClusterPage:
    """A page of clusters."""

    clusters: tuple[ShownCluster, ...]
    next_after: UUID | None
    waiting: int  # pictures that were not compared yet


def page_of_clusters(kind: Kind, *, after: UUID | None, limit: int, engine: Engine, tenant: TenantId) -> ClusterPage:
    """List clusters in the order of their ids: of look-alikes, or of the same bytes at several places."""
    known = engine.catalog.duplicates
    if kind == "exact":
        ids = known.several_places(tenant, after=None if after is None else AssetId(after), limit=limit)
        grouped: list[tuple[UUID, tuple[AssetId, ...]]] = [(id_, (id_,)) for id_ in ids]
    else:
        grouped = [(one.id, one.asset_ids) for one in known.clusters(tenant, after=after, limit=limit)]
    shown = [_shown(id_, kind, members, engine=engine, tenant=tenant) for id_, members in grouped]
    with engine.answering() as space:
        waiting = known.count_waiting(tenant, space.space.id, rule=RULE)
    return ClusterPage(
        clusters=tuple(one for one in shown if one is not None),
        next_after=grouped[-1][0] if len(grouped) == limit else None,
        waiting=waiting,
    )


def _shown(
    id_: UUID, kind: Kind, members: Sequence[AssetId], *, engine: Engine, tenant: TenantId
) -> ShownCluster | None:
    assets = list(engine.catalog.assets(tenant, members[:_LOOKED_AT]).values())
    if not assets:  # deleted meanwhile
        return None
    kept = best(assets)
    others = sorted((asset for asset in assets if asset.id != kept.id), key=lambda asset: (asset.added_at, asset.id))
    shown = (kept, *others[: MAX_SHOWN - 1])
    ids = [asset.id for asset in shown]
    return ShownCluster(
        id=id_,
        kind=kind,
        count=len(assets) if len(members) <= _LOOKED_AT else len(members),
        keep=kept.id,
        reason=keep_reason(kept, others) if others else "the same bytes at several places: it is stored once",
        assets=shown,
        places=engine.catalog.places(ids),
        pairs=tuple(engine.catalog.duplicates.pairs(tenant, ids)) if others else (),
    )
