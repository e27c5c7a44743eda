"""When more pictures wait for workers than may: who brings one is asked to come again, who brings many lends a hand."""

from __future__ import annotations

from phosphene.assemble import Engine
from phosphene.errors import Overloaded
from phosphene.jobs import Jobs, LocalJobs

RETRY_AFTER_S = 10.0


def is_full(engine: Engine) -> bool:
    """Tell whether as many pictures wait for their embedding as may."""
    most = engine.settings.max_waiting
    return engine.catalog.pending_work(engine.encoder.space.id, at_most=most) >= most


def refuse_when_full(engine: Engine, jobs: Jobs) -> None:
    """Raise Overloaded while there is no room for one more picture; where it is embedded at once there always is."""
    if not isinstance(jobs, LocalJobs) and is_full(engine):
        message = f"{engine.settings.max_waiting} pictures are waiting for workers already: try again later"
        raise Overloaded(message, retry_after_s=RETRY_AFTER_S)
