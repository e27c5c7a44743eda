"""Whatever is sent, the answer is a problem that helps, and the server goes on."""

from __future__ import annotations

import base64
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.search_api.served import Served, png

ID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture(autouse=True)
def _still_answers(served: Served) -> Iterator[None]:
    yield
    assert len(served.search(text="still there?", limit=2)["hits"]) == 2


def refused(served: Served, body: Any, status: int = 422) -> dict[str, Any]:  # noqa: ANN401  anything
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = served.client.post("/v1/search", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["instance"] == "/v1/search"
    assert {"type", "title", "detail"} <= set(problem)
    assert len(response.content) < 4000
    return problem


WRONG = {
    "nothing asked": ({}, "exactly one of"),
    "two questions": ({"text": "a cat", "asset_id": ID}, "text and asset_id at once"),
    "no object": ([], "dictionary"),
    "a text beside parts": ({"text": "a cat", "parts": [{"text": "a dog"}]}, "put it among the parts"),
    "an empty part": ({"parts": [{"weight": 2}]}, "exactly one of"),
    "a part of two": ({"parts": [{"text": "a cat", "asset_id": ID}]}, "text and asset_id at once"),
    "a part without weight": ({"parts": [{"text": "a cat", "weight": 0}]}, "not 0"),
    "a part too heavy": ({"parts": [{"text": "a cat", "weight": 1e9}]}, "weight"),
    "endless parts": ({"parts": [{"text": "a cat"}] * 17}, "parts"),
    "parts that cancel out": ({"parts": [{"text": "a cat"}, {"text": "a cat", "weight": -1}]}, "cancel"),
    "only bad examples": ({"parts": [{"text": "x", "weight": -1}], "strategy": "best_score"}, "best_score"),
    "an edit of nothing": ({"exclude": [{"text": "x"}], "edit": {"before": "a", "after": "b"}}, "edit"),
    "an edit that changes nothing": ({"text": "x", "edit": {"before": "a cat", "after": "a cat"}}, "mean the same"),
    "half a pair": ({"context": [{"positive": {"text": "a cat"}}]}, "negative"),
    "a white query": ({"query": " "}, "empty"),
    "an endless query": ({"query": "c" * 5000}, "4000"),
    "a typed field that is none": (
        {"query": "dog licens:cc0"},
        "character 5: there is no field 'licens'",
    ),
    "a typed filter alone": ({"query": "category:food"}, "only a filter"),
    "an open quotation": ({"query": 'a "red cat'}, "character 3: this quotation mark is not closed"),
    "a typed asset that is none": ({"query": "asset:cat"}, "character 7: expected the id"),
    "a typed range of words": ({"query": "ship year:>=new"}, "character 11: 'year' holds integer values"),
    "a typed NUL": ({"query": "a cat \0"}, "NUL"),
    "endless typed parts": ({"query": " + ".join(f"a{i}" for i in range(20))}, "20 parts, 16 are allowed"),
    "a cursor with nonsense in front": ({"text": "a cat", "cursor": "W10.abc"}, "cursor"),
    "empty text": ({"text": ""}, "the text is empty"),
    "empty query": ({"query": ""}, "the text is empty"),
    "white text": ({"text": " \t\n "}, "empty"),
    "endless text": ({"text": "cat " * 600}, "2000"),
    "more than endless text": ({"text": "c" * 100_000}, "4000"),
    "a number as text": ({"text": 7}, "text"),
    "unknown field": ({"text": "a cat", "limits": 3}, "limits"),
    "limit 0": ({"text": "a cat", "limit": 0}, "limit"),
    "limit 1000": ({"text": "a cat", "limit": 1000}, "limit"),
    "limit in words": ({"text": "a cat", "limit": "many"}, "limit"),
    "no asset id": ({"asset_id": "../../etc/passwd"}, "asset_id"),
    "no base64": ({"image": "not base64!"}, "base64"),
    "no picture": ({"image": base64.b64encode(b"hello, I am no picture").decode()}, ""),
    "short vector": ({"vector": [1.0, 2.0]}, "numbers"),
    "vector of nothing": ({"vector": []}, "vector"),
    "vector of words": ({"vector": ["a"]}, "vector.0"),
    "cursor of nobody": ({"text": "a cat", "cursor": "abc"}, "cursor"),
    "filter on nothing": ({"text": "a cat", "filter": {"field": "colour", "equals": "red"}}, "no field 'colour'"),
    "filter in SQL": ({"text": "a cat", "filter": {"field": "x'; DROP TABLE assets; --", "equals": 1}}, "no field"),
    "filter of the tenant": ({"text": "a cat", "filter": {"field": "tenant", "equals": "default"}}, "no field"),
    "filter of a wrong type": ({"text": "a cat", "filter": {"field": "width", "equals": "wide"}}, "width"),
    "endless number": ({"text": "a cat", "filter": {"field": "width", "equals": 10**4000}}, "(4,001 digits) is beyond"),
    "endless name": ({"text": "a cat", "n" * 100_000: 1}, "body.nnn"),
    "endless ranges": (
        {"text": "a cat", "facets": [{"field": name, "limit": 100} for name in ("width", "height", "bytes")]},
        "300 ranges of numbers and dates are asked for, 200",
    ),
    "address to fetch": ({"image_url": "gopher://example.org"}, None),
}


@pytest.mark.parametrize(("body", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(served: Served, body: Any, said: str | None) -> None:  # noqa: ANN401  anything
    if said is None:
        assert "PHOSPHENE_FETCH_URLS" in refused(served, body, 403)["detail"]
    else:
        assert said in refused(served, body)["detail"]


def test_validation_says_what_is_wrong_where(served: Served) -> None:
    problem = refused(served, {"text": "a cat", "limit": 1000, "colour": "red"})
    assert problem["type"] == "urn:phosphene:problem:invalid-request"
    where = {entry["where"]: entry for entry in problem["errors"]}
    assert where["body.limit"]["given"] == "1000"
    assert "less than or equal to 100" in where["body.limit"]["problem"]
    assert "body.colour" in where


def test_numbers_that_are_none_are_refused(served: Served) -> None:
    dimension = served.engine.encoder.space.dimension
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        vector = ", ".join([number] + ["0.1"] * (dimension - 1))
        refused(served, f'{{"vector": [{vector}]}}'.encode())
    assert "length 0" in refused(served, {"vector": [0.0] * dimension})["detail"]
    huge = served.search(vector=[1e308] * dimension)["hits"]
    assert huge == served.search(vector=[1e-308] * dimension)["hits"] == served.search(vector=[1.0] * dimension)["hits"]
    assert str(dimension) in refused(served, {"vector": [1.0] * (dimension + 1)})["detail"]


def test_bodies_that_are_no_json_are_refused(served: Served) -> None:
    assert "character 1" in refused(served, b"{", 400)["detail"]
    refused(served, b"", 422)
    assert "not UTF-8" in refused(served, b"\xff\xfe\x00", 400)["detail"]
    assert refused(served, b'{"text": "\xe9"}', 400)["detail"] == "the body is not UTF-8: byte 0xe9 at 10"
    assert "too many digits" in refused(served, b'{"text": ' + b"9" * 10_000 + b"}", 400)["detail"]


def test_ten_thousand_brackets_are_refused(served: Served) -> None:
    assert "nested" in refused(served, b"[" * 10_000 + b"]" * 10_000, 400)["detail"]
    deepest = b'{"text": "a", "filter": ' + b'{"not": ' * 10_000 + b"{}" + b"}" * 10_001
    assert "nested" in refused(served, deepest, 400)["detail"]
    deep: dict[str, Any] = {"field": "width", "gte": 1}
    for _ in range(50):
        deep = {"not": deep}
    assert "nest" in refused(served, {"text": "a", "filter": deep})["detail"]
    wide = {"or": [{"field": "width", "gte": 1}] * 5000}
    assert "conditions" in refused(served, {"text": "a", "filter": wide})["detail"]


def test_text_of_any_script_is_a_question(served: Served) -> None:
    for text in (
        "猫",
        "🐈‍⬛ 🚗",
        "'; DROP TABLE assets; --",
        "<script>alert(1)</script>",
        "%00",
        "\u202eright to left",
        "a" * 2000,
    ):
        assert len(served.search(text=text, limit=3)["hits"]) == 3


def test_text_that_is_no_unicode_is_refused(served: Served) -> None:
    refused(served, b'{"text": "\\ud800"}')
    refused(served, b'{"text": "a", "filter": {"field": "\\ud800", "equals": "\\udfff"}}')
    refused(served, b'{"text": "a", "\\ud800": 1}')
    assert len(served.search(text="a\x00b", limit=1)["hits"]) == 1


def test_form_that_is_none_is_refused(served: Served) -> None:
    for content, kind in (
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"broken", "multipart/form-data"),
        (b"image=hello", "application/x-www-form-urlencoded"),
    ):
        response = served.client.post("/v1/search/image", content=content, headers={"Content-Type": kind})
        assert response.status_code in (400, 422)
        assert response.headers["content-type"] == "application/problem+json"
    text = served.client.post("/v1/search/image", files={"image": ("a.jpg", b"I am a text")})
    assert text.status_code == 422
    assert text.json()["fault"] == "not_a_picture"
    half = served.client.post("/v1/search/image", files={"image": png(3)[:-2000]})
    assert half.status_code == 422
    assert half.json()["fault"] in ("truncated", "broken")


def test_a_picture_with_too_many_pixels_is_refused(served: Served) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000)))
    response = served.client.post("/v1/search/image", files={"image": bomb + chunk(b"IEND", b"")})
    assert response.status_code == 422
    assert response.json()["fault"] == "too_many_pixels"


def test_paths_lead_nowhere_else(served: Served) -> None:
    for path in (
        "/v1/assets/..%2f..%2fetc%2fpasswd",
        f"/v1/assets/{ID}/image?size=../../original",
        "/web/../../../../etc/passwd",
        "/web/%2e%2e/%2e%2e/pyproject.toml",
        "/web/..%2f..%2fpyproject.toml",
        "/web//etc/passwd",
    ):
        response = raw_get(served, path)
        assert b" 404 " in response[:20] or b" 422 " in response[:20], path
        assert b"root:" not in response
        assert b"[project]" not in response


def raw_get(served: Served, path: str) -> bytes:
    """Ask without a client that would tidy up the path."""
    address = urlsplit(served.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_unknown_paths_and_methods_are_problems(served: Served) -> None:
    for method, path, status in (
        ("GET", "/v2/search", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v1/search", 405),
        ("DELETE", "/v1/search", 405),
        ("GET", f"/v1/assets/{ID}", 404),
        ("GET", f"/v1/assets/{ID}/similar", 404),
        ("GET", f"/v1/assets/{ID}/image", 404),
        ("GET", f"/v1/ingests/{ID}", 404),
        ("GET", f"/v1/ingests/{ID}/events", 404),
        ("GET", f"/v1/ingests/{ID}/quarantine", 404),
        ("DELETE", f"/v1/assets/{ID}", 404),
    ):
        response = served.client.request(method, path)
        assert response.status_code == status, (method, path, response.text)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["instance"] == path
    assert served.client.get("/v1/search").headers["allow"] == "POST"
