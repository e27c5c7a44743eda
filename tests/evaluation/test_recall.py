"""Index recall: against brute force, and where the index is known to miss what it misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.assemble import Engine
from phosphene.errors import InvalidInput
from phosphene.evaluation.recall import (
    SIZE,
    Probes,
    conditions_of,
    index_recall,
    sample_assets,
    share_found,
)
from phosphene.filters import Filter
from phosphene.types import DEFAULT_TENANT, Float32, PointId, Space, TenantId
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery
from tests.demo import PICTURES


def _point(number: int, score: float = 0.0) -> ScoredPoint:
    return ScoredPoint(PointId(UUID(int=number)), score, {})


class ForgetfulIndex:
    """A real index of which each answer that is not exact loses its second hit: what a bad graph would do."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)

    @property
    def space(self) -> Space:
        return self._index.space

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        return self._index.count(filter)

    def query(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        deeper = [replace(query, limit=query.limit + 1) for query in queries]
        answers = self._index.query(deeper)
        return [
            points if query.exact else points[:1] + points[2:] for query, points in zip(queries, answers, strict=True)
        ]


def test_the_demo_is_found_as_exactly_as_by_brute_force(demo: Engine) -> None:
    probes = Probes.stored(demo.index, 200, catalog=demo.catalog, tenant=DEFAULT_TENANT)
    conditions = conditions_of(demo.catalog, tenant=DEFAULT_TENANT)
    report = index_recall(demo.index, probes, k=10, conditions=conditions)
    assert (report.k, report.questions, report.points) == (10, 200, PICTURES)
    assert [under.condition for under in report.conditions] == ["no filter", "50 %", "10 %", "1 %"]
    assert [under.points for under in report.conditions] == pytest.approx([PICTURES, 530, 106, 11], abs=3)
    assert all(under.recall.value >= 0.99 for under in report.conditions)
    assert all(under.index_ms > 0 and under.exact_ms > 0 for under in report.conditions)


def test_a_filter_leaves_the_pictures_with_the_smallest_files(demo: Engine) -> None:
    tenth = conditions_of(demo.catalog, tenant=DEFAULT_TENANT, shares=[0.1])["10 %"]
    sizes = sorted(asset.bytes for asset in demo.catalog.page_assets(tenant=DEFAULT_TENANT, after=None, limit=5000))
    found = demo.index.query([VectorQuery(_any_row(demo), PICTURES, tenth)])[0]
    largest = max(int(str(point.payload[SIZE])) for point in found)
    assert largest == sizes[len(found) - 1]
    assert len(found) == pytest.approx(0.1 * PICTURES, abs=2)


def _any_row(engine: Engine) -> Float32:
    row: Float32 = engine.encoder.encode_texts(["anything"]).unit().rows[0]
    return row


def test_what_an_index_misses_is_counted(demo: Engine) -> None:
    probes = Probes.stored(demo.index, 50, catalog=demo.catalog, tenant=DEFAULT_TENANT)
    report = index_recall(ForgetfulIndex(demo.index), probes, k=10)  # type: ignore[arg-type]  # the rest by __getattr__
    (under,) = report.conditions
    # The first hit of a stored picture is itself and no answer, so the second is the nearest: lost each time, but
    # for pictures that have a twin, where either may come first.
    assert under.recall.value == pytest.approx(0.9, abs=0.01)
    assert under.worst == pytest.approx(0.9, abs=0.01)


def test_texts_can_be_probes_too(demo: Engine) -> None:
    texts = demo.encoder.encode_texts(["a dog", "a house", "something round"]).unit()
    report = index_recall(demo.index, Probes.of(texts), k=5)
    assert report.questions == 3
    assert report.conditions[0].recall.value == 1


def test_nothing_to_ask_is_refused(demo: Engine) -> None:
    nobody = TenantId("nobody")
    probes = Probes.stored(demo.index, 10, catalog=demo.catalog, tenant=nobody)
    assert probes.rows.shape == (0, demo.index.space.dimension)
    with pytest.raises(InvalidInput, match="not 0 and 10"):
        index_recall(demo.index, probes)
    assert list(conditions_of(demo.catalog, tenant=nobody)) == ["no filter"]


@pytest.mark.parametrize("count", [10, 400, 600, 5000])
def test_a_sample_is_spread_and_has_no_picture_twice(demo: Engine, count: int) -> None:
    drawn = sample_assets(demo.catalog, count, tenant=DEFAULT_TENANT)
    assert len({asset.id for asset in drawn}) == len(drawn) == min(count, PICTURES)
    assert [asset.id for asset in sample_assets(demo.catalog, count, tenant=DEFAULT_TENANT)] == [a.id for a in drawn]
    if count == 400:
        every = np.array([asset.id.int for asset in drawn], dtype=float) / 2**128
        assert np.mean(every < 0.5) == pytest.approx(0.5, abs=0.15)
    other = sample_assets(demo.catalog, count, tenant=DEFAULT_TENANT, seed=1)
    assert count >= PICTURES or {asset.id for asset in other} != {asset.id for asset in drawn}


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.9, 0.8, 0.8, 0.7, 0.1]), max_size=20),
    k=st.integers(1, 10),
    data=st.data(),
)
def test_the_share_found_is_of_the_nearest_with_ties_left_open(
    scores: list[float], k: int, data: st.DataObject
) -> None:
    exact = [_point(number, score) for number, score in enumerate(sorted(scores, reverse=True))]
    found = data.draw(st.lists(st.sampled_from(exact), unique_by=lambda point: point.id, max_size=k)) if exact else []
    got = share_found(found, exact, k)
    if not exact:
        assert got == 1
        return
    # By definition: best choice of k among equals.
    bar = exact[:k][-1].score
    certain = {point.id for point in exact[:k] if point.score > bar}
    free = min(k, len(exact)) - len(certain)
    tied = sum(point.score == bar for point in found)
    right = sum(point.id in certain for point in found) + min(tied, free)
    assert got == pytest.approx(right / min(k, len(exact)))


def test_an_index_that_finds_the_nearest_in_any_order_has_found_them() -> None:
    exact = [_point(number, 1 - number / 10) for number in range(8)]
    assert share_found(exact[:4][::-1], exact, 4) == 1
    assert share_found(exact[1:5], exact, 4) == 0.75
    assert share_found([], exact, 4) == 0
