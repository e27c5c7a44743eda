"""Vectors and similarities as a service: of whatever is sent, in its order, always with the space's name."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phosphene.types import DEFAULT_TENANT, Float32
from search_api.embedding import from_base64, to_base64
from search_api.similarity import clip_scores
from tests.search_api.served import KEYS, Served, png, serving

UNKNOWN = "00000000-0000-0000-0000-000000000001"


def post(served: Served, path: str, body: Any, status: int = 200) -> dict[str, Any]:  # noqa: ANN401  JSON
    response = served.client.post(path, json=body)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


def some_assets(served: Served, number: int) -> list[str]:
    return [asset["asset_id"] for asset in served.client.get("/v1/assets", params={"limit": number}).json()["assets"]]


def decoded(text: str) -> Float32:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_base64_is_little_endian_float32_and_comes_back(numbers: Float32) -> None:
    np.testing.assert_array_equal(from_base64(to_base64(numbers)), numbers)
    np.testing.assert_array_equal(decoded(to_base64(numbers)), numbers)


def test_the_clip_score_is_that_of_its_paper() -> None:
    cosines = np.array([[-1.0, -0.2, 0.0], [0.3, 0.5, 1.0]], dtype=np.float32)
    expected = np.array([[0, 0, 0], [0.75, 1.25, 2.5]])
    np.testing.assert_allclose(clip_scores(cosines).astype(np.float64), expected, rtol=1e-6)


def test_base64_says_the_same_as_numbers(served: Served) -> None:
    picture = base64.b64encode(png(5)).decode()
    assets = some_assets(served, 3)
    body = {"texts": ["a cat", "a red car"], "images": [picture], "asset_ids": assets}
    numbers = post(served, "/v1/embeddings", body)
    short = post(served, "/v1/embeddings", {**body, "encoding": "base64"})
    assert numbers["space"] == short["space"] == served.engine.encoder.space.id
    for kind, count in (("texts", 2), ("images", 1), ("asset_ids", 3), ("image_urls", 0)):
        assert len(numbers[kind]) == len(short[kind]) == count
        for one, text in zip(numbers[kind], short[kind], strict=True):
            np.testing.assert_allclose(decoded(text), np.array(one), atol=1e-6)
            assert abs(float(np.linalg.norm(one)) - 1) < 1e-3


def test_vectors_of_assets_are_those_that_are_searched(served: Served) -> None:
    asset = some_assets(served, 1)[0]
    (vector,) = post(served, "/v1/embeddings", {"asset_ids": [asset]})["asset_ids"]
    (best,) = served.search(vector=vector, limit=1)["hits"]
    assert best["asset_id"] == asset
    assert best["score"] == pytest.approx(1, abs=2e-3)


def test_uploaded_pictures_are_embedded_in_order(served: Served) -> None:
    files = [png(seed) for seed in range(4)]
    uploaded = served.client.post(
        "/v1/embeddings/images", files=[("images", ("a.png", data)) for data in files], data={"encoding": "base64"}
    )
    assert uploaded.status_code == 200, uploaded.text
    sent = post(served, "/v1/embeddings", {"images": [base64.b64encode(data).decode() for data in files]})
    for text, vector in zip(uploaded.json()["images"], sent["images"], strict=True):
        np.testing.assert_allclose(decoded(text), vector, atol=1e-4)
    many = served.client.post("/v1/embeddings/images", files=[("images", png(1))] * 65)
    assert many.status_code == 422
    assert "64" in many.json()["detail"]


def test_pictures_that_are_large_together_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_api.embedding.MAX_MEGAPIXELS", 0.06)  # nine of 96 x 64 fit, ten don't
    images = [base64.b64encode(png(seed)).decode() for seed in range(12)]
    assert (
        len(served.client.post("/v1/embeddings", json={"images": images[:9]}).raise_for_status().json()["images"]) == 9
    )
    answer = served.client.post("/v1/embeddings", json={"images": images})
    assert answer.status_code == 422
    assert "images.9" in answer.json()["detail"]
    assert "send fewer at a time" in answer.json()["detail"]


def test_anything_is_compared_with_anything(served: Served) -> None:
    asset = some_assets(served, 1)[0]
    found = served.client.get(f"/v1/assets/{asset}").json()
    original = base64.b64encode(served.client.get(found["original_url"]).content).decode()
    (vector,) = post(served, "/v1/embeddings", {"texts": ["the moon"], "encoding": "base64"})["texts"]
    left = [{"text": "the moon"}, {"asset_id": asset}]
    right = [{"vector": vector}, {"image": original}, {"vector": (7 * decoded(vector)).tolist()}]
    matrix = post(served, "/v1/similarity", {"left": left, "right": right})
    assert matrix["space"] == served.engine.encoder.space.id
    assert matrix["shape"] == [2, 3]
    cosines = np.array(matrix["cosines"])
    assert cosines[0, 0] == pytest.approx(1, abs=1e-4)
    assert cosines[0, 2] == pytest.approx(1, abs=1e-4)
    assert cosines[1, 1] == pytest.approx(1, abs=5e-3)  # the stored vector is of the same picture
    (hit,) = served.search(text="the moon", limit=1, filter={"field": "width", "gte": 1})["hits"]
    hit_cosine = post(served, "/v1/similarity", {"left": left[:1], "right": [{"asset_id": hit["asset_id"]}]})
    assert hit_cosine["cosines"][0][0] == pytest.approx(hit["score"], abs=2e-3)
    np.testing.assert_allclose(matrix["clip_scores"], 2.5 * np.maximum(cosines, 0), atol=1e-6)
    encoded = post(served, "/v1/similarity", {"left": left, "right": right, "encoding": "base64"})
    np.testing.assert_allclose(decoded(encoded["cosines"]).reshape(encoded["shape"]), cosines, atol=1e-5)


def test_pairs_are_the_diagonal_and_one_list_is_compared_with_itself(served: Served) -> None:
    words = [{"text": text} for text in ("a cat", "a dog", "the moon")]
    own = np.array(post(served, "/v1/similarity", {"left": words})["cosines"])
    np.testing.assert_allclose(own, own.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(own), 1, atol=1e-5)
    turned = words[1:] + words[:1]
    pairs = post(served, "/v1/similarity", {"left": words, "right": turned, "pairs": True})
    assert pairs["shape"] == [3]
    np.testing.assert_allclose(pairs["cosines"], [own[0, 1], own[1, 2], own[2, 0]], atol=1e-5)


WRONG: dict[str, tuple[str, Any, int, str]] = {
    "nothing": ("/v1/embeddings", {}, 422, "texts, images, image_urls, asset_ids"),
    "an unknown encoding": ("/v1/embeddings", {"texts": ["a"], "encoding": "hex"}, 422, "encoding"),
    "another space": ("/v1/embeddings", {"texts": ["a"], "space": "other-123"}, 422, "other-123"),
    "a vector of another space": (
        "/v1/similarity",
        {"left": [{"text": "a"}, {"vector": [1.0] * 256, "space": "other-123"}]},
        422,
        "left.1: this catalogue answers in",
    ),
    "a space of a text": ("/v1/similarity", {"left": [{"text": "a", "space": "other-123"}]}, 422, "beside one"),
    "too many texts": ("/v1/embeddings", {"texts": ["a"] * 65}, 422, "texts"),
    "no picture": ("/v1/embeddings", {"images": ["aGVsbG8sIHdvcmxk"]}, 422, "images.0"),
    "white text": ("/v1/embeddings", {"texts": ["a", " "]}, 422, "texts.1"),
    "an unknown asset": ("/v1/embeddings", {"asset_ids": [UNKNOWN]}, 404, UNKNOWN),
    "an address": ("/v1/embeddings", {"image_urls": ["http://example.org/a.png"]}, 403, "PHOSPHENE_FETCH_URLS"),
    "nothing on the left": ("/v1/similarity", {"left": []}, 422, "left"),
    "two kinds at once": ("/v1/similarity", {"left": [{"text": "a", "asset_id": UNKNOWN}]}, 422, "at once"),
    "an empty thing": ("/v1/similarity", {"left": [{}]}, 422, "none of them"),
    "pairs of one": ("/v1/similarity", {"left": [{"text": "a"}], "pairs": True}, 422, "as many on the right"),
    "uneven pairs": (
        "/v1/similarity",
        {"left": [{"text": "a"}], "right": [{"text": "a"}] * 2, "pairs": True},
        422,
        "1, not 2",
    ),
    "a short vector": ("/v1/similarity", {"left": [{"text": "a"}, {"vector": [1, 2]}]}, 422, "left.1"),
    "a vector of nothing": ("/v1/similarity", {"left": [{"vector": [0.0] * 256}]}, 422, "length 0"),
    "a vector in words": ("/v1/similarity", {"left": [{"vector": "hello, world"}]}, 422, "base64"),
    "half a number": ("/v1/similarity", {"left": [{"vector": "AAAA"}]}, 422, "4 bytes"),
    "not a number": ("/v1/similarity", {"left": [{"vector": "AADAfw=="}]}, 422, "numbers"),
    "many addresses": ("/v1/similarity", {"left": [{"image_url": "http://example.org"}] * 17}, 422, "16 are allowed"),
}


@pytest.mark.parametrize(("path", "body", "status", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(served: Served, path: str, body: Any, status: int, said: str) -> None:  # noqa: ANN401
    assert said in post(served, path, body, status)["detail"]


@pytest.fixture
def agency(data: Path) -> Iterator[Served]:
    with serving(data, api_keys=KEYS) as running:
        running.client.headers["Authorization"] = f"Bearer {KEYS[1].partition(':')[2]}"
        yield running


def test_pictures_of_others_have_no_vectors(agency: Served) -> None:
    theirs = str(agency.engine.catalog.page_assets(tenant=DEFAULT_TENANT, after=None, limit=1)[0].id)
    assert theirs in post(agency, "/v1/embeddings", {"asset_ids": [theirs]}, 404)["detail"]
    assert theirs in post(agency, "/v1/similarity", {"left": [{"asset_id": theirs}]}, 404)["detail"]
