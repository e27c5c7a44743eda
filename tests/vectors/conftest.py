"""Every kind of vector index, each behind the same protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from phosphene.types import Space
from phosphene.vectors.base import VectorIndex
from phosphene.vectors.edge import EdgeIndex, Profile
from phosphene.vectors.server import ServerIndex
from tests.vectors.made import FIELDS, SPACE
from tests.vectors.qdrant_stand_in import RestServer, StandIn
from tests.vectors.qdrant_stand_in_grpc import GrpcServer

REAL_SERVER = "PHOSPHENE_TEST_QDRANT_URL"
KINDS = ["edge-flat", "edge-graph", "stand-in-rest", "stand-in-grpc", pytest.param("server", marks=pytest.mark.server)]

Opener = Callable[[Space], VectorIndex]


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def rest(stand_in: StandIn) -> Iterator[RestServer]:
    server = RestServer(stand_in)
    yield server
    server.stop()


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Open an index of a space; opened again it is the same one."""
    kind: str = request.param
    if kind.startswith("edge"):
        profile: Profile = "graph" if kind == "edge-graph" else "flat"
        yield lambda space: EdgeIndex.open(tmp_path / space.id, space, profile=profile, graph_from=500)
    elif kind == "server":
        url = os.environ.get(REAL_SERVER)
        if url is None:
            pytest.skip(f"{REAL_SERVER} is not set")
        yield lambda space: ServerIndex.open(url, space)
    else:
        stand_in = StandIn()
        rest, grpc = RestServer(stand_in), GrpcServer(stand_in)
        yield lambda space: ServerIndex.open(rest.url, space, grpc_port=grpc.port if kind == "stand-in-grpc" else None)
        grpc.stop()
        rest.stop()


@pytest.fixture
def index(opener: Opener) -> Iterator[VectorIndex]:
    """An empty index with the fields declared, of a space of its own: a real server may have leftovers."""
    opened = opener(replace(SPACE, model=f"test-{uuid4().hex[:8]}"))
    opened.declare(FIELDS)
    yield opened
    opened.drop()
