from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from phosphene.blobs import original_key, preview_key, thumbnail_key
from phosphene.types import DEFAULT_TENANT, AssetId
from tests.pictures.samples import GPS_MARK, exif, jpeg, picture
from tests.search_api.served import Served, png, sample_pictures, serving


@pytest.fixture
def own(data: Path) -> Iterator[Served]:
    with serving(data) as running:
        yield running


def upload(served: Served, data: bytes, **form: str) -> dict[str, Any]:
    response = served.client.post("/v1/assets", files={"image": ("picture", data)}, data=form)
    assert response.status_code in (200, 201), response.text
    assert response.headers["location"] == f"/v1/assets/{response.json()['asset_id']}"
    asset: dict[str, Any] = response.json()
    return {**asset, "status": response.status_code}


def test_an_uploaded_picture_is_found_at_once(own: Served) -> None:
    data = png(11)
    metadata = {"category": "noise", "year": 2024, "keywords": ["random", "colour"]}
    asset = upload(own, data, title="Coloured noise", metadata=json.dumps(metadata))
    assert asset["status"] == 201
    assert asset["metadata"] == metadata
    best = own.client.post("/v1/search/image", files={"image": data}).json()["hits"][0]
    assert best["asset_id"] == asset["asset_id"]
    assert best["title"] == "Coloured noise"
    found = own.search(text="anything", filter={"field": "keywords", "any_of": ["random"]})["hits"]
    assert [hit["asset_id"] for hit in found] == [asset["asset_id"]]


def test_the_same_bytes_are_the_same_asset(own: Served) -> None:
    count = own.client.get("/v1/status").json()["assets"]
    first = upload(own, png(12), title="First")
    again = upload(own, png(12), title="Second")
    assert again["asset_id"] == first["asset_id"]
    assert again["status"] == 200
    assert again["title"] == "Second"
    assert own.client.get("/v1/status").json()["assets"] == count + 1


def test_changed_metadata_is_what_filters_see(own: Served) -> None:
    asset = upload(own, png(13), title="Old", metadata='{"category": "old", "year": 1990}')
    path = f"/v1/assets/{asset['asset_id']}"
    changed = own.client.patch(path, json={"metadata": {"category": "new"}})
    assert changed.status_code == 200
    assert changed.json()["metadata"] == {"category": "new"}
    assert changed.json()["title"] == "Old"
    assert own.client.patch(path, json={"title": None}).json()["title"] is None
    assert own.client.get(path).json()["metadata"] == {"category": "new"}

    def found(category: str) -> list[str]:
        hits = own.search(text="x", filter={"field": "category", "equals": category})["hits"]
        return [hit["asset_id"] for hit in hits]

    assert found("new") == [asset["asset_id"]]
    assert found("old") == []


def test_wrong_metadata_is_refused(own: Served) -> None:
    for form in ({"metadata": "{"}, {"metadata": "[]"}, {"metadata": '{"a": {"b": 1}}'}, {"metadata": '{"a": NaN}'}):
        response = own.client.post("/v1/assets", files={"image": png(14)}, data=form)
        assert response.status_code == 422, form
        assert "metadata" in response.json()["detail"]
    upload(own, png(15), metadata='{"score_of_jury": 7}')
    contradicts = own.client.post(
        "/v1/assets", files={"image": png(16)}, data={"metadata": '{"score_of_jury": "good"}'}
    )
    assert contradicts.status_code == 422
    assert "score_of_jury" in contradicts.json()["detail"]
    asset = upload(own, png(17))
    for change in ({}, {"titel": "x"}, {"title": "a\x00b"}, {"title": "x" * 1000}, {"metadata": {"a": [1, 2]}}):
        refused = own.client.patch(f"/v1/assets/{asset['asset_id']}", json=change)
        assert refused.status_code == 422, change


def test_a_removed_picture_is_gone_everywhere(own: Served) -> None:
    data = png(18)
    asset = upload(own, data, title="Short-lived")
    path = f"/v1/assets/{asset['asset_id']}"
    assert own.client.get(f"{path}/image?size=preview").status_code == 200
    blobs = own.engine.blobs
    sha256 = own.engine.catalog.asset(DEFAULT_TENANT, AssetId(UUID(asset["asset_id"]))).sha256
    assert own.client.delete(path).status_code == 204
    for gone in (own.client.get(path), own.client.delete(path), own.client.get(f"{path}/image")):
        assert gone.status_code == 404
    hits = own.client.post("/v1/search/image", files={"image": data}).json()["hits"]
    assert asset["asset_id"] not in [hit["asset_id"] for hit in hits]
    assert not any(blobs.exists(key(sha256)) for key in (original_key, thumbnail_key, preview_key))


def test_pictures_are_served_in_their_sizes(own: Served) -> None:
    data = jpeg(1600, 1200, seed=3)
    asset = upload(own, data, title='A "quoted" título / path')
    sides = {}
    for size in ("thumbnail", "preview", "original"):
        response = own.client.get(f"/v1/assets/{asset['asset_id']}/image", params={"size": size})
        assert response.status_code == 200
        assert response.headers["content-type"] == "image/jpeg"
        assert "immutable" in response.headers["cache-control"]
        disposition = response.headers["content-disposition"]
        assert disposition.startswith("attachment" if size == "original" else "inline")
        assert "t%C3%ADtulo" in disposition
        assert "/" not in disposition.split("filename=")[1].split(";")[0]
        sides[size] = max(Image.open(io.BytesIO(response.content)).size)
        again = own.client.get(response.url, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code == 304
        assert again.content == b""
    assert sides == {"thumbnail": 256, "preview": 1024, "original": 1600}
    original = own.client.get(f"/v1/assets/{asset['asset_id']}/image?size=original")
    assert original.content == data


def test_served_pictures_carry_no_position_and_no_comment(own: Served) -> None:
    out = io.BytesIO()
    picture(1500, 900, seed=4).save(out, "JPEG", exif=exif(orientation=6), comment=b"a private remark")
    data = out.getvalue()
    assert GPS_MARK in data
    asset = upload(own, data)
    assert (asset["width"], asset["height"]) == (900, 1500)
    for size in ("thumbnail", "preview"):
        shown = own.client.get(f"/v1/assets/{asset['asset_id']}/image?size={size}").content
        opened = Image.open(io.BytesIO(shown))
        assert opened.height > opened.width
        assert not opened.getexif()
        assert b"private" not in shown
        assert GPS_MARK not in shown


def test_lost_thumbnails_are_made_again(own: Served) -> None:
    asset = own.search(text="a bird", limit=1)["hits"][0]
    sha256 = own.engine.catalog.asset(DEFAULT_TENANT, AssetId(UUID(asset["asset_id"]))).sha256
    before = own.client.get(asset["thumbnail_url"]).content
    own.engine.blobs.delete(thumbnail_key(sha256))
    assert own.client.get(asset["thumbnail_url"]).content == before
    assert own.engine.blobs.exists(thumbnail_key(sha256))
    for key in (thumbnail_key, original_key):
        own.engine.blobs.delete(key(sha256))
    lost = own.client.get(asset["thumbnail_url"])
    assert lost.status_code == 500
    assert "verify --repair" in lost.json()["detail"]


def test_the_catalogue_can_be_leafed_through(served: Served) -> None:
    seen: list[str] = []
    after = None
    while True:
        page = served.client.get("/v1/assets", params={"limit": 40, **({"after": after} if after else {})}).json()
        seen += [asset["asset_id"] for asset in page["assets"]]
        after = page["next_after"]
        if after is None:
            break
    assert len(seen) == len(set(seen)) == len(sample_pictures())


def test_a_picture_says_where_it_was_taken_and_is_found_there(data: Path) -> None:
    with serving(data) as served:
        hit = served.search(text="a boat", limit=1)["hits"][0]
        berlin = {"lat": 52.52, "lon": 13.405}
        path = f"/v1/assets/{hit['asset_id']}"
        for wrong in ({"lat": 95, "lon": 0}, {"lat": 52.52}, {"lat": "north", "lon": 0}):
            assert served.client.patch(path, json={"metadata": {"place": wrong}}).status_code == 422
        changed = served.client.patch(path, json={"metadata": {**hit["metadata"], "place": berlin}})
        assert changed.status_code == 200, changed.text
        assert changed.json()["metadata"]["place"] == berlin
        there = {"field": "place", "within": {"lat": 52.5, "lon": 13.4, "radius_m": 5000}}
        found = served.search(text="anything", filter=there)["hits"]
        assert [one["asset_id"] for one in found] == [hit["asset_id"]]
        elsewhere = {"field": "place", "box": {"south": -10, "west": 170, "north": 10, "east": -170}}
        assert served.search(text="anything", filter=elsewhere)["hits"] == []
        refused = served.client.post("/v1/search", json={"text": "x", "filter": {"field": "place", "equals": "Berlin"}})
        assert refused.status_code == 422
        assert "within" in refused.json()["detail"]
