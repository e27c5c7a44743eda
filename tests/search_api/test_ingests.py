from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.search_api.served import Served, png, serving


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "data") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.png").write_bytes(png(seed))
        (folder / f"{seed}.json").write_text(json.dumps({"title": f"Noise {seed}", "year": 2000 + seed}))
    (folder / "broken.jpg").write_bytes(b"no picture at all")
    (folder / "empty.png").write_bytes(b"")
    return folder


def start(served: Served, folder: Path) -> dict[str, Any]:
    response = served.client.post("/v1/ingests", headers=served.local, json={"sources": [str(folder)]})
    assert response.status_code == 202, response.text
    ingest: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/ingests/{ingest['id']}"
    return ingest


def finished(served: Served, ingest: dict[str, Any]) -> dict[str, Any]:
    for _ in range(600):
        now: dict[str, Any] = served.client.get(f"/v1/ingests/{ingest['id']}").json()
        if now["state"] != "running":
            return now
        time.sleep(0.1)
    raise AssertionError(now)


def test_a_folder_comes_in_and_is_searchable(empty: Served, folder: Path) -> None:
    nothing = empty.search(text="anything")
    assert (nothing["hits"], nothing["next_cursor"]) == ([], None)
    done = finished(empty, start(empty, folder))
    assert done["state"] == "finished"
    assert done["counts"] == {"added": 6, "unchanged": 0, "updated": 0, "quarantined": 2}
    assert done["finished_at"] >= done["started_at"]
    hits = empty.search(text="noise", filter={"field": "year", "gte": 2003})["hits"]
    assert {hit["title"] for hit in hits} == {"Noise 3", "Noise 4", "Noise 5"}

    again = finished(empty, start(empty, folder))
    assert again["counts"]["added"] == 0
    assert again["counts"]["unchanged"] == 6
    listed = empty.client.get("/v1/ingests").json()["ingests"]
    assert [one["id"] for one in listed] == [again["id"], done["id"]]


def test_what_could_not_be_used_is_listed_with_its_reason(empty: Served, folder: Path) -> None:
    done = finished(empty, start(empty, folder))
    path = f"/v1/ingests/{done['id']}/quarantine"
    entries = empty.client.get(path).json()["entries"]
    faults = {entry["uri"].rpartition("/")[2]: entry["fault"] for entry in entries}
    assert faults == {"broken.jpg": "not_a_picture", "empty.png": "empty"}
    first = empty.client.get(path, params={"limit": 1}).json()
    second = empty.client.get(path, params={"limit": 1, "after": first["next_after"]}).json()
    assert first["entries"] + second["entries"] == entries
    assert second["next_after"] is None

    (folder / "empty.png").write_bytes(png(99))
    finished(empty, start(empty, folder))
    left = empty.client.get("/v1/quarantine").json()["entries"]
    assert [entry["fault"] for entry in left] == ["not_a_picture"]


def test_events_follow_an_ingest_to_its_end(empty: Served, folder: Path) -> None:
    ingest = start(empty, folder)
    events = []
    with empty.client.stream("GET", f"/v1/ingests/{ingest['id']}/events") as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            kind, _, value = line.partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                events.append((name, json.loads(value)))
    assert [name for name, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    name, last = events[-1]
    assert name == "done"
    assert last["state"] == "finished"
    assert last["counts"]["added"] == 6


def test_paths_of_the_server_are_for_local_callers(empty: Served, folder: Path) -> None:
    for body in (
        {"sources": [str(folder)]},
        {"sources": ["file:///etc"]},
        {"sources": ["s3://bucket/key"]},
        {"sources": ["https://example.org/a.csv"], "metadata": "/etc/passwd"},
    ):
        refused = empty.client.post("/v1/ingests", json=body)
        assert refused.status_code == 403, body
    off = empty.client.post("/v1/ingests", json={"sources": ["https://example.org/a.jpg"]})
    assert off.status_code == 403
    assert "PHOSPHENE_FETCH_URLS" in off.json()["detail"]
    assert empty.client.get("/v1/ingests").json()["ingests"] == []


def test_an_ingest_of_nothing_fails_with_its_reason(empty: Served, tmp_path: Path) -> None:
    done = finished(empty, start(empty, tmp_path / "no such folder"))
    assert done["state"] == "failed"
    assert "no such folder" in done["error"]


def test_private_addresses_are_not_fetched(tmp_path: Path) -> None:
    with serving(tmp_path / "data", fetch_urls=True) as served:
        for url in (served.url + "/web/icon.svg", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd"):
            refused = served.client.post("/v1/search", json={"image_url": url})
            assert refused.status_code == 422
            assert refused.json()["fault"] == "unreadable"
        for name in ("pictures.csv", "pictures.txt"):
            asked = served.client.post("/v1/ingests", json={"sources": [f"{served.url}/{name}"]}).json()
            failed = finished(served, asked)
            assert failed["state"] == "failed"
            assert f"/{name}: 127.0.0.1 is not on the public internet" in failed["error"]


def test_verify_compares_the_stores(empty: Served, folder: Path) -> None:
    finished(empty, start(empty, folder))
    healthy = empty.client.post("/v1/verify", headers=empty.local, json={})
    assert healthy.status_code == 200
    assert healthy.json()["ok"] is True
    index = empty.engine.index
    index.delete([index.scroll(after=None, limit=1)[0].id])
    assert empty.client.post("/v1/verify", headers=empty.local, json={}).json()["ok"] is False
    empty.client.post("/v1/verify", headers=empty.local, json={"repair": True})
    assert empty.client.post("/v1/verify", headers=empty.local, json={}).json()["ok"] is True
    assert len(empty.search(text="noise")["hits"]) == 6
