"""Who may ask what: keys and tenants, the loopback mode, headers, sizes of bodies."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.search_api.served import KEYS, Served, png, serving, variation

MUSEUM = {"Authorization": "Bearer museum-secret-0123456789"}
AGENCY = {"X-API-Key": "agency-secret-0123456789"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("keyed") / "data", api_keys=KEYS, max_body_bytes=200_000) as running:
        yield running


def test_without_a_key_nothing_is_answered(keyed: Served) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong-secret-0123456789"},
        {"X-API-Key": ""},
        {"X-API-Key": "é" * 20},
    ):
        encoded = {name.encode(): value.encode() for name, value in headers.items()}
        response = keyed.client.get("/v1/status", headers=encoded)
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert keyed.client.get("/v1/nothing").status_code == 401
    assert keyed.client.get("/livez").status_code == 200
    assert keyed.client.get("/").status_code == 200


def test_a_body_is_not_read_before_the_key(keyed: Served) -> None:
    """A caller without a key is answered while its body is still on the way."""
    address = urlsplit(keyed.url)
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=20) as connection:
        head = (
            "POST /v1/search HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(20).startswith(b"HTTP/1.1 401")


def test_tenants_never_see_each_other(keyed: Served) -> None:
    picture = png(1)
    mine = keyed.client.post("/v1/assets", headers=MUSEUM, files={"image": picture}, data={"title": "Ours"})
    assert mine.status_code == 201
    theirs = keyed.client.post("/v1/assets", headers=AGENCY, files={"image": picture}, data={"title": "Theirs"})
    assert theirs.status_code == 201, "the same bytes are another asset of another tenant"
    only_mine = keyed.client.post("/v1/assets", headers=MUSEUM, files={"image": png(2)}).json()["asset_id"]
    assert mine.json()["asset_id"] != theirs.json()["asset_id"]

    for headers, title, count in ((MUSEUM, "Ours", 2), (AGENCY, "Theirs", 1)):
        found = keyed.client.post("/v1/search/image", headers=headers, files={"image": picture}).json()["hits"]
        assert len(found) == count
        assert found[0]["title"] == title
        assert found[0]["score"] > 0.99
        assert keyed.client.get("/v1/status", headers=headers).json()["assets"] == count
        assert len(keyed.client.get("/v1/assets", headers=headers).json()["assets"]) == count

    for method, path, options in (
        ("GET", f"/v1/assets/{only_mine}", {}),
        ("GET", f"/v1/assets/{only_mine}/image?size=thumbnail", {}),
        ("GET", f"/v1/assets/{only_mine}/image?size=original", {}),
        ("GET", f"/v1/assets/{only_mine}/similar", {}),
        ("POST", "/v1/search", {"json": {"asset_id": only_mine}}),
        ("POST", "/v1/search", {"json": {"query": f"a cat + asset:{only_mine}"}}),
        ("POST", "/v1/search", {"json": {"text": "a cat", "exclude": [{"asset_id": only_mine}]}}),
        ("PATCH", f"/v1/assets/{only_mine}", {"json": {"title": "Stolen"}}),
        ("DELETE", f"/v1/assets/{only_mine}", {}),
    ):
        response = keyed.client.request(method, path, headers=AGENCY, **options)
        assert response.status_code == 404, (method, path)
    assert keyed.client.get(f"/v1/assets/{only_mine}", headers=MUSEUM).json()["title"] is None


def test_what_other_tenants_have_takes_no_place_in_the_list(keyed: Served) -> None:
    """Their nearest picture is no hit, and does not push ours from a page of one."""
    wanted = png(30)
    for seed in range(3):
        keyed.client.post("/v1/assets", headers=AGENCY, files={"image": variation(wanted, seed)})
    ours = keyed.client.post("/v1/assets", headers=MUSEUM, files={"image": png(31)}).json()["asset_id"]
    everything = {"filter": '{"field": "format", "equals": "png"}'}
    for form in ({}, everything):
        seen = []
        cursor: dict[str, str] = {}
        while True:
            answer = keyed.client.post(
                "/v1/search/image", headers=MUSEUM, files={"image": wanted}, data={"limit": "1", **form, **cursor}
            ).json()
            assert len(answer["hits"]) == 1
            seen.append(answer["hits"][0]["asset_id"])
            if answer["next_cursor"] is None:
                break
            cursor = {"cursor": answer["next_cursor"]}
        assert len(seen) == keyed.client.get("/v1/status", headers=MUSEUM).json()["assets"]
        assert ours in seen


def test_what_is_counted_and_looked_up_is_of_ones_own(keyed: Served) -> None:
    asked = {"text": "lighthouse", "filter": {"field": "format", "equals": "png"}}
    counts = {"museum": 2, "agency": 3}
    for headers, seeds in ((MUSEUM, range(40, 42)), (AGENCY, range(42, 45))):
        for seed in seeds:
            form = {"title": "Lighthouse", "metadata": '{"maker": "atelier", "height_cm": 7}'}
            made = keyed.client.post("/v1/assets", headers=headers, files={"image": png(seed)}, data=form)
            assert made.status_code == 201

    for headers, count in ((MUSEUM, counts["museum"]), (AGENCY, counts["agency"])):

        def search(**more: object) -> Any:  # noqa: ANN401  JSON
            return keyed.client.post("/v1/search", headers=headers, json={**asked, **more}).json()  # noqa: B023  at once

        facets = search(facets=["maker", "height_cm"])["facets"]
        assert facets["maker"]["values"] == [{"value": "atelier", "count": count, "among_best": count}]
        assert facets["maker"]["pictures"] == keyed.client.get("/v1/status", headers=headers).json()["assets"]
        assert [one["count"] for one in facets["height_cm"]["ranges"]] == [count]
        groups = search(group_by="maker")["hits"]
        assert [hit["group"]["pictures"] for hit in groups if hit["group"]["value"] == "atelier"] == [count]
        page: dict[str, Any] = {"next_cursor": None}
        for _ in range(count):  # theirs take no place in a page of one
            page = search(mode="words", limit=1, cursor=page["next_cursor"])
            assert [hit["title"] for hit in page["hits"]] == ["Lighthouse"]
        assert page["next_cursor"] is None


def test_fields_of_a_tenant_are_its_own(keyed: Served) -> None:
    form = {"metadata": '{"shelf": "B7"}'}
    assert keyed.client.post("/v1/assets", headers=MUSEUM, files={"image": png(5)}, data=form).status_code == 201
    names = [field["name"] for field in keyed.client.get("/v1/fields", headers=MUSEUM).json()["fields"]]
    assert "shelf" in names
    names = [field["name"] for field in keyed.client.get("/v1/fields", headers=AGENCY).json()["fields"]]
    assert "shelf" not in names


def test_large_bodies_are_refused(keyed: Served) -> None:
    large = b"x" * 300_000
    announced = keyed.client.post("/v1/search", headers=MUSEUM, content=large)

    def drip() -> Iterator[bytes]:
        for start in range(0, len(large), 10_000):
            yield large[start : start + 10_000]

    typed = {**MUSEUM, "Content-Type": "application/json"}
    dripped = keyed.client.post("/v1/search", headers=typed, content=drip())
    uploaded = keyed.client.post("/v1/assets", headers=MUSEUM, files={"image": large})
    for response in (announced, dripped, uploaded):
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
    assert "200,000" in announced.json()["detail"]
    assert keyed.client.get("/v1/status", headers=MUSEUM).status_code == 200


def test_the_local_token_opens_what_keys_do_not(keyed: Served, tmp_path: Path) -> None:
    body = {"sources": [str(tmp_path)]}
    assert keyed.client.post("/v1/ingests", headers=MUSEUM, json=body).status_code == 403
    assert keyed.client.post("/v1/verify", headers=MUSEUM, json={}).status_code == 403
    assert keyed.client.get("/v1/status", headers={"X-Phosphene-Local-Token": "guessed"}).status_code == 401
    both = {**MUSEUM, **keyed.local}
    assert keyed.client.post("/v1/ingests", headers=both, json=body).status_code == 202
    assert len(keyed.client.get("/v1/ingests", headers=MUSEUM).json()["ingests"]) == 1
    assert keyed.client.get("/v1/ingests", headers=AGENCY).json()["ingests"] == []


def test_in_loopback_mode_other_names_are_refused(served: Served) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.7", ""):
        response = served.client.get("/v1/status", headers={"Host": host})
        assert response.status_code == 400, host
        assert served.client.get("/", headers={"Host": host}).status_code == 400
    for host in ("localhost:8000", "127.0.0.1", "[::1]:9", "LOCALHOST"):
        assert served.client.get("/v1/status", headers={"Host": host}).status_code == 200, host


def test_in_loopback_mode_other_pages_change_nothing(served: Served) -> None:
    count = served.client.get("/v1/status").json()["assets"]
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        response = served.client.post("/v1/assets", headers=headers, files={"image": png(77)})
        assert response.status_code == 403, headers
        assert response.headers["content-type"] == "application/problem+json"
    assert served.client.get("/v1/status").json()["assets"] == count
    own = {"Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    assert served.client.post("/v1/search", headers=own, json={"text": "a cat"}).status_code == 200


def test_every_answer_is_locked_down(served: Served) -> None:
    hit = served.search(text="a cat", limit=1)["hits"][0]
    for path in ("/", "/docs", "/web/app.js", "/v1/status", hit["thumbnail_url"], "/nothing", "/v1/search"):
        headers = served.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
    assert served.client.get("/v1/status").headers["cache-control"] == "no-store"


def test_an_error_of_ours_shows_nothing_of_our_insides(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(data) as served:
        served.engine.catalog.close()
        space = served.engine.current
        served.engine._decoders = space._texts = None
        space._encoder = object()  # type: ignore[assignment]  # breaks what nobody foresaw
        response = served.client.post("/v1/search", json={"text": "a cat"})
        space._encoder = None
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert "object" not in response.text
        assert "Traceback" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "Traceback" in caplog.text
