"""Calibrating over HTTP, and what searches say afterwards."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx2

from phosphene.types import DEFAULT_TENANT
from tests.search_api.served import KEYS, PICTURES, png, serving


def test_calibrating_changes_what_searches_say(data: Path) -> None:
    with serving(data) as served:
        before = served.search(text="a dog")["match"]
        assert before["calibrated"] is False
        assert before["probability"] is None
        assert served.client.get("/v1/calibrations").json() == {"calibrations": [], "failed": []}

        made = served.client.post("/v1/calibrations", json={"false_match_rate": 0.2}, timeout=300)
        assert made.status_code == 200, made.text
        assert made.json()["failed"] == []
        assert [one["modality"] for one in made.json()["calibrations"]] == ["text", "image"]
        listed = served.client.get("/v1/calibrations").json()["calibrations"]
        assert listed == made.json()["calibrations"]
        for one in listed:
            assert one["false_match_rate"] == 0.2
            assert one["assets"] == PICTURES
            assert not one["stale"]
            assert len(one["reliability"]) == 10
            assert one["decision"]["auroc"]["low"] <= one["decision"]["auroc"]["value"] <= 1
            assert set(one["without"]) == {"score", "background", "gaps", "agreement", "filter", "words"}
            at = min(one["roc"], key=lambda point: abs(point["threshold"] - one["threshold"]))
            assert abs(at["false_match_rate"] - 0.2) < 0.05

        text = served.search(text="a dog")["match"]
        image = served.client.post("/v1/search/image", files={"image": ("noise.png", png(7))}).json()["match"]
        for match, calibration in ((text, listed[0]), (image, listed[1])):
            assert match["calibrated"] is True
            assert match["threshold"] == calibration["threshold"]
            assert match["matched"] is (match["probability"] >= match["threshold"])

    with serving(data) as again:  # it was stored
        now = again.search(text="a dog")["match"]
        assert now["calibrated"] is True
        assert abs(now["probability"] - text["probability"]) < 0.001  # words are kept with 16 bits


def test_a_promise_outside_of_0_to_1_is_refused(data: Path) -> None:
    with serving(data) as served:
        for rate in (0, 1, 2, "much"):
            answer = served.client.post("/v1/calibrations", json={"false_match_rate": rate})
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"


def test_golden_queries_are_learned_from_too(data: Path) -> None:
    with serving(data) as served:
        shown = served.search(text="a dog")["hits"]
        golden = [{"query": "a dog", "relevant": {shown[0]["asset_id"]: 1}}]
        made = served.client.post("/v1/calibrations", json={"golden": golden}, timeout=300)
        assert made.status_code == 200, made.text
        assert [one["golden"] for one in made.json()["calibrations"]] == [1, 0]
        unknown = [{"query": "a dog", "relevant": {"no-such-picture.png": 1}}]
        refused = served.client.post("/v1/calibrations", json={"golden": unknown})
        assert refused.status_code == 422
        assert "no-such-picture.png" in refused.json()["detail"]


def test_one_at_a_time(data: Path) -> None:
    with serving(data) as served:
        served.engine._calibrating.acquire()
        answer = served.client.post("/v1/calibrations", json={})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "30"
        assert "under way" in answer.json()["detail"]


def test_a_server_that_is_told_to_stop_answers_instead_of_hanging(data: Path) -> None:
    answers: list[httpx2.Response] = []
    with serving(data) as served:
        asking = threading.Thread(target=lambda: answers.append(served.client.post("/v1/calibrations", json={})))
        asking.start()
        while not served.engine._calibrating.locked():
            time.sleep(0.01)
        told = time.monotonic()
        served.server.should_exit = True
        asking.join(timeout=30)
        assert time.monotonic() - told < 5  # what the server waits for answers under way
        assert served.engine.catalog.calibrations(DEFAULT_TENANT) == []
    assert answers[0].status_code == 503
    assert answers[0].json()["type"] == "urn:phosphene:problem:unavailable"
    assert "shutting down: text and image questions are not calibrated" in answers[0].json()["detail"]
    assert answers[0].headers["retry-after"]


def test_each_tenant_sees_its_own(data: Path) -> None:
    with serving(data, api_keys=KEYS) as served:
        assert served.client.get("/v1/calibrations").status_code == 401
        assert served.client.post("/v1/calibrations", json={}).status_code == 401
        agency = httpx2.Client(base_url=served.url, headers={"X-API-Key": "agency-secret-0123456789"}, timeout=60)
        made = agency.post("/v1/calibrations", json={}).json()  # it has no pictures; the sample is the default tenant's
        agency.close()
        assert made["calibrations"] == []
        assert {one["modality"] for one in made["failed"]} == {"text", "image"}
        assert all("too little to learn from" in one["reason"] for one in made["failed"])
