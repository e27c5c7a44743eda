"""What both engines answer alike because it is built from queries: neighbours of stored points, means, groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phosphene.errors import InvalidQuery, NotFound
from phosphene.filters import And, Equals, Filter
from phosphene.types import Float32, PointId
from phosphene.vectors.base import ScoredPoint, VectorIndex, VectorQuery

_LEAST_LENGTH = 1e-3  # of a mean of unit vectors; below it what is left is rounding
_MOST_POINTS = 16_384  # looked at for groups


@dataclass(frozen=True, slots=True)
class PointGroup:
    """The best points that share a value of a payload key, best first."""

    value: str | int
    points: tuple[ScoredPoint, ...]


def mean_direction(vectors: Sequence[Float32], weights: Sequence[float] | None = None) -> Float32:
    """Average unit vectors, each (d,) float32, and scale to length 1; a negative weight leads away from its vector.

    Raises InvalidQuery where there are none, or they cancel out.
    """
    if not vectors:
        raise InvalidQuery("there is nothing to take the mean of")
    if weights is not None and len(weights) != len(vectors):
        raise InvalidQuery(f"{len(vectors)} vectors and {len(weights)} weights: give as many of each")
    shares = np.ones(len(vectors)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = float(np.abs(shares).sum())
    if not np.isfinite(total) or total == 0:
        raise InvalidQuery(f"weights are finite and not all 0: {list(shares)}")
    mean = (shares / total) @ np.stack(vectors).astype(np.float64)
    length = float(np.linalg.norm(mean))
    if length < _LEAST_LENGTH:
        raise InvalidQuery("the vectors cancel each other out: their mean has no direction")
    return np.asarray(mean / length, dtype=np.float32)


def stored_vectors(index: VectorIndex, ids: Sequence[PointId]) -> list[Float32]:
    """Return the vectors of these points in this order. Raises NotFound, naming one that isn't there."""
    found = index.vectors(ids)
    for identifier in ids:
        if identifier not in found:
            raise NotFound(f"there is no point {identifier} in the index of {index.space.id}")
    return [found[identifier] for identifier in ids]


def similar_to_each(
    index: VectorIndex,
    ids: Sequence[PointId],
    *,
    limit: int,
    within: Filter | None = None,
    exact: bool = False,
) -> list[list[ScoredPoint]]:
    """Find the nearest points of each stored point, without itself. Raises NotFound."""
    vectors = stored_vectors(index, ids)
    queries = [VectorQuery(vector, limit + 1, filter=within, exact=exact) for vector in vectors]
    answers = index.query(queries)
    return [_without(points, [own])[:limit] for own, points in zip(ids, answers, strict=True)]


def similar_to_all(
    index: VectorIndex,
    ids: Sequence[PointId],
    *,
    limit: int,
    within: Filter | None = None,
    exact: bool = False,
) -> list[ScoredPoint]:
    """Find the points nearest to the mean of stored points, without these. Raises NotFound, InvalidQuery."""
    mean = mean_direction(stored_vectors(index, ids))
    query = VectorQuery(mean, limit + len(ids), filter=within, exact=exact)
    return _without(index.query([query])[0], ids)[:limit]


def best_groups(index: VectorIndex, query: VectorQuery, *, key: str, per_group: int) -> list[PointGroup]:
    """Find the `query.limit` values of a payload key with the best points, and up to `per_group` points of each.

    Groups come in the order of their best points. A point with a list stands in the group of each element, one
    without the key in none.
    """
    if per_group < 1:
        raise InvalidQuery(f"per_group is at least 1, not {per_group}")
    values = _best_values(index, query, key)
    queries = [replace(query, limit=per_group, filter=_also(query.filter, Equals(key, value))) for value in values]
    answers = index.query(queries)
    return [PointGroup(value, tuple(points)) for value, points in zip(values, answers, strict=True)]


def _best_values(index: VectorIndex, query: VectorQuery, key: str) -> list[str | int]:
    """Look at more and more points until there are enough values."""
    limit = query.limit * 4
    while True:
        points = index.query([replace(query, limit=limit)])[0]
        values = list(dict.fromkeys(value for point in points for value in _values(point, key)))
        if len(values) >= query.limit or len(points) < limit or limit >= _MOST_POINTS:
            return values[: query.limit]
        limit *= 4


def _values(point: ScoredPoint, key: str) -> list[str | int]:
    value = point.payload.get(key)
    values = value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, str | int)]


def _also(first: Filter | None, second: Filter) -> Filter:
    return second if first is None else And((first, second))


def _without(points: Sequence[ScoredPoint], ids: Sequence[PointId]) -> list[ScoredPoint]:
    left_out = set(ids)
    return [point for point in points if point.id not in left_out]
