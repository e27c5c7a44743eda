"""Jobs of a whole catalogue: begun over HTTP, done in the background, taken up again, and told of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from indexer.catalogue_jobs import MAX_ATTEMPTS, resume_jobs, run_job
from phosphene.catalog.jobs import MOST_WAITING
from phosphene.catalog.records import CatalogueJobKind
from phosphene.types import DEFAULT_TENANT, TenantId
from tests.search_api.served import Served, serving

T = DEFAULT_TENANT


def ended(served: Served, job: dict[str, Any]) -> dict[str, Any]:
    for _ in range(600):
        now: dict[str, Any] = served.client.get(f"/v1/jobs/{job['id']}").json()
        if now["state"] not in {"queued", "running"}:
            return now
        time.sleep(0.1)
    raise AssertionError(now)


def test_each_kind_is_done_in_the_background_and_does_what_its_request_does(data: Path) -> None:
    with serving(data, blocked_concepts=("fruit",)) as served:
        client = served.client
        client.post(
            "/v1/probes", json={"name": "food", "where": {"field": "category", "equals": "food"}}
        ).raise_for_status()
        bodies: list[dict[str, Any]] = [
            {"kind": "keywords", "min_probability": 0.2},
            {"kind": "probe", "name": "food"},
            {"kind": "moderation", "min_score": 0.4},
            {"kind": "duplicates"},
        ]
        begun = []
        for body in bodies:
            response = client.post("/v1/jobs", json=body)
            assert response.status_code == 202, response.text
            begun.append(response.json())
            assert response.headers["Location"] == f"/v1/jobs/{begun[-1]['id']}"
        keywords, probe, scan, duplicates = [ended(served, job) for job in begun]
        assert [job["state"] for job in (keywords, probe, scan, duplicates)] == ["finished"] * 4
        assert keywords["result"]["pictures"] == probe["result"]["pictures"] == scan["result"]["pictures"] == 150
        for field, value, count in (
            ("probe_labels", "food", probe["result"]["labelled"]),
            ("moderation", "flagged", scan["result"]["flagged"]),
        ):
            found = served.search(text="x", filter={"field": field, "equals": value}, limit=100)["hits"]
            assert len(found) == count > 0
        carry = served.search(text="x", filter={"field": "auto_keywords", "exists": True}, limit=100)["hits"]
        assert len(carry) == min(100, keywords["result"]["with_keywords"])
        assert client.get("/v1/duplicates").json()["waiting"] == 0
        listed = client.get("/v1/jobs").json()["jobs"]
        assert [job["id"] for job in listed] == [job["id"] for job in reversed(begun)]

        for body, status in (
            ({"kind": "odd"}, 422),
            ({"kind": "probe"}, 422),
            ({"kind": "probe", "name": "unknown"}, 404),
            ({"kind": "keywords", "min_probability": 2}, 422),
            ({"kind": "duplicates", "name": "x"}, 422),
        ):
            assert client.post("/v1/jobs", json=body).status_code == status, body
        assert client.get(f"/v1/jobs/{uuid4()}").status_code == 404
        _what_a_dead_process_left_is_taken_up(served)


def _what_a_dead_process_left_is_taken_up(served: Served) -> None:
    engine, kept = served.engine, served.engine.catalog.jobs
    left = kept.add(T, CatalogueJobKind.MODERATION, {"min_score": 1.0})
    assert kept.lease(left.id, owner="dead", lease_s=0) is not None  # and its process died
    assert resume_jobs(engine=engine, jobs=None) == 1
    done = served.client.get(f"/v1/jobs/{left.id}").json()
    assert (done["state"], done["result"]) == ("finished", {"pictures": 150, "flagged": 0})
    assert resume_jobs(engine=engine, jobs=None) == 0

    gone = kept.add(T, CatalogueJobKind.PROBE, {"name": "deleted meanwhile"})
    run_job(gone.id, engine=engine)
    failed = served.client.get(f"/v1/jobs/{gone.id}").json()
    assert failed["state"] == "failed"
    assert "deleted meanwhile" in failed["error"]

    deadly = kept.add(T, CatalogueJobKind.DUPLICATES, {})
    for _ in range(MAX_ATTEMPTS):
        assert kept.lease(deadly.id, owner="dead", lease_s=0) is not None
    run_job(deadly.id, engine=engine)
    assert "given up" in served.client.get(f"/v1/jobs/{deadly.id}").json()["error"]

    others = kept.add(TenantId("other"), CatalogueJobKind.DUPLICATES, {})
    assert served.client.get(f"/v1/jobs/{others.id}").status_code == 404
    assert UUID(served.client.get("/v1/jobs").json()["jobs"][0]["id"]) == deadly.id
    for _ in range(MOST_WAITING - 1):
        kept.add(TenantId("other"), CatalogueJobKind.DUPLICATES, {})
    for _ in range(MOST_WAITING):
        kept.add(T, CatalogueJobKind.DUPLICATES, {})
    refused = served.client.post("/v1/jobs", json={"kind": "duplicates"})
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
