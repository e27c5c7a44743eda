"""The health check of a worker's container, on a real Redis."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from phosphene.errors import InvalidSettings, Unavailable
from tests.services import free_port
from tests.workers.conftest import Cluster, eventually
from workers.ping import ping


def test_a_worker_answers_and_one_that_is_gone_does_not(cluster: Cluster) -> None:
    with pytest.raises(Unavailable, match=r"no worker on .* answered"):
        ping(cluster.settings())
    worker = cluster.launch("--queues", "maintenance")

    def answers() -> bool:
        try:
            return [str(worker.process.pid) in name for name in ping(cluster.settings())] == [True]
        except Unavailable:
            return False

    eventually("the worker answers", answers, output=worker.output)
    worker.stop()
    with pytest.raises(Unavailable, match=r"no worker on .* answered"):
        ping(cluster.settings())


def test_a_broker_that_is_away_is_named(cluster: Cluster) -> None:
    away = cluster.settings().model_copy(update={"broker_url": None})
    with pytest.raises(InvalidSettings, match="PHOSPHENE_BROKER_URL"):
        ping(away)
    url = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(Unavailable, match=r"the broker redis://127.0.0.1"):
        ping(cluster.settings().model_copy(update={"broker_url": SecretStr(url)}))
