"""The order of a list, where another is asked for than by score: diverse, without duplicates, in groups, reranked.

The best hits (ARRANGED of them) are put in order once, with the first page; its cursor carries what comes after, so
that pages fit together whatever comes in meanwhile. Behind a list that is only reordered the others follow by score.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import InvalidQuery
from phosphene.types import AssetId, Field, FieldKind, Float32, PointId
from phosphene.vectors.base import ScoredPoint, asset_of

ARRANGED = 500  # hits
SPREAD = 100  # of these; among more, far ones that are like nothing else come to the front
NEAR_DUPLICATES = "near_duplicates"  # what group_by also takes
NEAR_DUPLICATE = 0.96  # cosine of two pictures that were not compared yet: a rule of thumb
MAX_GROUP = 12
_GROUPABLE = (FieldKind.KEYWORD, FieldKind.INTEGER)

Vectors = Callable[[Sequence[PointId]], Mapping[PointId, Float32]]


@dataclass(frozen=True, slots=True)
class Compared:
    """What the catalogue knows of near-duplicates: clusters of the pictures that have some, and which were compared."""

    cluster_of: Mapping[AssetId, UUID] = field(default_factory=dict)
    compared: AbstractSet[AssetId] = frozenset()


Known = Callable[[Sequence[AssetId]], Compared]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How a list is to be arranged; as it comes, it is by score.

    `diversity` 0..1: how much a hit loses for being like one above it. `group_by`: a field, or NEAR_DUPLICATES.
    """

    diversity: float = 0.0
    collapse: bool = False
    group_by: str | None = None
    group_size: int = 4
    rerank: bool | None = None  # None: where the deployment has a hook

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises InvalidQuery."""
        if not 0 <= self.diversity <= 1:
            raise InvalidQuery(f"diversity is 0 to 1, not {self.diversity}")
        if not 1 <= self.group_size <= MAX_GROUP:
            raise InvalidQuery(f"group_size is 1 to {MAX_GROUP}, not {self.group_size}")
        if self.collapse and self.group_by == NEAR_DUPLICATES:
            raise InvalidQuery("collapse leaves no duplicates to group by: ask for one of them")

    @property
    def plain(self) -> bool:
        """Whether the list stays as it is."""
        return not (self.diversity or self.collapse or self.group_by or self.rerank)

    def names(self, question: str) -> str:
        """Name the list that this makes of a question's: 20 hex digits."""
        return question if self.plain else hashlib.sha256(f"{self!r} {question}".encode()).hexdigest()[:20]


PLAIN = Arrangement()


def checked(arrangement: Arrangement, fields: Sequence[Field]) -> Arrangement:
    """Look up what is grouped by. Raises InvalidQuery for a field that is unknown or whose values make no groups."""
    name = arrangement.group_by
    if name is None or name == NEAR_DUPLICATES:
        return arrangement
    groupable = sorted(field.name for field in fields if field.kind in _GROUPABLE)
    if name not in groupable:
        raise InvalidQuery(f"group_by: {name!r} makes no groups. Choose {NEAR_DUPLICATES} or {', '.join(groupable)}")
    return arrangement


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in a list: a picture, and what was folded into it, best first.

    `value` is that of the group, None where the picture has none. `folded` counts the duplicates left out,
    `by_cosine` how many of these, or of `others` where those are duplicates, are told by the cosine alone.
    """

    asset: AssetId
    score: float
    others: tuple[tuple[AssetId, float], ...] = ()
    value: str | int | None = None
    folded: int = 0
    by_cosine: int = 0

    @classmethod
    def of(cls, point: ScoredPoint) -> Entry:
        """Give the place of one picture alone."""
        return cls(asset_of(point), point.score)


def arranged(
    points: Sequence[ScoredPoint], worth: Sequence[float], how: Arrangement, *, vectors: Vectors, known: Known
) -> list[Entry]:
    """Put the best hits in order. `worth` is what each counts for beside the others: its score, unless reranked.

    First duplicates go, then what is alike is spread, then groups are made. `vectors` gives unit vectors, each (d,)
    float32; a point that is gone is left out. `known` gives what was compared.
    """
    listed = list(points)
    worth_of = {point.id: one for point, one in zip(points, worth, strict=True)}
    rows = np.zeros((0, 0), dtype=np.float32)
    if how.collapse or how.diversity or how.group_by == NEAR_DUPLICATES:
        stored = vectors([point.id for point in listed])
        listed = [point for point in listed if point.id in stored]
        rows = np.stack([stored[point.id] for point in listed]) if listed else rows
    alike: list[Leader] = []
    if how.collapse or how.group_by == NEAR_DUPLICATES:
        assets = [asset_of(point) for point in listed]
        alike = near_duplicates(rows, assets, known(assets))
    if how.group_by == NEAR_DUPLICATES:
        order = _spread_first(listed, rows, worth_of, how.diversity)
        return _grouped_alike([listed[place] for place in order], [alike[place] for place in order], how.group_size)
    kept = list(range(len(listed)))
    if how.collapse:
        kept = [place for place, one in enumerate(alike) if one.place == place]
    folded = Counter(one.place for place, one in enumerate(alike) if one.place != place)
    guessed = Counter(one.place for one in alike if one.by_cosine)
    if how.diversity:
        order = _spread_first([listed[place] for place in kept], rows[kept], worth_of, how.diversity)
        kept = [kept[place] for place in order]
    entries = [
        Entry(asset_of(listed[place]), listed[place].score, folded=folded[place], by_cosine=guessed[place])
        for place in kept
    ]
    if how.group_by is None:
        return entries
    values = [group_value(listed[place], how.group_by) for place in kept]
    return _grouped([listed[place] for place in kept], values, how.group_size, entries)


def _spread_first(
    points: Sequence[ScoredPoint], rows: Float32, worth_of: Mapping[PointId, float], diversity: float
) -> list[int]:
    first = spread([worth_of[point.id] for point in points[:SPREAD]], rows[:SPREAD], diversity)
    return [*first, *range(len(first), len(points))]


def spread(scores: Sequence[float], rows: Float32, diversity: float) -> list[int]:
    """Order n hits by maximal marginal relevance: Carbonell and Goldstein, SIGIR 1998, lambda = 1 - diversity.

    rows is (n, d) of length 1, best first. Scores and likenesses are brought to 0..1 over these hits, since cosines of
    words and pictures are much smaller than those of pictures with each other. Diversity 0 leaves the order.
    """
    count = len(scores)
    if count < 3 or not diversity:
        return list(range(count))
    relevance = _scaled(np.asarray(scores, dtype=np.float64), low=min(scores), high=max(scores))
    likeness = rows.astype(np.float64) @ rows.T.astype(np.float64)
    likeness = np.clip(_scaled(likeness, low=float(likeness.mean()), high=1.0), 0.0, 1.0)
    nearest = np.zeros(count)  # to what was taken, of each
    left = np.ones(count, dtype=bool)
    order: list[int] = []
    for _ in range(count):
        worth = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        taken = int(np.argmax(worth)) if order else 0
        order.append(taken)
        left[taken] = False
        nearest = np.maximum(nearest, likeness[taken])
    return order


def _scaled(values: NDArray[np.float64], *, low: float, high: float) -> NDArray[np.float64]:
    return (values - low) / max(high - low, 1e-9)


@dataclass(frozen=True, slots=True)
class Leader:
    """The place of the first hit that one is nearly the same picture as, itself where there is none."""

    place: int
    by_cosine: bool = False


def near_duplicates(rows: Float32, assets: Sequence[AssetId], known: Compared) -> list[Leader]:
    """Tell for each of n pictures, best first, with rows (n, d) of length 1, which before it is nearly the same.

    Pictures of one cluster are. Of two that were both compared no others are; else a cosine of NEAR_DUPLICATE tells.
    """
    leaders: list[Leader] = []
    kept: list[int] = []
    first_of: dict[UUID, int] = {}
    compared = np.array([asset in known.compared for asset in assets], dtype=np.bool_)
    for place, asset in enumerate(assets):
        cluster = known.cluster_of.get(asset)
        if cluster is not None and cluster in first_of:
            leaders.append(Leader(first_of[cluster]))
            continue
        near = rows[kept] @ rows[place] >= NEAR_DUPLICATE if kept else np.zeros(0, dtype=np.bool_)
        if compared[place]:
            near &= ~compared[kept]
        leader = Leader(kept[int(near.argmax())], by_cosine=True) if near.any() else Leader(place)
        leaders.append(leader)
        if leader.place == place:
            kept.append(place)
        if cluster is not None:
            first_of[cluster] = leader.place
    return leaders


def group_value(point: ScoredPoint, key: str) -> str | int | None:
    """Give the value that a picture is grouped by: of a list the first; None where it has none."""
    value = point.payload.get(key)
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, str | int) else None


def _grouped(
    points: Sequence[ScoredPoint], values: Sequence[str | int | None], size: int, entries: Sequence[Entry]
) -> list[Entry]:
    """Fold points that share a value into the first of them, `size` in all; one without stands for itself."""
    groups: dict[object, Entry] = {}
    for place, (point, value) in enumerate(zip(points, values, strict=True)):
        key: object = (place,) if value is None else value
        first = groups.get(key)
        if first is None:
            groups[key] = replace(entries[place], value=value)
        elif len(first.others) + 1 < size:
            groups[key] = replace(first, others=(*first.others, (asset_of(point), point.score)))
    return list(groups.values())


def _grouped_alike(points: Sequence[ScoredPoint], alike: Sequence[Leader], size: int) -> list[Entry]:
    """Fold duplicates into the first of them, `size` in all, and count those beyond."""
    groups: dict[int, Entry] = {}
    for point, leader in zip(points, alike, strict=True):
        first = groups.get(leader.place)
        if first is None:
            groups[leader.place] = Entry(asset_of(point), point.score, by_cosine=int(leader.by_cosine))
            continue
        more = replace(first, by_cosine=first.by_cosine + leader.by_cosine)
        if len(first.others) + 1 < size:
            groups[leader.place] = replace(more, others=(*first.others, (asset_of(point), point.score)))
        else:
            groups[leader.place] = replace(more, folded=first.folded + 1)
    return list(groups.values())
