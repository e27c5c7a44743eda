"""What points are ranked by, and what keeps some of them out: arithmetic on unit vectors, and nothing of questions.

The engines answer which points are nearest to one vector. What is asked beyond that is told here from their answers:
the best of several vectors, and barriers that a point's own vector or words must not cross.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from phosphene.filters import Filter
from phosphene.nomatch.evidence import LEAST_BACKGROUND, Float64
from phosphene.nomatch.words import FIELDS
from phosphene.types import Float32, PointId
from phosphene.vectors.base import Payload, ScoredPoint, VectorIndex, VectorQuery, WordQuery
from phosphene.words import tokens

LEAST_SPREAD: Final = 1e-6  # of cosines; below it they do not differ
MOST_LOOKED_AT: Final = 20_000  # points, for one page; what lies behind them is not found by what has barriers
MOST_FETCHED: Final = 40_000  # points, for one page, of the lists of all rows together
MOST_BARRED: Final = 10_000  # points that are named as those which barriers keep out
_WORD = re.compile(r"\w+")
_ES = ("ses", "xes", "zes", "ches", "shes")

Words = frozenset[str]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of the cosines of a vector with the catalogue's background."""

    mean: float
    spread: float

    @classmethod
    def of(cls, vector: Float32, background: Float32) -> Scale:
        """Measure a vector (d,) on rows (n, d), all of length 1; with too few of them nothing is scaled."""
        if len(background) < LEAST_BACKGROUND:
            return cls(0.0, 1.0)
        cosines = np.asarray(background @ vector, dtype=np.float64)
        return cls(float(f"{cosines.mean():.4g}"), float(f"{max(float(cosines.std()), LEAST_SPREAD):.4g}"))


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    """Points x with `vector @ x >= limit` stay out, and those whose words have all of one of `words`."""

    vector: Float32  # (d,), of any length
    limit: float
    words: tuple[Words, ...] = ()

    def bars(self, rows: Float32, said: Sequence[Words]) -> Flags:
        """Tell which points stay out: rows (n, d), and the words that each carries."""
        shown = rows @ self.vector >= self.limit
        named = [any(words <= carried for words in self.words) for carried in said]
        return np.asarray(shown | np.array(named, dtype=np.bool_), dtype=np.bool_)

    def barred(self, *, within: Filter, own: Filter, index: VectorIndex) -> tuple[list[ScoredPoint], bool]:
        """Give the points that stay out, and whether these are all: MOST_BARRED by vector, and by words, are looked up.

        `own` is the tenant's filter, by which words are weighed.
        """
        shown, all_shown = self._shown(within, index)
        if not self.words:
            return shown, all_shown
        if not index.ranks_words:
            return shown, False
        forms = tuple(dict.fromkeys(token for words in self.words for token in _tokens_of(max(words, key=len))))
        found = index.query_words([WordQuery(forms, MOST_BARRED, within, own)])[0] if forms else []
        named = [point for point in found if any(words <= words_said(point.payload) for words in self.words)]
        return [*shown, *named], all_shown and len(found) < MOST_BARRED

    def _shown(self, within: Filter, index: VectorIndex) -> tuple[list[ScoredPoint], bool]:
        length = float(np.linalg.norm(self.vector))
        row, least, fetch = np.asarray(self.vector / length, dtype=np.float32), self.limit / length, 256
        while True:
            points = index.query([VectorQuery(row, fetch, within)])[0]
            is_all = len(points) < fetch or points[-1].score < least
            if is_all or fetch >= MOST_BARRED:
                return [point for point in points if point.score >= least], is_all
            fetch = min(4 * fetch, MOST_BARRED)


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """`gain * (cosine - offset)` with each of rows (m, d) of length 1, clipped to -1..1; gains above 0."""

    rows: Float32
    gains: Float64  # (m,)
    offsets: Float64  # (m,)

    @classmethod
    def cosine(cls, vector: Float32) -> Scoring:
        """Score by the cosine with one vector (d,)."""
        return cls(vector[None], np.ones(1), np.zeros(1))

    def of(self, which: Flags) -> Scoring:
        """Take some of the rows."""
        return Scoring(self.rows[which], self.gains[which], self.offsets[which])

    def scores(self, vectors: Float32) -> Float64:
        """Score vectors (n, d) with each row: (n, m)."""
        cosines = np.asarray(vectors @ self.rows.T, dtype=np.float64)
        return np.asarray(np.clip((cosines - self.offsets) * self.gains, -1, 1))

    def nearest_row(self, vector: Float32) -> Float32:
        """Give the row (d,) that a vector (d,) scores best with."""
        return np.asarray(self.rows[int(self.scores(vector[None])[0].argmax())], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """Points are ranked by their best score with a row of `best`.

    Out stay those that a barrier bars, and those that score as much with a row of `rivals`.
    """

    best: Scoring
    barriers: tuple[Barrier, ...] = ()
    rivals: Scoring | None = None

    def nearest(
        self, limit: int, *, within: Filter, left_out: frozenset[PointId], index: VectorIndex
    ) -> list[ScoredPoint]:
        """Give the best `limit` points, best first; fewer: there are no more among the first MOST_LOOKED_AT.

        With m rows each is asked for MOST_FETCHED / m points at most, and the list ends there: 16 examples 2,500 deep.
        """
        deepest = MOST_FETCHED // len(self.best.rows)
        fetch = min(limit + len(left_out), deepest)
        while True:
            listed = index.query([VectorQuery(row, fetch, within) for row in self.best.rows])
            best = self._best(listed)[:fetch]
            kept = self._let_in([point for point in best if point.id not in left_out], index)
            if (
                len(kept) >= limit
                or all(len(points) < fetch for points in listed)
                or fetch >= min(MOST_LOOKED_AT, deepest)
            ):
                return kept[:limit]
            fetch = min(2 * fetch, MOST_LOOKED_AT, deepest)

    def barred(self, *, within: Filter, own: Filter, index: VectorIndex) -> tuple[list[ScoredPoint], bool]:
        """Give the points that barriers keep out, and whether these are all that stay out."""
        found: list[ScoredPoint] = []
        is_all = self.rivals is None
        for barrier in self.barriers:
            points, those_are_all = barrier.barred(within=within, own=own, index=index)
            found += points
            is_all = is_all and those_are_all
        return found, is_all

    def _best(self, listed: Sequence[Sequence[ScoredPoint]]) -> list[ScoredPoint]:
        """Merge the lists of the rows: a point among the best k of the whole is among the best k of its best row."""
        if len(listed) == 1:
            return list(listed[0])
        best: dict[PointId, ScoredPoint] = {}
        for points, gain, offset in zip(listed, self.best.gains, self.best.offsets, strict=True):
            for point in points:
                score = float(np.clip(gain * (point.score - offset), -1, 1))
                known = best.get(point.id)
                if known is None or score > known.score:
                    best[point.id] = ScoredPoint(point.id, score, point.payload)
        return sorted(best.values(), key=lambda point: (-point.score, point.id))

    def _let_in(self, points: list[ScoredPoint], index: VectorIndex) -> list[ScoredPoint]:
        if not points or not (self.barriers or self.rivals is not None):
            return points
        stored = index.vectors([point.id for point in points])
        points = [point for point in points if point.id in stored]  # deleted meanwhile
        if not points:
            return points
        rows = np.stack([stored[point.id] for point in points])
        said = [words_said(point.payload) for point in points] if any(one.words for one in self.barriers) else []
        out = np.zeros(len(points), dtype=np.bool_)
        for barrier in self.barriers:
            out |= barrier.bars(rows, said if barrier.words else [frozenset()] * len(points))
        if self.rivals is not None:
            out |= self.rivals.scores(rows).max(axis=1) >= self.best.scores(rows).max(axis=1)
        return [point for point, barred in zip(points, out, strict=True) if not barred]


def words_said(payload: Payload) -> Words:
    """Give the words of a picture's title, keywords and captions, in the singular."""
    found: set[str] = set()
    for name in FIELDS:
        value = payload.get(name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                found |= words_in(text)
    return frozenset(found)


def words_in(text: str) -> Words:
    """Give the words of a text, folded and in the singular, as far as an s tells."""
    return frozenset(_singular(word) for word in _WORD.findall(text.casefold()))


def _tokens_of(word: str) -> list[str]:
    """Give a word in the singular as it is looked up, and what it may be the singular of."""
    forms = (word, f"{word}s", f"{word}es", f"{word[:-1]}ies")
    return tokens.words_in(" ".join(forms))


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_ES) else word[:-1]
