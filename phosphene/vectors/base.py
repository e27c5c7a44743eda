"""What a vector index can do. Batches are the primitive; one index holds one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from phosphene.filters import Filter
from phosphene.types import AssetId, Field, Float32, Place, PointId, Space, UnitEmbeddings

PayloadValue = str | int | float | list[str] | Place | None  # bools are stored as 0 and 1
Payload = Mapping[str, PayloadValue]


@dataclass(frozen=True, slots=True, eq=False)
class VectorQuery:
    """One nearest-neighbour question. `vector` is (d,) float32 of length 1."""

    vector: Float32
    limit: int
    filter: Filter | None = None
    exact: bool = False  # compare with every vector at full precision


@dataclass(frozen=True, slots=True)
class WordQuery:
    """One question in words, as `phosphene.words.tokens` cuts them: points that have one of them at least, by BM25.

    How rare a word is, is counted among the points that `among` lets through: a tenant's, so that nothing is told of
    what others have. At least one word.
    """

    words: tuple[str, ...]
    limit: int
    filter: Filter | None = None
    among: Filter | None = None
    exact: bool = False  # also where thousands tie at the limit, those with the smaller ids are to be found


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """One answer: score is the cosine, -1..1; of a question in words BM25, above 0."""

    id: PointId
    score: float
    payload: Payload


def asset_of(point: ScoredPoint) -> AssetId:
    """Give the picture that a point stands for."""
    return AssetId(UUID(str(point.payload["asset_id"])))


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point as `scroll` lists it."""

    id: PointId
    payload: Payload


class VectorIndex(Protocol):
    """The points of one space.

    Every write is durable when the call returns. Every method may raise Unavailable (try again) and DamagedData.
    """

    @property
    def space(self) -> Space:
        """The space of all vectors in here."""
        ...

    def declare(self, fields: Sequence[Field]) -> None:
        """Make the payload indexes that filters on these fields need: idempotent, best before the first point."""
        ...

    def upsert(self, ids: Sequence[PointId], embeddings: UnitEmbeddings, payloads: Sequence[Payload]) -> None:
        """Write points, replacing those of the same id. Raises SpaceMismatch and InvalidInput before any write."""
        ...

    def set_payloads(self, ids: Sequence[PointId], payloads: Sequence[Payload]) -> None:
        """Replace whole payloads of points that exist; an unknown id is ignored."""
        ...

    def delete(self, ids: Sequence[PointId]) -> None:
        """Remove points; an unknown id is ignored."""
        ...

    def query(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        """Answer each query with its nearest points, best first, ties by id."""
        ...

    @property
    def ranks_words(self) -> bool:
        """Whether the engine can look words up."""
        ...

    def query_words(self, queries: Sequence[WordQuery]) -> list[list[ScoredPoint]]:
        """Answer each query with the points whose words (the payload's `_words`) fit it best, best first, ties by id.

        Raises InvalidQuery where nothing is asked, and Unavailable where the engine can't look words up.
        """
        ...

    def vectors(self, ids: Sequence[PointId]) -> dict[PointId, Float32]:
        """Return the unit vectors, each (d,) float32, of those ids that exist."""
        ...

    def scroll(self, *, after: PointId | None, limit: int) -> list[StoredPoint]:
        """List points in the order of their ids, those greater than `after`."""
        ...

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002  the field's word for it
        """Count points exactly."""
        ...

    def facet(self, key: str, *, limit: int, filter: Filter | None = None) -> list[tuple[str | int, int]]:  # noqa: A002  as above
        """Count points exactly by the values of a declared key of words, whole numbers or bools (0 and 1).

        The `limit` values with the most points, most first; a point with a list counts for each of its elements.
        """
        ...

    def extremes(self, key: str, *, filter: Filter | None = None) -> tuple[float | str, float | str] | None:  # noqa: A002  as above
        """Give the least and the greatest value of a declared key of numbers or dates; None where no point has one."""
        ...

    def optimise(self) -> bool:
        """Bring the index into its best shape after much writing; queries and writes go on meanwhile.

        Returns whether there was anything to do: cheap to call after each ingest. The call lasts until it is done.
        """
        ...

    def drop(self) -> None:
        """Delete the index and all in it."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
