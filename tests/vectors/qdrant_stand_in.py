"""A stand-in for a Qdrant server where none can be had: the client's own local engine behind its wire formats.

This file holds its collections and its REST half, qdrant_stand_in_grpc.py the gRPC half.

Covers: the REST and gRPC calls that phosphene.vectors.server makes, over real sockets. REST bodies are read with the
client's own request models (extra fields forbidden) and gRPC messages with its own converters, so a request that a
server's schema refuses is refused here. It keeps quantisation and payload indexes, which the local engine ignores, and
refuses what a server of its version does not know, requests above 32 MB, and a wrong key. `failures` injects statuses.

Does not cover: approximate search and its recall, consistency and replicas, durability, strict mode, timing. Those
need a real server: tests marked `server`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import QdrantClient, models
from qdrant_client.http.models import QueryResponse
from qdrant_client.local.bm25 import DEFAULT_B, DEFAULT_K1, bm25_scores
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

MAX_REQUEST_BYTES = 32 * 2**20


class Refused(Exception):
    """An answer that is no result."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StandIn:
    """The collections of the stand-in. One lock: the local engine breaks when two threads write."""

    def __init__(self, *, version: str = "1.20.0", api_key: str | None = None) -> None:
        self.version, self.api_key = version, api_key
        self.failures: list[int] = []  # statuses for the next calls
        self.calls: list[str] = []  # what was asked for, in order
        self.largest_request = 0  # bytes
        self.search_params: list[models.SearchParams | None] = []  # of each query, which the local engine ignores
        self.created: dict[str, models.CreateCollection] = {}  # as it was asked for
        self._engine = QdrantClient(":memory:")
        self._lock = threading.RLock()
        self._quantization: dict[str, models.QuantizationConfig | None] = {}
        self._indexes: dict[str, dict[str, models.PayloadIndexInfo]] = {}

    def run(self, name: str, key: str | None, size: int, work: Callable[[], Any]) -> Any:  # noqa: ANN401  any result
        """Do one call as a server would: key, size and injected failures first. Raises Refused."""
        self.calls.append(name)
        self.largest_request = max(self.largest_request, size)
        if self.failures:
            raise Refused(self.failures.pop(0), "injected by the test")
        if self.api_key is not None and key != self.api_key:
            raise Refused(401, "Must provide an API key or an Authorization bearer token")
        if size > MAX_REQUEST_BYTES:
            raise Refused(413, f"Payload too large: {size}")
        try:
            with self._lock:
                return work()
        except ValidationError as error:
            raise Refused(400, f"Format error in JSON body: {error.errors()[0]['msg']}") from error
        except NotImplementedError as error:
            raise Refused(501, str(error)) from error
        except ValueError as error:
            missing = str(error).startswith("Collection") and str(error).endswith("not found")
            raise Refused(404 if missing else 400, str(error)) from error

    def exists(self, name: str) -> bool:
        return bool(self._engine.collection_exists(name))

    def create(self, name: str, body: models.CreateCollection) -> bool:
        if self.exists(name):
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        said = body.model_dump(exclude_none=True)
        quantization = said.get("quantization_config", {})
        known = tuple(int(part) for part in self.version.split(".")[:2])
        if "turbo" in quantization and known < (1, 18):
            raise Refused(400, "data did not match any variant of untagged enum QuantizationConfig")
        placed = [said.get("vectors", {}), said.get("hnsw_config", {}), *quantization.values()]
        if known < (1, 19) and any("memory" in part for part in placed):
            raise Refused(400, "unknown field `memory`")
        if known < (1, 18) and body.strict_mode_config is not None:
            raise Refused(400, "the stand-in holds strict mode to be of servers that know all of its limits")
        self._engine.create_collection(name, vectors_config=body.vectors)
        self.created[name] = body
        self._quantization[name], self._indexes[name] = body.quantization_config, {}
        return True

    def info(self, name: str) -> models.CollectionInfo:
        info: models.CollectionInfo = self._engine.get_collection(name)
        info.config.quantization_config = self._quantization[name]
        info.config.params.shard_number = self.created[name].shard_number or 1
        info.payload_schema = dict(self._indexes[name])
        return info

    def drop(self, name: str) -> bool:
        self._indexes.pop(name, None)
        return bool(self._engine.delete_collection(name))

    def index(self, name: str, field: str, schema: Any) -> models.UpdateResult:  # noqa: ANN401  a union of ten models
        self._engine.get_collection(name)
        plain = isinstance(schema, models.PayloadSchemaType | str)
        kind = models.PayloadSchemaType(schema if plain else schema.type)
        known = tuple(int(part) for part in self.version.split(".")[:2])
        if known < (1, 19) and not plain and schema.memory is not None:
            raise Refused(400, "unknown field `memory`")
        params = None if plain else schema
        if isinstance(params, models.TextIndexParams) and params.scoring and known < (1, 20):
            raise Refused(400, "unknown field `scoring`")
        self._indexes[name][field] = models.PayloadIndexInfo(data_type=kind, params=params, points=0)
        return _completed()

    def drop_index(self, name: str, field: str) -> models.UpdateResult:
        self._indexes[name].pop(field, None)
        return _completed()

    def upsert(self, name: str, points: Sequence[models.PointStruct]) -> models.UpdateResult:
        self._engine.upsert(name, list(points))
        return _completed()

    def retrieve(self, name: str, body: models.PointRequest) -> list[models.Record]:
        return list(
            self._engine.retrieve(
                name,
                body.ids,
                with_payload=_given(body.with_payload, True),
                with_vectors=_given(body.with_vector, False),
            )
        )

    def delete(self, name: str, body: models.PointsSelector) -> models.UpdateResult:
        self._engine.delete(name, body)
        return _completed()

    def batch(self, name: str, operations: Sequence[models.UpdateOperation]) -> list[models.UpdateResult]:
        self._engine.batch_update_points(name, list(operations))
        return [_completed() for _ in operations]

    def scroll(self, name: str, body: models.ScrollRequest) -> models.ScrollResult:
        points, following = self._engine.scroll(
            name,
            scroll_filter=body.filter,
            limit=body.limit or 10,
            offset=body.offset,
            order_by=body.order_by,
            with_payload=_given(body.with_payload, True),
        )
        return models.ScrollResult(points=points, next_page_offset=following)

    def count(self, name: str, asked: models.Filter | None) -> models.CountResult:
        return self._engine.count(name, asked)

    def facet(self, name: str, body: models.FacetRequest) -> models.FacetResponse:
        if body.key not in self._indexes[name]:
            raise Refused(400, f"No appropriate index for faceting: `{body.key}`")
        return self._engine.facet(name, body.key, facet_filter=body.filter, limit=_given(body.limit, 10))

    def query(self, name: str, body: models.QueryRequest) -> models.QueryResponse:
        self.search_params.append(body.params)
        self._hold_to_limits(name, body)
        if isinstance(body.query, models.TextQuery):
            return self._rank_words(name, str(body.query.text), body)
        return self._engine.query_points(
            name,
            query=body.query,
            query_filter=body.filter,
            limit=_given(body.limit, 10),
            with_payload=_given(body.with_payload, False),
        )

    def _rank_words(self, name: str, text: str, body: models.QueryRequest) -> QueryResponse:
        """Rank by BM25 with the local engine's own formula, which it knows for whole collections only."""
        field = body.using or ""
        index = self._indexes[name].get(field)
        if index is None or not isinstance(index.params, models.TextIndexParams) or not index.params.scoring:
            raise Refused(400, f"Bad request: no text index with scoring for {field!r}")
        idf = body.params.idf if body.params else None
        corpus = self._all(name, idf.corpus if isinstance(idf, models.IdfCorpusParams) else None)
        found = {str(record.id) for record in self._all(name, body.filter)}
        documents = {
            n: str(record.payload[field]).split()
            for n, record in enumerate(corpus)
            if record.payload and record.payload.get(field)
        }
        scores = bm25_scores(documents, text, DEFAULT_K1, DEFAULT_B)
        points = [
            models.ScoredPoint(id=corpus[n].id, version=0, score=score, payload=corpus[n].payload)
            for n, score in scores.items()
            if str(corpus[n].id) in found
        ]
        points.sort(key=lambda point: -point.score)
        return QueryResponse(points=points[: _given(body.limit, 10)])

    def _all(self, name: str, asked: models.Filter | None) -> list[models.Record]:
        return list(self._engine.scroll(name, asked, limit=1_000_000, with_payload=True)[0])

    def _hold_to_limits(self, name: str, body: models.QueryRequest) -> None:
        """Refuse what strict mode would: too much, and filters on fields without an index."""
        strict = self.created[name].strict_mode_config
        if strict is None or not strict.enabled:
            return
        ef = body.params.hnsw_ef if body.params else None
        if strict.search_max_hnsw_ef is not None and (ef or 0) > strict.search_max_hnsw_ef:
            raise Refused(400, f"Forbidden: hnsw_ef limit exceeded {ef} > {strict.search_max_hnsw_ef}")
        if strict.max_query_limit is not None and (body.limit or 10) > strict.max_query_limit:
            raise Refused(400, f"Forbidden: limit exceeded {body.limit} > {strict.max_query_limit}")
        unindexed = _fields_of(body.filter) - self._indexes[name].keys()
        if strict.unindexed_filtering_retrieve is False and unindexed:
            raise Refused(400, f"Bad request: Index required but not found for {sorted(unindexed)}")


def _fields_of(condition: Any) -> set[str]:  # noqa: ANN401  any condition
    """Name the fields of a filter that a server would want an index for: `is_empty` counts."""
    if isinstance(condition, models.Filter):
        parts = [*(condition.must or []), *(condition.should or []), *(condition.must_not or [])]
        return set().union(*(_fields_of(part) for part in parts))
    if isinstance(condition, models.FieldCondition):
        return {condition.key}
    return {condition.is_empty.key} if isinstance(condition, models.IsEmptyCondition) else set()


def _completed() -> models.UpdateResult:
    return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


def _given(value: Any, default: Any) -> Any:  # noqa: ANN401  of whatever type it is
    return default if value is None else value


_Handler = Callable[[StandIn, dict[str, str], Any], Any]
_ROUTES: list[tuple[str, str, Any, _Handler]] = [
    ("GET", "/collections/{c}/exists", None, lambda s, p, _: {"exists": s.exists(p["c"])}),
    ("PUT", "/collections/{c}", models.CreateCollection, lambda s, p, b: s.create(p["c"], b)),
    ("GET", "/collections/{c}", None, lambda s, p, _: s.info(p["c"])),
    ("DELETE", "/collections/{c}", None, lambda s, p, _: s.drop(p["c"])),
    (
        "PUT",
        "/collections/{c}/index",
        models.CreateFieldIndex,
        lambda s, p, b: s.index(p["c"], b.field_name, b.field_schema),
    ),
    ("DELETE", "/collections/{c}/index/{f}", None, lambda s, p, _: s.drop_index(p["c"], p["f"])),
    ("PUT", "/collections/{c}/points", models.PointsList, lambda s, p, b: s.upsert(p["c"], b.points)),
    ("POST", "/collections/{c}/points", models.PointRequest, lambda s, p, b: s.retrieve(p["c"], b)),
    ("POST", "/collections/{c}/points/delete", models.PointIdsList, lambda s, p, b: s.delete(p["c"], b)),
    ("POST", "/collections/{c}/points/batch", models.UpdateOperations, lambda s, p, b: s.batch(p["c"], b.operations)),
    ("POST", "/collections/{c}/points/scroll", models.ScrollRequest, lambda s, p, b: s.scroll(p["c"], b)),
    ("POST", "/collections/{c}/points/count", models.CountRequest, lambda s, p, b: s.count(p["c"], b.filter)),
    ("POST", "/collections/{c}/facet", models.FacetRequest, lambda s, p, b: s.facet(p["c"], b)),
    (
        "POST",
        "/collections/{c}/points/query/batch",
        models.QueryRequestBatch,
        lambda s, p, b: [s.query(p["c"], query) for query in b.searches],
    ),
]


def rest_app(stand_in: StandIn) -> Starlette:
    """Serve the REST paths."""

    def endpoint(method: str, path: str, model: Any, handler: _Handler) -> Route:  # noqa: ANN401  a model or None
        reader = None if model is None else TypeAdapter(model)

        async def answer(request: Request) -> JSONResponse:
            raw = await request.body()

            def work() -> Any:  # noqa: ANN401  any result
                body = None if reader is None else reader.validate_python(json.loads(raw))
                return _plain(handler(stand_in, dict(request.path_params), body))

            name = f"{method} {path}?{request.url.query}"
            try:
                result = await run_in_threadpool(stand_in.run, name, request.headers.get("api-key"), len(raw), work)
            except Refused as refused:
                return JSONResponse({"status": {"error": str(refused)}, "time": 0.0}, refused.status)
            return JSONResponse({"result": result, "status": "ok", "time": 0.0})

        return Route(path, answer, methods=[method])

    async def root(request: Request) -> JSONResponse:
        try:
            stand_in.run("GET /", request.headers.get("api-key"), 0, lambda: None)
        except Refused as refused:
            return JSONResponse({"status": {"error": str(refused)}, "time": 0.0}, refused.status)
        return JSONResponse({"title": "qdrant stand-in", "version": stand_in.version})

    return Starlette(routes=[Route("/", root), *(endpoint(*route) for route in _ROUTES)])


def _plain(value: Any) -> Any:  # noqa: ANN401  any result
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    return [_plain(part) for part in value] if isinstance(value, list) else value


class RestServer:
    """The REST half on a free port of this machine, in a thread."""

    def __init__(self, stand_in: StandIn) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(rest_app(stand_in), log_level="warning", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
