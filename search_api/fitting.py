"""How well a picture fits a board: by the pictures of the board that are most like it, not by the average of all.

A board of cats and boats has room for either; the mean of its embeddings would ask for something in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phosphene.assemble import Engine
from phosphene.catalog.records import Asset
from phosphene.errors import InvalidQuery
from phosphene.filters import Filter, tenant_filter
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, CollectionId, Float32, PointId, SpaceId, TenantId, point_id
from phosphene.vectors.base import VectorQuery, asset_of
from search_api import remainder
from search_api.arrange import Entry
from search_api.remainder import Remainder

NEAREST = 3  # pictures of the board that a fit is the mean of
EXAMPLES = 32  # of the board, evenly spread, that the index is asked with
LISTED = 200  # pictures that fit, on all pages together
FEWEST = 5  # pictures that have an odd one out among them
THRESHOLD = 3.5  # of the robust z-score: Iglewicz and Hoaglin's
_ROWS = 512  # at a time, so that a large board takes 20 MB and not 400
_VECTORS = 5000  # at a time
_SIGMA_OF_MAD = 1.4826  # standard deviations of a normal distribution, by its median absolute deviation
_SIGMA_OF_MEAN_AD = 1.2533  # and by its mean absolute deviation


@dataclass(frozen=True, slots=True)
class Fitting:
    """A picture, and how well it fits a board; `z` where it is on the board."""

    asset: Asset
    fit: float  # mean cosine with the board's pictures that are most like it, -1..1
    z: float | None = None  # standard deviations, robust; far below 0: it does not fit


@dataclass(frozen=True, slots=True)
class Fits:
    """Pictures and how they fit, of one space; `compared`: pictures of the board that have an embedding there."""

    space: SpaceId
    compared: int
    found: tuple[Fitting, ...]
    next_cursor: str | None = None


def fits(rows: Float32, board: Float32, *, leave_one_out: bool = False) -> Float32:
    """Give the mean cosine of each row with its 3 nearest of the board: (n,) float32, -1..1.

    Both are unit embeddings, (n, d) and (m, d). `leave_one_out`: rows are the board itself, and none of them counts as
    its own neighbour; m is at least 2 then. With fewer than 3 neighbours it is the mean of those there are.
    """
    nearest = min(NEAREST, len(board) - leave_one_out)
    found = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        cosines = np.array(rows[start : start + _ROWS] @ board.T, dtype=np.float32)
        if leave_one_out:
            at = np.arange(len(cosines))
            cosines[at, start + at] = -np.inf
        found[start : start + _ROWS] = -np.partition(-cosines, nearest - 1, axis=1)[:, :nearest].mean(axis=1)
    return np.clip(found, -1, 1)


def robust_z(values: Float32) -> Float32:
    """Give how many standard deviations each value (n,) lies above the median, told by what most of them do.

    z = (x - median) / (1.4826 * MAD), with MAD the median of |x - median|: Iglewicz and Hoaglin 1993, How to Detect and
    Handle Outliers, who call |z| > 3.5 an outlier. Where more than half are alike and MAD is 0, the scale is 1.2533
    times the mean of |x - median|; where all are alike, every z is 0.
    """
    off = np.asarray(values, dtype=np.float64) - np.median(values)
    scale = _SIGMA_OF_MAD * np.median(np.abs(off)) or _SIGMA_OF_MEAN_AD * np.mean(np.abs(off))
    return np.asarray(off / scale if scale > 0 else np.zeros_like(off), dtype=np.float32)


def more_for(
    board: CollectionId,
    *,
    limit: int,
    filter_: Filter | None,
    engine: Engine,
    tenant: TenantId,
    cursor: str | None = None,
) -> Fits:
    """Find pictures that fit a board best and are not on it, best first.

    The index is asked with up to 32 pictures of the board, evenly spread over its order; what it finds is ordered by
    `fits` with all of them. The first page decides the list, LISTED pictures at most, and its cursor carries the rest;
    what is put on the board meanwhile is left out. Raises NotFound, InvalidCursor, InvalidQuery for a board without
    embedded pictures.
    """
    with engine.answering() as space:
        ids = [item.asset_id for item in engine.catalog.collections.items(tenant, board)]
        vectors = _vectors(ids, space)
        if not vectors:
            raise InvalidQuery("nothing on this board has an embedding: put pictures on it, or wait for their ingest")
        rows = np.stack(list(vectors.values()))
        name = hashlib.sha256(repr((tenant, board, space.space.id, filter_)).encode()).hexdigest()[:20]
        if cursor is None:
            fitting = _fitting(rows, set(ids), filter_=filter_, space=space, tenant=tenant)
        else:
            on_board = set(ids)
            fitting = [one for one in remainder.decode(cursor, query=name).entries if one.asset not in on_board]
        page, rest = fitting[:limit], tuple(fitting[limit:])
        assets = engine.catalog.assets(tenant, [one.asset for one in page])
        shown = (Fitting(assets[one.asset], one.score) for one in page if one.asset in assets)
        following = Remainder(name, rest, None).encode() if rest else None
        return Fits(space.space.id, len(rows), tuple(shown), following)


def _fitting(
    rows: Float32, on_board: set[AssetId], *, filter_: Filter | None, space: OpenSpace, tenant: TenantId
) -> list[Entry]:
    """Give the pictures that fit a board with rows (m, d) best, with their fits, best first."""
    own = {point_id(id_, space.space.id) for id_ in on_board}
    spread = np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).round().astype(int))
    found = _candidates(rows[spread], own, limit=LISTED, filter_=filter_, space=space, tenant=tenant)
    near = _points(list(found), space)
    points = [point for point in found if point in near]
    if not points:
        return []
    how = fits(np.stack([near[point] for point in points]), rows)
    best = sorted(zip(points, how.tolist(), strict=True), key=lambda one: (-one[1], one[0]))
    return [Entry(found[point], fit) for point, fit in best[:LISTED]]


def outliers_of(board: CollectionId, *, limit: int, engine: Engine, tenant: TenantId) -> Fits:
    """List the pictures of a board that fit it least, worst first.

    Each is compared with the others by `fits`, itself left out, and what that gives by `robust_z`. Raises NotFound,
    InvalidQuery for fewer than 5 pictures.
    """
    with engine.answering() as space:
        ids = [item.asset_id for item in engine.catalog.collections.items(tenant, board)]
        vectors = _vectors(ids, space)
        if len(vectors) < FEWEST:
            raise InvalidQuery(
                f"{len(vectors)} pictures of this board have an embedding: an odd one out takes {FEWEST} or more"
            )
        how = fits(np.stack(list(vectors.values())), np.stack(list(vectors.values())), leave_one_out=True)
        ranked = sorted(zip(robust_z(how).tolist(), how.tolist(), vectors, strict=True))[:limit]
        assets = engine.catalog.assets(tenant, [id_ for _, _, id_ in ranked])
        shown = (Fitting(assets[id_], fit, z) for z, fit, id_ in ranked if id_ in assets)
        return Fits(space.space.id, len(vectors), tuple(shown))


def _candidates(
    examples: Float32,
    own: set[PointId],
    *,
    limit: int,
    filter_: Filter | None,
    space: OpenSpace,
    tenant: TenantId,
) -> dict[PointId, AssetId]:
    """Find the `limit` points nearest to each example that are not the board's own, as far as there are so many."""
    asked = tenant_filter(tenant, filter_)
    fetch = limit + min(len(own), limit)
    while True:
        lists = space.index.query([VectorQuery(row, fetch, asked) for row in examples])
        found: dict[PointId, AssetId] = {}
        for points in lists:
            fresh = [point for point in points if point.id not in own][:limit]
            found |= {point.id: asset_of(point) for point in fresh}
        if len(found) >= limit or all(len(points) < fetch for points in lists):
            return found
        fetch *= 4  # the board's own pictures are nearest to each other


def _vectors(ids: Sequence[AssetId], space: OpenSpace) -> dict[AssetId, Float32]:
    """Read the vectors of those pictures that have one, in their order."""
    by_point = _points([point_id(id_, space.space.id) for id_ in ids], space)
    named = ((id_, point_id(id_, space.space.id)) for id_ in ids)
    return {id_: by_point[point] for id_, point in named if point in by_point}


def _points(points: Sequence[PointId], space: OpenSpace) -> dict[PointId, Float32]:
    found: dict[PointId, Float32] = {}
    for start in range(0, len(points), _VECTORS):
        found |= space.index.vectors(points[start : start + _VECTORS])
    return found
