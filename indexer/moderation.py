"""Pictures that somebody should look at: flagged by the concepts of the guard rails, decided by people.

A decision stands: later scans leave the picture alone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from indexer.embedding import renew_payloads
from indexer.walking import vectors
from phosphene.assemble import Engine
from phosphene.catalog.records import Asset
from phosphene.errors import InvalidInput
from phosphene.filters import Equals, tenant_filter
from phosphene.jobs import show_life
from phosphene.types import AssetId, TenantId
from phosphene.vectors.base import VectorQuery, asset_of

FLAGGED, APPROVED, REJECTED = "flagged", "approved", "rejected"
STATES = (FLAGGED, APPROVED, REJECTED)
MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Scanned:
    """What became of a scan."""

    pictures: int
    flagged: int  # that wait for a decision now
    stopped: bool


def scan(*, min_score: float, engine: Engine, tenant: TenantId, stop: threading.Event | None = None) -> Scanned:
    """Flag pictures whose score against the blocked concepts is this high; those decided before stay as they are."""
    seen = flagged = 0
    with engine.answering() as space:
        for assets, rows in vectors(tenant, space, engine=engine):
            show_life()
            said: dict[AssetId, Mapping[str, object] | None] = {}
            for asset, judged in zip(assets, space.guard.judge_pictures(rows), strict=True):
                if asset.labels.moderation.get("state") in {APPROVED, REJECTED}:
                    continue
                high = judged.score >= min_score
                flagged += high
                found = {"state": FLAGGED, "concept": judged.concept, "score": round(judged.score, 3)}
                said[asset.id] = found if high else None
            seen += len(assets)
            changed = engine.catalog.labels.flag(tenant, said)
            renew_payloads(engine, dict.fromkeys(changed, tenant), engine.written())
            if stop is not None and stop.is_set():
                return Scanned(seen, flagged, stopped=True)
    return Scanned(seen, flagged, stopped=False)


def listed(state: str, *, engine: Engine, tenant: TenantId) -> list[Asset]:
    """List up to MOST_LISTED pictures in a state, the highest score first. Raises InvalidInput."""
    if state not in STATES:
        raise InvalidInput(f"there is no state {state[:40]!r}: {', '.join(STATES)}")
    with engine.answering() as space:
        start = np.zeros(space.space.dimension, dtype=np.float32)
        start[0] = 1  # all that the filter leaves come, in whatever order
        asked = VectorQuery(start, MOST_LISTED, tenant_filter(tenant, Equals("moderation", state)), exact=True)
        ids = [asset_of(point) for point in space.index.query([asked])[0]]
    assets = engine.catalog.assets(tenant, ids).values()
    found = [asset for asset in assets if asset.labels.moderation.get("state") == state]  # a point may lag behind
    return sorted(found, key=lambda asset: (-float(asset.labels.moderation.get("score", 0)), asset.id))


def decide(id_: AssetId, state: str, *, by: str, engine: Engine, tenant: TenantId) -> Asset:
    """Note who approved or rejected a picture, and when. Raises NotFound, InvalidInput where it was never flagged."""
    asset = engine.catalog.asset(tenant, id_)
    if not asset.labels.moderation:
        raise InvalidInput(f"asset {id_} was never flagged: there is nothing to decide")
    decided = {**asset.labels.moderation, "state": state, "by": by, "at": datetime.now(UTC).isoformat()}
    engine.catalog.labels.change(tenant, {id_: {"moderation": decided}})
    renew_payloads(engine, {id_: tenant}, engine.written())
    return engine.catalog.asset(tenant, id_)
