"""Moderation as it is asked for, over HTTP and on the command line. Knows nothing of FastAPI."""

from __future__ import annotations

import threading
from uuid import UUID

from indexer import moderation
from indexer.new_labels import policy_of
from phosphene.assemble import Engine
from phosphene.errors import Unavailable
from phosphene.moderation import APPROVED, REJECTED, Policy
from phosphene.types import AssetId, TenantId
from search_api.schemas.moderation import (
    DecisionRequest,
    ModeratedOut,
    ModerationList,
    PolicyBody,
    ScanOut,
    ScanRequest,
    State,
)


class Moderation:
    """The review queue of a tenant."""

    def __init__(self, engine: Engine, tenant: TenantId, *, stop: threading.Event | None = None) -> None:
        self._engine, self._tenant, self._stop = engine, tenant, stop

    def policy(self) -> PolicyBody:
        """Say what is flagged."""
        return PolicyBody.of(policy_of(self._tenant, engine=self._engine) or Policy())

    def set_policy(self, body: PolicyBody) -> PolicyBody:
        """Flag this from now on. Raises InvalidInput."""
        return PolicyBody.of(moderation.keep_policy(body.to_policy(), engine=self._engine, tenant=self._tenant))

    def scan(self, body: ScanRequest) -> ScanOut:
        """Look at all pictures. Raises Unavailable where it was stopped."""
        done = moderation.scan(min_score=body.min_score, engine=self._engine, tenant=self._tenant, stop=self._stop)
        if done.stopped:
            raise Unavailable(f"the server is shutting down: {done.pictures} pictures are done; ask again")
        return ScanOut(pictures=done.pictures, flagged=done.flagged)

    def listed(self, state: State) -> ModerationList:
        """List pictures in a state, the highest score first."""
        found = moderation.listed(state, engine=self._engine, tenant=self._tenant)
        return ModerationList.of(found, moderation.calibrations(engine=self._engine, tenant=self._tenant))

    def decide(self, asset: UUID, body: DecisionRequest) -> ModeratedOut:
        """Approve or reject a picture. Raises NotFound, InvalidInput."""
        state = APPROVED if body.decision == "approve" else REJECTED
        done = moderation.decide(AssetId(asset), state, by=body.by, engine=self._engine, tenant=self._tenant)
        return ModeratedOut.of(done, moderation.calibrations(engine=self._engine, tenant=self._tenant))
