"""Jobs of a whole catalogue: leased by one at a time, given back, found again."""

from __future__ import annotations

import pytest

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.jobs import MOST_WAITING
from phosphene.catalog.records import CatalogueJobKind, CatalogueJobState
from phosphene.errors import NotFound, Overloaded
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import TenantId

OTHER = TenantId("other")


def test_one_at_a_time_is_at_a_job_and_what_is_lost_is_found(catalog: Catalog) -> None:
    job = catalog.jobs.add(T, CatalogueJobKind.KEYWORDS, {"words": ["a", "b"], "most": 3})
    assert catalog.jobs.one(T, job.id) == job
    with pytest.raises(NotFound):
        catalog.jobs.one(OTHER, job.id)
    assert catalog.jobs.lost(10, idle_s=60) == []  # somebody was told of it just now
    assert catalog.jobs.lost(10, idle_s=0) == [job.id]

    taken = catalog.jobs.lease(job.id, owner="one", lease_s=60)
    assert taken is not None
    assert (taken.state, taken.attempts, taken.arguments) == (CatalogueJobState.RUNNING, 1, job.arguments)
    assert catalog.jobs.lease(job.id, owner="two", lease_s=60) is None
    assert catalog.jobs.lost(10, idle_s=0) == []
    assert catalog.jobs.renew(job.id, owner="one", lease_s=0)  # and dies
    assert catalog.jobs.lost(10, idle_s=60) == [job.id]
    again = catalog.jobs.lease(job.id, owner="two", lease_s=60)
    assert again is not None
    assert again.attempts == 2
    assert again.started_at == taken.started_at
    assert not catalog.jobs.renew(job.id, owner="one", lease_s=60)
    catalog.jobs.finish(job.id, owner="one", result=None, error="too late")
    assert catalog.jobs.one(T, job.id).state is CatalogueJobState.RUNNING
    catalog.jobs.release(job.id, owner="two")
    assert catalog.jobs.one(T, job.id).state is CatalogueJobState.QUEUED

    assert catalog.jobs.lease(job.id, owner="three", lease_s=60) is not None
    catalog.jobs.finish(job.id, owner="three", result={"pictures": 3}, error=None)
    done = catalog.jobs.one(T, job.id)
    assert (done.state, done.result, done.error) == (CatalogueJobState.FINISHED, {"pictures": 3}, None)
    assert done.finished_at is not None
    assert catalog.jobs.lease(job.id, owner="four", lease_s=60) is None
    assert catalog.jobs.lost(10, idle_s=0) == []


def test_a_tenant_may_have_so_many_jobs_waiting_and_sees_its_own(catalog: Catalog) -> None:
    own = [catalog.jobs.add(T, CatalogueJobKind.DUPLICATES, {}) for _ in range(MOST_WAITING)]
    with pytest.raises(Overloaded):
        catalog.jobs.add(T, CatalogueJobKind.DUPLICATES, {})
    other = catalog.jobs.add(OTHER, CatalogueJobKind.DUPLICATES, {})
    assert {job.id for job in catalog.jobs.latest(T, 100)} == {job.id for job in own}
    assert catalog.jobs.latest(OTHER, 100) == [other]
    assert len(catalog.jobs.latest(T, 5)) == 5
