"""What a server is told of a profile, over REST and gRPC, and that nothing we ask breaks its limits."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import models

from phosphene.errors import InvalidInput
from phosphene.evaluation.recall import Probes, index_recall
from phosphene.filters import MAX_CONDITIONS, MAX_VALUES, And, Equals, Exists, Filter, Not, Range
from phosphene.types import Field, FieldKind
from phosphene.vectors import server
from phosphene.vectors.profiles import NAMES, PROFILES, Codes, Profile, Tier
from phosphene.vectors.server import ServerIndex
from search_api.listing import MAX_DEPTH
from tests.vectors.conftest import REAL_SERVER
from tests.vectors.made import FIELDS, SPACE, ask, embeddings, numbered, payloads
from tests.vectors.qdrant_stand_in import RestServer, StandIn
from tests.vectors.qdrant_stand_in_grpc import GrpcServer

Connect = Callable[..., ServerIndex]
OLD, TURBO, NEW = "1.17.1", "1.18.0", "1.20.0"


@pytest.fixture(params=["rest", "grpc"])
def connect(request: pytest.FixtureRequest, stand_in: StandIn, rest: RestServer) -> Iterator[Connect]:
    grpc = GrpcServer(stand_in)
    port = grpc.port if request.param == "grpc" else None
    yield lambda profile: ServerIndex.open(rest.url, SPACE, grpc_port=port, profile=profile)
    grpc.stop()


def _created(connect: Connect, stand_in: StandIn, profile: Profile) -> models.CreateCollection:
    connect(profile).close()
    return stand_in.created[str(SPACE.id)]


@pytest.mark.parametrize("name", NAMES)
def test_a_new_server_is_told_all_of_a_profile(connect: Connect, stand_in: StandIn, name: str) -> None:
    profile = next(profile for profile in PROFILES.values() if profile.name == name)
    body = _created(connect, stand_in, profile)
    assert (body.shard_number, body.replication_factor) == (profile.shards, profile.replicas)
    assert body.write_consistency_factor == profile.write_consistency
    assert body.on_disk_payload is (profile.payload_in is Tier.COLD)
    assert isinstance(body.vectors, models.VectorParams)
    assert (body.vectors.size, body.vectors.distance) == (SPACE.dimension, models.Distance.COSINE)
    assert body.vectors.memory == models.Memory(profile.originals_in.value)
    assert (body.vectors.datatype == models.Datatype.FLOAT16) is (profile.originals == "float16")
    graph = body.hnsw_config
    assert graph is not None
    assert (graph.m, graph.ef_construct) == (profile.m, profile.ef_construct)
    assert graph.memory == models.Memory(profile.graph_in.value)
    segments = body.optimizers_config
    assert (segments.default_segment_number if segments else None) == profile.segments
    assert (segments.max_segment_size if segments else None) == profile.segment_kb
    strict = body.strict_mode_config
    assert strict is not None
    assert strict.enabled
    assert strict.unindexed_filtering_retrieve is strict.unindexed_filtering_update is not profile.refuse_unindexed
    assert strict.search_allow_exact  # index recall is measured against it


@pytest.mark.parametrize(
    ("codes", "version", "expected"),
    [
        (Codes.TURBO4, OLD, {"scalar": {"type": models.ScalarType.INT8, "always_ram": True}}),
        (Codes.TURBO4, TURBO, {"turbo": {"bits": models.TurboQuantBitSize.BITS4, "always_ram": True}}),
        (Codes.TURBO4, NEW, {"turbo": {"bits": models.TurboQuantBitSize.BITS4, "memory": models.Memory.PINNED}}),
        (Codes.TURBO2, NEW, {"turbo": {"bits": models.TurboQuantBitSize.BITS2, "memory": models.Memory.PINNED}}),
        (Codes.TURBO1, OLD, {"binary": {"always_ram": True}}),
        (Codes.TURBO1, NEW, {"turbo": {"bits": models.TurboQuantBitSize.BITS1, "memory": models.Memory.PINNED}}),
        (Codes.BINARY, NEW, {"binary": {"memory": models.Memory.PINNED}}),
        (Codes.INT8, NEW, {"scalar": {"type": models.ScalarType.INT8, "memory": models.Memory.PINNED}}),
    ],
)
def test_every_kind_of_codes_is_asked_for_as_the_server_has_it(
    connect: Connect, stand_in: StandIn, codes: Codes, version: str, expected: object
) -> None:
    stand_in.version = version
    body = _created(connect, stand_in, replace(PROFILES["1m"], codes=codes))
    assert body.quantization_config is not None
    assert body.quantization_config.model_dump(exclude_none=True) == expected


@pytest.mark.parametrize("name", NAMES)
def test_an_old_server_is_told_what_it_knows(connect: Connect, stand_in: StandIn, name: str) -> None:
    """The stand-in refuses tiers before 1.19, TurboQuant and these limits before 1.18."""
    stand_in.version = OLD
    profile = next(profile for profile in PROFILES.values() if profile.name == name)
    body = _created(connect, stand_in, profile)
    assert isinstance(body.vectors, models.VectorParams)
    assert body.vectors.on_disk is (profile.originals_in is Tier.COLD)
    assert body.hnsw_config is not None
    assert body.hnsw_config.on_disk is (profile.graph_in is Tier.COLD)
    assert (body.shard_number, body.replication_factor) == (profile.shards, profile.replicas)


@pytest.mark.parametrize("name", NAMES)
def test_payload_indexes_lie_where_the_profile_says_and_the_tenants_is_pinned(
    connect: Connect, stand_in: StandIn, name: str
) -> None:
    profile = next(profile for profile in PROFILES.values() if profile.name == name)
    index = connect(profile)
    index.declare(FIELDS)
    index.declare(FIELDS)  # known already: nothing is made anew
    index.close()
    made = stand_in.info(str(SPACE.id)).payload_schema
    assert len([call for call in stand_in.calls if "index" in call.lower()]) == len(made)
    tenant = made["tenant"].params
    assert isinstance(tenant, models.KeywordIndexParams)
    assert tenant.is_tenant
    assert tenant.memory == models.Memory.PINNED
    assert ("notes" in made) is profile.refuse_unindexed  # for `exists`
    for field in FIELDS:
        if field.name not in made:
            continue
        params = made[field.name].params
        if profile.fields_in is Tier.PINNED and profile.field_links:
            assert params is None  # the server's own choice
        else:
            assert params is not None
            assert params.memory == models.Memory(profile.fields_in.value)
            assert (params.enable_hnsw is False) is not profile.field_links


@pytest.mark.parametrize("name", NAMES)
def test_queries_ask_for_what_the_profile_says(connect: Connect, stand_in: StandIn, name: str) -> None:
    profile = next(profile for profile in PROFILES.values() if profile.name == name)
    index = connect(profile)
    index.declare(FIELDS)
    index.upsert(numbered(3), embeddings(3), payloads(3))
    row, mine = embeddings(3).rows[0], Equals("tenant", "t0")
    stand_in.search_params.clear()
    index.query([ask(row, where=mine), ask(row, where=And((mine, Range("year", gte=1990)))), ask(row, exact=True)])
    index.close()
    plain, filtered, exact = stand_in.search_params
    assert plain is not None
    assert filtered is not None
    assert exact is not None
    for usual in (plain, filtered):
        assert usual.hnsw_ef == profile.ef
        assert usual.quantization is not None
        assert usual.quantization.rescore
        assert usual.quantization.oversampling == profile.oversampling
    assert plain.acorn is None
    assert (filtered.acorn is not None and filtered.acorn.enable is True) is profile.acorn
    assert exact.exact


@pytest.mark.parametrize("name", NAMES)
def test_limits_leave_room_for_all_that_we_ask(name: str) -> None:
    limits = next(profile for profile in PROFILES.values() if profile.name == name).limits
    assert limits.upsert_points >= server._POINTS_A_CALL
    assert limits.batched_queries >= server._QUERIES_A_CALL
    assert limits.filter_conditions > 4 * MAX_CONDITIONS  # a condition of ours becomes several of Qdrant's
    assert limits.condition_values > MAX_VALUES
    assert limits.query_limit > 4 * 2 * MAX_DEPTH  # the last page, asked again for ties


def test_every_filter_on_a_declared_field_has_its_index_and_others_are_refused(connect: Connect) -> None:
    index = connect(PROFILES["100m"])
    index.declare(FIELDS)
    index.upsert(numbered(50), embeddings(50), payloads(50))
    row = embeddings(1, seed=3).rows[0]
    for condition in (Exists("notes"), Not(Exists("taken")), Equals("public", value=True), Range("rating", gte=0)):
        assert index.query([ask(row, where=And((Equals("tenant", "t0"), condition)))])[0]
    with pytest.raises(InvalidInput, match=r"Index required but not found for .*'title'"):
        index.query([ask(row, where=Equals("title", "picture 1"))])
    index.declare([Field("late", FieldKind.KEYWORD)])
    assert index.query([ask(row, where=Not(Exists("late")))])[0]
    index.close()


def test_copies_can_be_chosen_and_most_of_them_are_waited_for(connect: Connect, stand_in: StandIn) -> None:
    body = _created(connect, stand_in, PROFILES["1m"].with_replicas(3))
    assert (body.shard_number, body.replication_factor, body.write_consistency_factor) == (1, 3, 2)
    assert PROFILES["100m"].with_replicas(None) == PROFILES["100m"]


@pytest.mark.server
@pytest.mark.parametrize("name", NAMES)
def test_a_real_server_takes_each_profile_and_finds_under_it(name: str) -> None:
    url = os.environ.get(REAL_SERVER)
    if url is None:
        pytest.skip(f"{REAL_SERVER} is not set")
    chosen = next(profile for profile in PROFILES.values() if profile.name == name).with_replicas(1)
    profile = replace(chosen, shards=min(chosen.shards, 2))
    index = ServerIndex.open(url, replace(SPACE, model=f"test-{uuid4().hex[:8]}"), profile=profile)
    try:
        index.declare(FIELDS)
        stored = embeddings(2000, space=index.space)
        index.upsert(numbered(2000), stored, payloads(2000))
        probes = Probes(embeddings(50, seed=5, space=index.space).rows, (None,) * 50)
        tenant = Equals("tenant", "t1")
        conditions: dict[str, Filter | None] = {
            "all": tenant,
            "some": And((tenant, Exists("notes"), Range("width", lt=2500))),
        }
        report = index_recall(index, probes, conditions=conditions)
        assert all(under.recall.value > 0.95 for under in report.conditions)
    finally:
        index.drop()


def test_exact_queries_go_a_few_at_a_time_and_may_take_long(connect: Connect, stand_in: StandIn) -> None:
    index = connect(PROFILES["1m"])
    index.upsert(numbered(50), embeddings(50), payloads(50))
    stand_in.calls.clear()
    rows = embeddings(10, seed=2).rows
    index.query([ask(row, exact=True) for row in rows])
    index.query([ask(row) for row in rows])
    index.close()
    asked = [call for call in stand_in.calls if "query" in call.lower()]
    assert len(asked) == 3 + 1
    if asked[0].startswith("POST"):
        assert ["timeout=120" in call for call in asked] == [True, True, True, False]


def test_a_collection_of_another_profile_is_used_and_the_difference_said(
    connect: Connect, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    first = connect(PROFILES["1m"])
    first.upsert(numbered(3), embeddings(3), payloads(3))
    first.close()
    with caplog.at_level(logging.WARNING):
        second = connect(PROFILES["100m"])
    assert second.count() == 3
    assert "made with 1 shards and keeps them; the profile 100m has 12" in caplog.text
    assert stand_in.created[str(SPACE.id)].shard_number == 1
    second.close()


def test_profiles_grow_with_what_they_are_for() -> None:
    profiles = [PROFILES[name] for name in NAMES]
    assert [profile.name for profile in profiles] == list(NAMES)
    for smaller, larger in pairwise(profiles):
        assert smaller.vectors < larger.vectors
        assert smaller.shards < larger.shards
        assert smaller.codes.bits >= larger.codes.bits
    assert all(profile.write_consistency <= profile.replicas for profile in profiles)
    assert all(profile.vectors / profile.shards <= 25e6 for profile in profiles)
    assert np.isfinite([profile.oversampling for profile in profiles]).all()
