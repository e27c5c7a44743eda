"""Walks on the unit sphere of embeddings: between pictures, and along the difference of two captions.

Ramesh et al. 2022 (arXiv 2204.06125), sections 3.2 and 3.3. Computed in float64: near 0 and π cosines lose all digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NewType

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import InvalidQuery

Direction = NewType("Direction", NDArray[np.float64])  # (d,), of length 1

_TINY = 1e-6  # lengths and angles below it carry no direction in float32
_CONVERGED = 1e-12  # radians
_MAX_ROUNDS = 200


def direction(vector: NDArray[np.floating]) -> Direction:
    """Scale a vector (d,) to length 1. Raises InvalidQuery where it has no direction."""
    wide = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(wide))
    if not np.isfinite(length) or length < _TINY:
        raise InvalidQuery(f"a vector of length {length:g} has no direction")
    return Direction(wide / length)


def angle(a: Direction, b: Direction) -> float:
    """Angle between two directions in radians, 0..π, exact where the cosine is not (Kahan 2006, section 12)."""
    return 2 * float(np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b)))


def slerp(a: Direction, b: Direction, t: float) -> Direction:
    """Walk the great circle from a (t = 0) to b (t = 1).

    Raises InvalidQuery where a and b are opposite: there is no shortest way.
    """
    if not 0 <= t <= 1:
        raise InvalidQuery(f"a place between two embeddings is 0..1, not {t:g}")
    between = angle(a, b)
    if np.pi - between < _TINY:
        raise InvalidQuery("two embeddings are opposite: there is no way between them that is shorter than others")
    if between < _TINY:
        return direction((1 - t) * a + t * b)
    return direction((np.sin((1 - t) * between) * a + np.sin(t * between) * b) / np.sin(between))


def spherical_mean(directions: Sequence[Direction], weights: Sequence[float]) -> Direction:
    """Blend directions by weights > 0: the point whose weighted squared angles to them are least.

    For two it is slerp; for more it depends on no order, as a chain of slerps would. Buss and Fillmore 2001,
    "Spherical averages and applications to spherical splines and interpolation". Raises InvalidQuery where they cancel
    each other out.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if not directions or shares.shape != (len(directions),):
        raise InvalidQuery(f"{len(directions)} embeddings can't be blended by {len(shares)} weights")
    if not np.isfinite(shares).all() or (shares <= 0).any():
        raise InvalidQuery("weights of a blend are above 0")
    shares /= shares.sum()
    points = np.stack(directions)
    total = shares @ points
    if np.linalg.norm(total) < _TINY:
        raise InvalidQuery("these embeddings cancel each other out: change their weights")
    mean = direction(total)
    for _ in range(_MAX_ROUNDS):
        step = shares @ np.stack([_towards(mean, Direction(point)) for point in points])
        length = float(np.linalg.norm(step))
        if length < _CONVERGED:
            break
        mean = direction(np.cos(length) * mean + np.sin(length) * step / length)
    return mean


def text_diff(image: Direction, *, before: Direction, after: Direction, theta: float) -> Direction:
    """Turn a picture from what one caption says towards what another says.

    The embeddings of the captions give the direction of change `after - before`; the picture's embedding is rotated
    towards it by slerp. theta is 0 (nothing changes) to 1; the paper uses 0.25..0.5. Section 3.3. Raises InvalidQuery
    where the captions mean the same to the model.
    """
    change = after - before
    if np.linalg.norm(change) < _TINY:
        raise InvalidQuery("the two captions of the edit mean the same to this model: there is nothing to change")
    return slerp(image, direction(change), theta)


def _towards(start: Direction, point: Direction) -> NDArray[np.float64]:
    """Give the tangent at `start` that leads to `point`, as long as the angle between them."""
    between = angle(start, point)
    if np.pi - between < _TINY:
        raise InvalidQuery("two embeddings are opposite: a blend of them has no direction")
    sideways = point - float(start @ point) * start
    length = float(np.linalg.norm(sideways))
    return sideways * (between / length) if length > 0 else np.zeros_like(start)
