"""Pictures that somebody should look at: flagged by concepts, decided by people.

A decision stands: later scans leave the picture alone.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from indexer.embedding import renew_payloads
from indexer.new_labels import policy_of
from indexer.walking import vectors
from phosphene.assemble import Engine
from phosphene.catalog.records import Asset
from phosphene.errors import InvalidInput
from phosphene.filters import AnyOf, tenant_filter
from phosphene.life import show_life
from phosphene.moderation import (
    DECIDED,
    REJECTED,
    STATES,
    Policy,
    ScoreCalibration,
    calibrate_scores,
    flags,
    judge,
)
from phosphene.types import AssetId, TenantId
from phosphene.vectors.base import VectorQuery, asset_of

MOST_LISTED = 1000
MOST_LEARNED = 4000  # decisions


@dataclass(frozen=True, slots=True)
class Scanned:
    """What became of a scan."""

    pictures: int
    flagged: int  # that wait for a decision now
    stopped: bool


def keep_policy(policy: Policy, *, engine: Engine, tenant: TenantId) -> Policy:
    """Flag by this from now on; what is flagged already stays until the next scan. Raises InvalidInput."""
    kept = policy.checked()
    with engine.answering() as space:
        engine.catalog.record_space(space.space)
        engine.catalog.labels.store_model(tenant, kept.model(space.space.id, datetime.now(UTC)))
    return kept


def scan(
    *, min_score: float | None = None, engine: Engine, tenant: TenantId, stop: threading.Event | None = None
) -> Scanned:
    """Flag pictures whose score is this high, or as high as the tenant's policy says; what was decided stays."""
    policy = policy_of(tenant, engine=engine) or Policy()
    least = policy.min_score if min_score is None else min_score
    seen = flagged = 0
    with engine.answering() as space:
        for assets, rows in vectors(tenant, space, engine=engine):
            show_life()
            judged = judge(rows, policy, guard=space.guard, labeller=space.labeller)
            said = flags([asset.id for asset in assets], judged, min_score=least, space_id=space.space.id)
            decided = {asset.id for asset in assets if asset.labels.moderation.get("state") in DECIDED}
            seen += len(assets)
            flagged += sum(one is not None and id_ not in decided for id_, one in said.items())
            changed = engine.catalog.labels.flag(tenant, said)
            renew_payloads(engine, dict.fromkeys(changed, tenant), engine.written())
            if stop is not None and stop.is_set():
                return Scanned(seen, flagged, stopped=True)
    return Scanned(seen, flagged, stopped=False)


def listed(state: str, *, engine: Engine, tenant: TenantId) -> list[Asset]:
    """List up to MOST_LISTED pictures in a state, the highest score first. Raises InvalidInput."""
    if state not in STATES:
        raise InvalidInput(f"there is no state {state[:40]!r}: {', '.join(STATES)}")
    found = _in_states((state,), engine=engine, tenant=tenant, most=MOST_LISTED)
    return sorted(found, key=lambda asset: (-float(asset.labels.moderation.get("score", 0)), asset.id))


def calibrations(*, engine: Engine, tenant: TenantId) -> dict[str, ScoreCalibration]:
    """Learn from what people decided what scores of the space that answers mean, for concepts with enough decisions."""
    with engine.answering() as space:
        now = space.space.id
    said = [one.labels.moderation for one in _in_states(DECIDED, engine=engine, tenant=tenant, most=MOST_LEARNED)]
    return calibrate_scores(
        (str(one["concept"]), float(one["score"]), one["state"] == REJECTED) for one in said if one.get("space") == now
    )


def _in_states(states: tuple[str, ...], *, engine: Engine, tenant: TenantId, most: int) -> list[Asset]:
    with engine.answering() as space:
        start = np.zeros(space.space.dimension, dtype=np.float32)
        start[0] = 1  # all that the filter leaves come, in whatever order
        asked = VectorQuery(start, most, tenant_filter(tenant, AnyOf("moderation", states)), exact=True)
        ids = [asset_of(point) for point in space.index.query([asked])[0]]
    found = engine.catalog.assets(tenant, ids).values()
    return [asset for asset in found if asset.labels.moderation.get("state") in states]  # a point may lag behind


def decide(id_: AssetId, state: str, *, by: str, engine: Engine, tenant: TenantId) -> Asset:
    """Note who approved or rejected a picture, and when. Raises NotFound, InvalidInput where it was never flagged."""
    asset = engine.catalog.asset(tenant, id_)
    if not asset.labels.moderation:
        raise InvalidInput(f"asset {id_} was never flagged: there is nothing to decide")
    decided = {**asset.labels.moderation, "state": state, "by": by, "at": datetime.now(UTC).isoformat()}
    engine.catalog.labels.change(tenant, {id_: {"moderation": decided}})
    renew_payloads(engine, {id_: tenant}, engine.written())
    return engine.catalog.asset(tenant, id_)
