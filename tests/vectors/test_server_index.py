"""What only the index on a server does: its collection, its requests, its troubles."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from qdrant_client import models

from phosphene.errors import DamagedData, Forbidden, InvalidSettings, SpaceMismatch, Unavailable
from phosphene.vectors.server import ServerIndex
from tests.vectors.made import FIELDS, SPACE, ask, embeddings, numbered, payloads
from tests.vectors.qdrant_stand_in import MAX_REQUEST_BYTES, RestServer, StandIn
from tests.vectors.qdrant_stand_in_grpc import GrpcServer

KEY = "a-key-that-nobody-may-read"


@pytest.fixture(params=["rest", "grpc"])
def connect(
    request: pytest.FixtureRequest, stand_in: StandIn, rest: RestServer
) -> Iterator[Callable[..., ServerIndex]]:
    grpc = GrpcServer(stand_in)
    port = grpc.port if request.param == "grpc" else None
    yield lambda **more: ServerIndex.open(rest.url, more.pop("space", SPACE), grpc_port=port, **more)
    grpc.stop()


def test_the_collection_is_named_after_its_space_and_indexed_before_the_first_point(
    connect: Callable[..., ServerIndex], stand_in: StandIn
) -> None:
    index = connect()
    index.declare(FIELDS)
    calls = list(stand_in.calls)
    index.upsert(numbered(3), embeddings(3), payloads(3))
    info = stand_in.info(str(SPACE.id))
    tenant = info.payload_schema["tenant"]
    assert isinstance(tenant.params, models.KeywordIndexParams)
    assert tenant.params.is_tenant
    assert {name: index.data_type.value for name, index in info.payload_schema.items()} == {
        "tenant": "keyword",
        "asset_id": "keyword",
        "generated": "integer",
        "width": "integer",
        "category": "keyword",
        "keywords": "keyword",
        "year": "integer",
        "rating": "float",
        "public": "integer",
        "taken": "datetime",
        "place": "geo",
        "place.lat": "float",
        "place.lon": "float",
        "_words": "text",
    }
    assert not any("points" in call and "index" not in call for call in calls)
    again = connect()
    again.declare(FIELDS)
    assert again.count() == 3
    index.close()
    again.close()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.17.1", {"scalar": {"type": models.ScalarType.INT8, "always_ram": True}}),
        ("1.18.0", {"turbo": {"bits": models.TurboQuantBitSize.BITS4, "always_ram": True}}),
        ("1.20.0", {"turbo": {"bits": models.TurboQuantBitSize.BITS4, "memory": models.Memory.PINNED}}),
    ],
)
def test_codes_are_what_the_version_of_the_server_can_keep(
    connect: Callable[..., ServerIndex], stand_in: StandIn, version: str, expected: object
) -> None:
    stand_in.version = version
    connect().close()
    kept = stand_in.info(str(SPACE.id)).config.quantization_config
    assert kept is not None
    assert kept.model_dump(exclude_none=True) == expected


def test_an_exact_query_reads_no_codes_and_any_other_scores_again_what_they_found(
    connect: Callable[..., ServerIndex], stand_in: StandIn
) -> None:
    index = connect()
    index.upsert(numbered(3), embeddings(3), payloads(3))
    row = embeddings(3).rows[0]
    index.query([ask(row, exact=True), ask(row)])
    index.close()
    exact, usual = stand_in.search_params
    assert exact is not None
    assert usual is not None
    assert exact.quantization is not None
    assert usual.quantization is not None
    assert (exact.exact, exact.quantization.ignore) == (True, True)
    assert (bool(usual.exact), bool(usual.quantization.ignore), usual.quantization.rescore) == (False, False, True)


def test_a_collection_that_another_process_makes_meanwhile_is_used(
    connect: Callable[..., ServerIndex], stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = connect()
    first.upsert(numbered(3), embeddings(3), payloads(3))
    answers = iter([False])  # as it was when the second one asked
    seen = stand_in.exists
    monkeypatch.setattr(stand_in, "exists", lambda name: next(answers, seen(name)))
    second = connect()
    assert second.count() == 3
    first.close()
    second.close()


def test_another_programs_collection_is_refused(connect: Callable[..., ServerIndex], stand_in: StandIn) -> None:
    size = models.VectorParams(size=8, distance=models.Distance.COSINE)
    stand_in.create(str(SPACE.id), models.CreateCollection(vectors=size))
    with pytest.raises(SpaceMismatch, match="8 numbers"):
        connect()


def test_requests_stay_below_what_a_server_takes(connect: Callable[..., ServerIndex], stand_in: StandIn) -> None:
    wide = replace(SPACE, dimension=1024)
    index = connect(space=wide)
    index.upsert(numbered(1500), embeddings(1500, space=wide), [{"tenant": "a"}] * 1500)
    index.upsert(numbered(300), embeddings(300, space=wide), [{"tenant": "a", "title": "x" * 200_000}] * 300)
    assert index.count() == 1500
    assert 2**20 < stand_in.largest_request < MAX_REQUEST_BYTES
    index.close()


def test_a_batch_of_queries_is_one_request_and_writes_wait(
    connect: Callable[..., ServerIndex], stand_in: StandIn, request: pytest.FixtureRequest
) -> None:
    index = connect()
    index.upsert(numbered(50), embeddings(50), payloads(50))
    index.delete(numbered(1))
    index.set_payloads(numbered(1, start=2), [{"tenant": "a"}])
    writes = [call for call in stand_in.calls if call.startswith(("PUT /collections/{c}/points", "POST"))]
    assert all("wait=true" in call for call in writes if "batch" in call or "delete" in call or call.startswith("PUT"))
    stand_in.calls.clear()
    index.query([ask(row) for row in embeddings(20, seed=2).rows])
    assert len(stand_in.calls) == 1, request.node.name
    index.close()


@pytest.mark.parametrize("status", [503, 500])
def test_a_server_in_trouble_is_unavailable_and_then_well_again(
    connect: Callable[..., ServerIndex], stand_in: StandIn, status: int
) -> None:
    index = connect()
    ids, made, said = numbered(5), embeddings(5), payloads(5)
    calls: list[Callable[[], object]] = [
        lambda: index.upsert(ids, made, said),
        lambda: index.set_payloads(ids, said),
        lambda: index.query([ask(made.rows[0])]),
        lambda: index.vectors(ids),
        lambda: index.scroll(after=None, limit=3),
        index.count,
        lambda: index.declare(FIELDS),
        lambda: index.delete(ids),
    ]
    for call in calls:
        stand_in.failures.append(status)
        with pytest.raises(Unavailable, match=r"Qdrant at http://127\.0\.0\.1:\d+ can't answer now") as caught:
            call()
        assert "\n" not in str(caught.value)
        call()
    index.close()


def test_a_lost_collection_is_told(connect: Callable[..., ServerIndex], stand_in: StandIn) -> None:
    index = connect()
    stand_in.drop(str(SPACE.id))
    with pytest.raises(DamagedData, match="verify --repair"):
        index.count()
    index.close()


def test_a_wrong_key_is_forbidden_and_never_shown(
    connect: Callable[..., ServerIndex], stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in.api_key = "the-right-key-is-another-one"
    with caplog.at_level(logging.DEBUG):
        for key in (KEY, None):
            with pytest.raises(Forbidden, match="PHOSPHENE_QDRANT_API_KEY") as caught:
                connect(api_key=key)
            assert "127.0.0.1" in str(caught.value)
            assert KEY not in str(caught.value)
    assert "unencrypted" in caplog.text
    assert KEY not in caplog.text
    index = connect(api_key=stand_in.api_key)
    assert index.count() == 0
    index.close()


@pytest.mark.parametrize("over_grpc", [False, True])
def test_nobody_there_is_unavailable_with_the_address(over_grpc: bool) -> None:  # noqa: FBT001  a parameter
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as caught:
            ServerIndex.open(f"http://user:{KEY}@127.0.0.1:{port}", SPACE, grpc_port=port if over_grpc else None)
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_says_nothing_is_unavailable() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unavailable, match="does not answer"):
            ServerIndex.open(f"http://127.0.0.1:{silent.getsockname()[1]}", SPACE, timeout_s=1)


@pytest.mark.parametrize("url", ["localhost:6333", "ftp://host", "http://", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="PHOSPHENE_QDRANT_URL"):
        ServerIndex.open(url, SPACE)
