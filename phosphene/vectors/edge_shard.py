"""One shard of Qdrant's Rust engine in our own words. The only file that imports qdrant_edge (0.9).

No locks and no files of ours here: edge.py holds those. Every call holds the GIL and is over when it returns.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from uuid import UUID

import numpy as np
import qdrant_edge as engine

from phosphene.errors import PhospheneError, Unavailable
from phosphene.filters import Filter
from phosphene.types import FieldKind, Float32, PointId
from phosphene.vectors import conditions as normal
from phosphene.vectors.base import Payload, ScoredPoint, StoredPoint, VectorQuery, WordQuery
from phosphene.vectors.checks import TENANT, CheckedPoint
from phosphene.vectors.folder import damaged, in_use
from phosphene.vectors.ties import by_count, ranked

_OVERSAMPLING = 3.0
_EF = 128
_NO_GRAPH = 2**40  # KB: no segment grows that large

_SCHEMAS = {
    FieldKind.KEYWORD: engine.PayloadSchemaType.Keyword,
    FieldKind.INTEGER: engine.PayloadSchemaType.Integer,
    FieldKind.FLOAT: engine.PayloadSchemaType.Float,
    FieldKind.BOOL: engine.PayloadSchemaType.Integer,  # stored as 0 and 1
    FieldKind.DATETIME: engine.PayloadSchemaType.Datetime,
    FieldKind.GEO: engine.PayloadSchemaType.Geo,
}
# Words come cut and folded: the engine is to leave them as they are.
_WORDS = engine.TextIndexParams(tokenizer=engine.TokenizerType.Whitespace, lowercase=False, scoring=True)


@dataclass(frozen=True, slots=True)
class ShardShape:
    """How a shard keeps its points; `graph_from` is the number of points from which a graph is built."""

    dimension: int
    profile: Literal["flat", "graph"]
    graph_from: int


class EdgeShard:
    """A shard that this process has open."""

    def __init__(self, path: Path, shard: engine.EdgeShard) -> None:
        self.path = path
        self._shard = shard

    @classmethod
    def create(cls, path: Path, shape: ShardShape) -> EdgeShard:
        """Make a shard that knows its tenants from the first point on."""
        with Translated(path):
            shard = engine.EdgeShard.create(str(path), _config(shape))
            tenant = engine.KeywordIndexParams(is_tenant=True)
            shard.update(engine.UpdateOperation.create_field_index(TENANT, tenant))
        return cls(path, shard)

    @classmethod
    def load(cls, path: Path, shape: ShardShape | None = None) -> EdgeShard:
        """Open a shard, in another shape if one is given."""
        with Translated(path):
            return cls(path, engine.EdgeShard.load(str(path), None if shape is None else _config(shape)))

    def declare(self, name: str, kind: FieldKind) -> None:
        """Make the payload index of a field, or make it anew if it is of another kind; free text gets none."""
        schema, known = _SCHEMAS.get(kind), self._schema().get(name)
        if schema is None or schema == known:
            return
        if known is not None:
            self._shard.update(engine.UpdateOperation.delete_field_index(name))
        self._shard.update(engine.UpdateOperation.create_field_index(name, schema))

    def declare_words(self) -> None:
        """Make the index that words are looked up in; of points that are there too."""
        if normal.WORDS not in self._schema():
            self._shard.update(engine.UpdateOperation.create_field_index(normal.WORDS, _WORDS))

    def upsert(self, points: Sequence[CheckedPoint]) -> None:
        """Write points."""
        # The stubs know lists only; the engine reads a numpy row without a copy through Python numbers.
        rows: list[Any] = [point[1] for point in points]
        made = [engine.Point(point[0], row, point[2]) for point, row in zip(points, rows, strict=True)]
        self._shard.update(engine.UpdateOperation.upsert_points(made))

    def overwrite_payloads(self, payloads: dict[PointId, dict[str, Any]]) -> None:
        """Replace the payloads of those points that exist."""
        for record in self._shard.retrieve(list(payloads), False, False):  # noqa: FBT003  the engine's own arguments
            identifier = _uuid(record.id)
            self._shard.update(engine.UpdateOperation.overwrite_payload([identifier], payloads[identifier]))

    def delete(self, ids: Sequence[PointId]) -> None:
        """Remove points."""
        self._shard.update(engine.UpdateOperation.delete_points(list(ids)))

    def query(self, queries: Sequence[tuple[VectorQuery, int]]) -> list[list[ScoredPoint]]:
        """Answer queries, each with a limit of its own instead of the query's; best first, ties by id."""
        most = max(1, self.size())  # the engine makes room for as many as are asked for
        requests = [_request(query, min(limit, most)) for query, limit in queries]
        return [_ranked(points) for points in self._shard.query_batch(engine.QueryBatchRequest(requests))]

    def query_words(self, queries: Sequence[tuple[WordQuery, int]]) -> list[list[ScoredPoint]]:
        """Answer queries in words, each with a limit of its own instead of the query's; best first, ties by id."""
        most = max(1, self.size())
        requests = [_word_request(query, min(limit, most)) for query, limit in queries]
        answers = self._shard.query_batch(engine.QueryBatchRequest(requests))
        return [ranked([_with_score(point, point.score) for point in points]) for points in answers]

    def vectors(self, ids: Sequence[PointId]) -> dict[PointId, Float32]:
        """Return the vectors of those ids that exist."""
        records = self._shard.retrieve(list(ids), False, True)  # noqa: FBT003  the engine's own arguments
        return {_uuid(record.id): self._row(record) for record in records}

    def scroll(self, first: UUID, limit: int) -> list[StoredPoint]:
        """List points in the order of their ids, from `first` on."""
        records, _ = self._shard.scroll(engine.ScrollRequest(offset=first, limit=limit, with_payload=True))
        return [StoredPoint(_uuid(record.id), record.payload or {}) for record in records]

    def count(self, source: Filter | None) -> int:
        """Count points exactly."""
        return self._shard.count(engine.CountRequest(exact=True, filter=_filter(source)))

    def facet(self, key: str, limit: int, source: Filter | None) -> list[tuple[str | int, int]]:
        """Count points exactly by the values of a key with an index of words or whole numbers, most points first."""
        answer = self._shard.facet(engine.FacetRequest(key, limit=limit, exact=True, filter=_filter(source)))
        return by_count((hit.value, hit.count) for hit in answer.hits)

    def extremes(self, key: str, source: Filter | None) -> tuple[float | str, float | str] | None:
        """Give the least and the greatest value of a key with an index of numbers or dates."""
        ends: list[float | str] = []
        for direction in (engine.Direction.Asc, engine.Direction.Desc):
            order = engine.OrderBy(key, direction)
            asked = engine.ScrollRequest(limit=1, filter=_filter(source), with_payload=True, order_by=order)
            ends += [(record.payload or {})[key] for record in self._shard.scroll(asked)[0]]
        return (ends[0], ends[1]) if len(ends) == 2 else None

    def size(self) -> int:
        """Count all points by the engine's own books: quick."""
        return self._shard.info().points_count

    def unindexed(self) -> int:
        """Count the points that are in no graph."""
        info = self._shard.info()
        return info.points_count - info.indexed_vectors_count

    def bring_up_to_date(self, other: EdgeShard, ids: Sequence[PointId]) -> None:
        """Make these points in `other` what they are in here: written, or gone."""
        records = self._shard.retrieve(list(ids), True, True)  # noqa: FBT003  the engine's own arguments
        points = [engine.Point(record.id, self._row(record).tolist(), record.payload) for record in records]
        if points:
            other._shard.update(engine.UpdateOperation.upsert_points(points))
        if gone := set(ids) - {_uuid(record.id) for record in records}:
            other.delete(list(gone))

    def share_schema(self, other: EdgeShard) -> None:
        """Make in `other` the payload indexes that only this shard has."""
        known = other._schema()
        for name, schema in self._schema().items():
            if name == normal.WORDS:
                other.declare_words()
            elif known.get(name) != schema:
                other._shard.update(engine.UpdateOperation.create_field_index(name, schema))

    def flush(self) -> None:
        """Write all to the disk, so that nothing of the log has to be replayed."""
        self._shard.flush()

    def close(self) -> None:
        """Flush, and let go of the files."""
        self._shard.close()

    def _row(self, record: engine.Record) -> Float32:
        if not isinstance(record.vector, list):  # an empty dict where the vector is lost
            raise damaged(self.path, f"point {record.id} has no vector")
        return np.asarray(record.vector, dtype=np.float32)

    def _schema(self) -> dict[str, engine.PayloadSchemaType]:
        return {name: index.data_type for name, index in self._shard.info().payload_schema.items()}


def optimise_copy(path: str) -> None:
    """Build the graph of a shard that nobody else has open. Runs in a child process, behind all other work."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1  # don't outlive the parent
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    os.nice(10)
    shard = engine.EdgeShard.load(path)
    shard.optimize()
    shard.flush()
    shard.close()


class Translated:
    """Turns the engine's plain exceptions (and its panics, which are BaseExceptions) into ours, naming the folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, PhospheneError):
            return
        text = str(error)
        if type(error).__name__ == "PanicException":
            raise damaged(self._path, text) from error
        if "WouldBlock" in text:
            raise in_use(self._path, "unknown") from error
        if "No space left" in text or "os error 28" in text:
            raise Unavailable(f"the disk of {self._path} is full: make room") from error
        if type(error) is Exception:
            raise damaged(self._path, text) from error


def _config(shape: ShardShape) -> engine.EdgeConfig:
    graph = shape.profile == "graph"
    kilobytes = max(1, shape.graph_from * shape.dimension * 4 // 1024) if graph else _NO_GRAPH
    return engine.EdgeConfig(
        vectors=engine.EdgeVectorParams(shape.dimension, engine.Distance.Cosine),
        hnsw_config=engine.HnswIndexConfig(m=16 if graph else 0, ef_construct=128, full_scan_threshold=10_000),
        quantization_config=engine.TurboQuantQuantizationConfig(
            bits=engine.TurboQuantBitSize.Bits4, memory=engine.Memory.Pinned
        ),
        optimizers=engine.EdgeOptimizersConfig(indexing_threshold=kilobytes, default_segment_number=1),
    )


def _uuid(identifier: object) -> PointId:
    return PointId(identifier if isinstance(identifier, UUID) else UUID(str(identifier)))


def _ranked(points: Sequence[engine.ScoredPoint]) -> list[ScoredPoint]:
    return ranked([_with_score(point, max(-1.0, min(1.0, point.score))) for point in points])


def _with_score(point: engine.ScoredPoint, score: float) -> ScoredPoint:
    return ScoredPoint(_uuid(point.id), score, _payload(point.payload))


def _payload(payload: dict[str, Any] | None) -> Payload:
    return payload or {}


def _request(query: VectorQuery, limit: int) -> engine.QueryRequest:
    quantization = (
        engine.QuantizationSearchParams(ignore=True)
        if query.exact
        else engine.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
    )
    params = engine.SearchParams(hnsw_ef=None if query.exact else _EF, exact=query.exact, quantization=quantization)
    vector: Any = np.ascontiguousarray(query.vector)
    nearest = engine.Query.Nearest(vector)
    return engine.QueryRequest(
        limit=limit, query=nearest, filter=_filter(query.filter), with_payload=True, params=params
    )


def _word_request(query: WordQuery, limit: int) -> engine.QueryRequest:
    among = _filter(query.among)
    return engine.QueryRequest(
        limit=limit,
        query=engine.TextQuery(normal.WORDS, " ".join(query.words)),
        filter=_filter(query.filter),
        with_payload=True,
        params=engine.SearchParams(idf=engine.IdfParams(among)),
    )


def _filter(source: Filter | None) -> engine.Filter | None:
    return None if source is None else _group(normal.conditions_of(source))


def _group(group: normal.Group) -> engine.Filter:
    return engine.Filter(
        must=[_condition(part) for part in group.must] or None,
        should=[_condition(part) for part in group.should] or None,
        must_not=[_condition(part) for part in group.must_not] or None,
    )


def _condition(source: normal.Condition) -> engine.ConditionType:
    match source:
        case normal.Match():
            values: list[Any] = list(source.values)
            match = engine.MatchValue(values[0]) if len(values) == 1 else engine.MatchAny(values)
            made: engine.ConditionType = engine.FieldCondition(source.key, match=match)
        case normal.Between():
            bounds = engine.RangeFloat(gte=source.gte, gt=source.gt, lte=source.lte, lt=source.lt)
            made = engine.FieldCondition(source.key, range=bounds)
        case normal.During():
            dates = engine.RangeDateTime(gte=source.gte, gt=source.gt, lte=source.lte, lt=source.lt)
            made = engine.FieldCondition(source.key, range=dates)
        case normal.Around():
            circle = engine.GeoRadius(engine.GeoPoint(source.lon, source.lat), source.radius_m)
            made = engine.FieldCondition(source.key, geo_radius=circle)
        case normal.Empty():
            made = engine.IsEmptyCondition(source.key)
        case normal.Nowhere():
            made = engine.HasIdCondition(set())
        case normal.Group():
            made = _group(source)
    return made
