"""Random filters: the embedded engine, the client's local engine and plain Python select the same points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from phosphene.filters import And, AnyOf, Equals, Exists, Filter, Inside, Not, Or, Range, Within
from phosphene.types import PointId
from phosphene.vectors.base import VectorIndex
from phosphene.vectors.edge import EdgeIndex
from phosphene.vectors.profiles import PROFILES
from phosphene.vectors.server import ServerIndex
from tests.vectors.made import FIELDS, PLACES, SPACE, ask, embeddings, matches, numbered, payloads

COUNT = 600
ROWS, SAID = embeddings(COUNT), payloads(COUNT, seed=3)
WORDS = ["animals", "people", "cat", "dog", "łódź", "a b", "", "t1", "picture 3"]
WORD_FIELDS = ["category", "keywords", "tenant", "title", "year", "nothing_has_this"]
NUMBER_FIELDS = ["year", "rating", "width", "public", "generated", "category"]
DATES = ["2024-05-17", "2024-05-17T12:00:00Z", "2024-05-17T12:00:00+02:00", "1999-12-31T23:59:59.5Z", "2030-01-01"]

numbers = st.integers(-10, 5000) | st.sampled_from([1990, 1991, 2024, 0, 1]) | st.floats(-10, 5000, width=32)
bounds = st.lists(st.sampled_from(["gte", "gt", "lte", "lt"]), min_size=1, max_size=3, unique=True)
# Not nearer to the edge of a circle than engines round: sizes that no two of PLACES are apart from each other.
centres = st.sampled_from([*((place["lat"], place["lon"]) for place in PLACES), (51.0, 10.0), (89.0, -120.0)])
latitudes = st.sampled_from([-90.0, -17.7, 0.0, 48.0, 50.0, 52.52, 90.0])
longitudes = st.sampled_from([-180.0, -179.5, 0.0, 2.0, 13.405, 178.5, 180.0])
areas = st.one_of(
    st.builds(
        lambda centre, radius_m: Within("place", centre[0], centre[1], radius_m),
        centres,
        st.sampled_from([1.0, 500.0, 5_000.0, 300_000.0, 1e6, 9e6, 2.01e7]),
    ),
    st.builds(
        lambda sides, west, east: Inside("place", min(sides), west, max(sides), east),
        st.tuples(latitudes, latitudes),
        longitudes,
        longitudes,
    ),
)
conditions = st.one_of(
    areas,
    st.builds(Equals, st.sampled_from(WORD_FIELDS), st.sampled_from(WORDS)),
    st.builds(Equals, st.sampled_from(NUMBER_FIELDS), st.booleans() | st.integers(-5, 2024)),
    st.builds(AnyOf, st.sampled_from(WORD_FIELDS), st.lists(st.sampled_from(WORDS), max_size=3).map(tuple)),
    st.builds(AnyOf, st.sampled_from(NUMBER_FIELDS), st.lists(st.integers(-5, 2024), max_size=3).map(tuple)),
    st.builds(Exists, st.sampled_from([field.name for field in FIELDS] + ["nothing_has_this", "asset_id"])),
    st.builds(
        lambda field, names, values: Range(field, **dict(zip(names, values, strict=False))),
        st.sampled_from(NUMBER_FIELDS),
        bounds,
        st.lists(numbers, min_size=3, max_size=3),
    ),
    st.builds(
        lambda names, values: Range("taken", **dict(zip(names, values, strict=False))),
        bounds,
        st.lists(st.sampled_from(DATES), min_size=3, max_size=3),
    ),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, VectorIndex]]:
    """The same points in a growing segment, with and without payload indexes, an optimised one, the local engine."""
    folder: Path = tmp_path_factory.mktemp("filters")
    local = ServerIndex(QdrantClient(":memory:"), SPACE, "memory", profile=PROFILES["1m"], version=(1, 20))
    local._client.create_collection(
        str(SPACE.id), vectors_config=models.VectorParams(size=SPACE.dimension, distance=models.Distance.COSINE)
    )
    made: dict[str, VectorIndex] = {
        "flat": EdgeIndex.open(folder / "flat", SPACE, profile="flat"),
        "undeclared": EdgeIndex.open(folder / "undeclared", SPACE, profile="flat"),
        "graph": EdgeIndex.open(folder / "graph", SPACE, profile="graph", graph_from=500),
        "local": local,
    }
    for name in ("flat", "graph"):
        made[name].declare(FIELDS)
    for index in made.values():
        index.upsert(numbered(COUNT), ROWS, SAID)
    assert made["graph"].optimise()
    yield made
    for index in made.values():
        index.close()


@pytest.mark.filterwarnings("ignore:Local mode performs exact")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=filters)
def test_all_engines_select_the_same_points(indexes: dict[str, VectorIndex], source: Filter) -> None:
    expected = {number for number, payload in zip(numbered(COUNT), SAID, strict=True) if matches(source, payload)}
    for name, index in indexes.items():
        assert index.count(source) == len(expected), name
        found = index.query([ask(ROWS.rows[0], limit=COUNT, where=source, exact=True)])[0]
        assert {point.id for point in found} == expected, name


@pytest.fixture(scope="module")
def scrolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeIndex]:
    index = EdgeIndex.open(tmp_path_factory.mktemp("scroll"), SPACE, profile="flat")
    yield index
    index.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.sets(st.uuids(), min_size=1, max_size=80),
    page=st.integers(1, 30),
    gone=st.integers(0, 20),
    ends=st.sets(st.sampled_from([UUID(int=0), UUID(int=1), UUID(int=2**128 - 1)])),
)
def test_scroll_goes_through_all_ids_in_order(
    scrolled: EdgeIndex, ids: set[UUID], page: int, gone: int, ends: set[UUID]
) -> None:
    scrolled.delete([point.id for point in scrolled.scroll(after=None, limit=1000)])
    every = [PointId(identifier) for identifier in ids | ends]
    scrolled.upsert(every, embeddings(len(every)), [{"tenant": "a"}] * len(every))
    scrolled.delete(every[:gone])
    seen: list[PointId] = []
    while points := scrolled.scroll(after=seen[-1] if seen else None, limit=page):
        seen += [point.id for point in points]
    assert seen == sorted(every[gone:])
