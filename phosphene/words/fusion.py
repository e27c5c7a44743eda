"""Two ranked lists made one: by ranks, or by scores.

What stands first in both comes first; what only one of them has comes where that one's weight puts it. Of equal sums
the smaller id comes first, so the same two lists always give the same third, in whatever order equals came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from phosphene.errors import InvalidQuery
from phosphene.types import PointId

RANK_OFFSET = 60  # Cormack, Clarke and Büttcher 2009 (SIGIR): k of reciprocal rank fusion


class Fusion(StrEnum):
    """How two lists are made one."""

    RRF = "rrf"
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a list has a point: rank from 1 among those looked at, None beyond these; and the score it has there."""

    rank: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Fused:
    """A point of the fused list; score 0..1, 1 where both lists have it first. None: that list has it not."""

    id: PointId
    score: float
    picture: Place | None
    words: Place | None


@dataclass(frozen=True, slots=True)
class Weights:
    """What each list counts for; only their ratio matters."""

    picture: float = 1.0
    words: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to rank by. Raises InvalidQuery."""
        if not (0 <= self.picture <= 1e6 and 0 <= self.words <= 1e6):
            raise InvalidQuery(f"weights are 0 to 1000000, not {self.picture} and {self.words}")
        if self.picture + self.words < 1e-6:
            raise InvalidQuery("one of the weights is above 0")

    @property
    def shares(self) -> tuple[float, float]:
        """Give them so that they add up to 1: of the picture, of the words."""
        total = self.picture + self.words
        return self.picture / total, self.words / total


class Mode(StrEnum):
    """What a text is compared with: the pictures, the words that they carry, or both; AUTO: both where that can be."""

    AUTO = "auto"
    HYBRID = "hybrid"
    PICTURE = "picture"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Blend:
    """How the two lists are made one."""

    mode: Mode = Mode.PICTURE
    fusion: Fusion = Fusion.RRF
    weights: Weights = field(default_factory=Weights)


def fuse(
    picture: Sequence[tuple[PointId, float]],
    words: Sequence[tuple[PointId, float]],
    *,
    by: Fusion,
    weights: Weights,
) -> list[Fused]:
    """Make one list of two, each (id, score) with the best score first; gives the best first.

    RRF: the sum of weight / (RANK_OFFSET + rank), over what a point that both lists have first would get. Points of
    equal score share a rank, the first of theirs. Weighted: the weighted sum of scores, cosines from 0 at the last of
    the list to 1 at its best, those of words over their best, since a word that is not there is a score of 0.
    """
    places = _places(picture), _places(words)
    if by is Fusion.RRF:
        parts = tuple(
            {id_: (RANK_OFFSET + 1) / (RANK_OFFSET + (at.rank or math.inf)) for id_, at in some.items()}
            for some in places
        )
    else:
        parts = _spread(places[0]), _over_best(places[1])
    shares = weights.shares
    fused = [
        Fused(
            id_,
            sum(share * part.get(id_, 0.0) for share, part in zip(shares, parts, strict=True)),
            places[0].get(id_),
            places[1].get(id_),
        )
        for id_ in places[0].keys() | places[1].keys()
    ]
    return sorted(fused, key=lambda one: (-one.score, one.id))


def _places(ranked: Sequence[tuple[PointId, float]]) -> dict[PointId, Place]:
    found: dict[PointId, Place] = {}
    rank, last = 0, None
    for number, (id_, score) in enumerate(sorted(ranked, key=lambda one: -one[1]), 1):
        rank, last = (rank if score == last else number), score
        found.setdefault(id_, Place(rank, score))
    return found


def _spread(places: Mapping[PointId, Place]) -> dict[PointId, float]:
    scores = [place.score for place in places.values()]
    if not scores:
        return {}
    least, span = min(scores), max(scores) - min(scores)
    return {id_: (place.score - least) / span if span else 1.0 for id_, place in places.items()}


def _over_best(places: Mapping[PointId, Place]) -> dict[PointId, float]:
    best = max((place.score for place in places.values()), default=0.0)
    return {id_: place.score / best if best > 0 else 1.0 for id_, place in places.items()}
