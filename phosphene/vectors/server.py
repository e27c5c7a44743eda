"""The index on a Qdrant server or cluster. With server_collection.py the only file that imports qdrant_client (1.20).

One collection a space, named after it, laid out as a profile says. Writes wait until the server has them on its disk.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import grpc
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from phosphene.errors import (
    DamagedData,
    Forbidden,
    InvalidInput,
    InvalidSettings,
    Overloaded,
    PhospheneError,
    SpaceMismatch,
    Unavailable,
)
from phosphene.filters import Equals, Filter
from phosphene.types import Field, Float32, PointId, Space, UnitEmbeddings
from phosphene.vectors import conditions as normal
from phosphene.vectors.base import Payload, ScoredPoint, StoredPoint, VectorQuery, WordQuery
from phosphene.vectors.checks import (
    RESERVED_FIELDS,
    TENANT,
    CheckedPoint,
    check_query,
    check_words,
    checked_payload,
    checked_points,
    indexed_fields,
)
from phosphene.vectors.profiles import PROFILES, Profile
from phosphene.vectors.server_collection import (
    RANKS_WORDS,
    Version,
    collection_of,
    field_schema,
    search_params,
    tenant_schema,
    words_schema,
)
from phosphene.vectors.ties import by_count, most_tied, nearest, parts, ranked

_REQUEST_BYTES = 16 * 2**20  # a server refuses 32 MB
_BYTES_A_NUMBER = 22  # a float32 written out in JSON
_POINTS_A_CALL = 1000
_QUERIES_A_CALL = 64
_EXACT_A_CALL = 4  # each reads every original

_log = logging.getLogger(__name__)


class ServerIndex:
    """A VectorIndex in a collection of a server; thread-safe. Open it after any fork."""

    def __init__(self, client: QdrantClient, space: Space, url: str, *, profile: Profile, version: Version) -> None:
        self._client, self._space, self._url = client, space, url
        self._profile, self._version = profile, version
        self._name = str(space.id)

    @classmethod
    def open(
        cls,
        url: str,
        space: Space,
        *,
        api_key: str | None = None,
        grpc_port: int | None = None,
        timeout_s: int = 30,
        profile: Profile = PROFILES["1m"],
    ) -> Self:
        """Connect, and make the collection of the space with its payload indexes, as `profile` says, if it isn't there.

        With `grpc_port` points travel over gRPC. Raises InvalidSettings, Unavailable, Forbidden, SpaceMismatch.
        """
        shown = _shown(url)
        client = _connect(url, shown, api_key=api_key, grpc_port=grpc_port, timeout_s=timeout_s)
        try:
            with _Translated(shown):
                index = cls(client, space, shown, profile=profile, version=_version(client.info().version))
                index._make_collection()
        except BaseException:
            client.close()
            raise
        return index

    @property
    def space(self) -> Space:
        """The space of all vectors in here."""
        return self._space

    def declare(self, fields: Sequence[Field]) -> None:
        """Make the payload indexes that filters on these fields need."""
        with _Translated(self._url):
            known = self._client.get_collection(self._name).payload_schema
            for field in indexed_fields(fields):
                wanted = field_schema(field.kind, self._profile, self._version)
                if wanted is None or (field.name in known and known[field.name].data_type == wanted[0]):
                    continue
                if field.name in known:
                    self._client.delete_payload_index(self._name, field.name, wait=True)
                self._client.create_payload_index(self._name, field.name, wanted[1] or wanted[0], wait=True)

    def upsert(self, ids: Sequence[PointId], embeddings: UnitEmbeddings, payloads: Sequence[Payload]) -> None:
        """Write points, replacing those of the same id."""
        points = checked_points(self._space, ids, embeddings, payloads)
        for some in _by_bytes(points, self._space.dimension):
            made = [models.PointStruct(id=str(point[0]), vector=point[1].tolist(), payload=point[2]) for point in some]
            with _Translated(self._url):
                self._client.upsert(self._name, made, wait=True)

    def set_payloads(self, ids: Sequence[PointId], payloads: Sequence[Payload]) -> None:
        """Replace whole payloads of points that exist; an unknown id is ignored."""
        fresh = dict(zip(ids, map(checked_payload, payloads), strict=True))
        for some in parts(fresh, _POINTS_A_CALL):
            with _Translated(self._url):
                found = self._client.retrieve(self._name, _texts(some), with_payload=False, with_vectors=False)
                operations: list[models.UpdateOperation] = [
                    models.OverwritePayloadOperation(
                        overwrite_payload=models.SetPayload(points=[record.id], payload=fresh[_uuid(record.id)])
                    )
                    for record in found
                ]
                if operations:
                    self._client.batch_update_points(self._name, operations, wait=True)

    def delete(self, ids: Sequence[PointId]) -> None:
        """Remove points; an unknown id is ignored."""
        for some in parts(ids, _POINTS_A_CALL):
            with _Translated(self._url):
                self._client.delete(self._name, models.PointIdsList(points=list(_texts(some))), wait=True)

    def query(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        """Answer each query with its nearest points, best first, ties by id: all in one request."""
        for query in queries:
            check_query(self._space, query)
        exact = any(query.exact for query in queries)
        return nearest(queries, self._ask, at_once=_EXACT_A_CALL if exact else _QUERIES_A_CALL)

    def _ask(self, asked: Sequence[tuple[VectorQuery, int]]) -> list[list[ScoredPoint]]:
        requests = [self._request(query, limit) for query, limit in asked]
        patience_s = self._profile.limits.timeout_s if any(query.exact for query, _ in asked) else None
        with _Translated(self._url):
            answers = self._client.query_batch_points(self._name, requests, timeout=patience_s)
        return [ranked([_scored(point) for point in answer.points]) for answer in answers]

    def _request(self, query: VectorQuery, limit: int) -> models.QueryRequest:
        filtered = not (query.filter is None or (isinstance(query.filter, Equals) and query.filter.field == TENANT))
        return models.QueryRequest(
            query=query.vector.tolist(),
            filter=_filter(query.filter),
            limit=limit,
            with_payload=True,
            params=search_params(self._profile, self._version, exact=query.exact, filtered=filtered),
        )

    @property
    def ranks_words(self) -> bool:
        """Whether the engine can look words up."""
        return self._version >= RANKS_WORDS

    def query_words(self, queries: Sequence[WordQuery]) -> list[list[ScoredPoint]]:
        """Answer each query with the points whose words fit it best, best first, ties by id."""
        for query in queries:
            check_words(query)
        if not self.ranks_words:
            has, wants = (".".join(map(str, version)) for version in (self._version, RANKS_WORDS))
            raise Unavailable(
                f"Qdrant at {self._url} is {has}, and looks words up from {wants} on: bring it up to date"
            )
        return nearest(queries, self._ask_words, at_once=_QUERIES_A_CALL, most_tied=most_tied(queries))

    def _ask_words(self, asked: Sequence[tuple[WordQuery, int]]) -> list[list[ScoredPoint]]:
        requests = [_word_request(query, limit) for query, limit in asked]
        with _Translated(self._url):
            answers = self._client.query_batch_points(self._name, requests)
        return [ranked([_scored_words(point) for point in answer.points]) for answer in answers]

    def vectors(self, ids: Sequence[PointId]) -> dict[PointId, Float32]:
        """Return the unit vectors, each (d,) float32, of those ids that exist."""
        found: dict[PointId, Float32] = {}
        for some in parts(ids, _POINTS_A_CALL):
            with _Translated(self._url):
                records = self._client.retrieve(self._name, _texts(some), with_payload=False, with_vectors=True)
            found |= {_uuid(record.id): np.asarray(record.vector, dtype=np.float32) for record in records}
        return found

    def scroll(self, *, after: PointId | None, limit: int) -> list[StoredPoint]:
        """List points in the order of their ids, those greater than `after`."""
        first = 0 if after is None else after.int + 1
        if limit < 1 or first >= 1 << 128:
            return []
        with _Translated(self._url):
            records, _ = self._client.scroll(self._name, offset=str(UUID(int=first)), limit=limit, with_payload=True)
        return [StoredPoint(_uuid(record.id), record.payload or {}) for record in records]

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002  the field's word for it
        """Count points exactly."""
        asked = _filter(filter)
        with _Translated(self._url):
            return int(self._client.count(self._name, asked, exact=True).count)

    def facet(self, key: str, *, limit: int, filter: Filter | None = None) -> list[tuple[str | int, int]]:  # noqa: A002  as above
        """Count points exactly by the values of a declared key, those with the most points first."""
        asked = _filter(filter)
        with _Translated(self._url):
            answer = self._client.facet(self._name, key, facet_filter=asked, limit=limit, exact=True)
        return by_count((hit.value, hit.count) for hit in answer.hits)

    def extremes(self, key: str, *, filter: Filter | None = None) -> tuple[float | str, float | str] | None:  # noqa: A002  as above
        """Give the least and the greatest value of a declared key of numbers or dates; None where no point has one."""
        asked = _filter(filter)
        ends: list[float | str] = []
        for direction in (models.Direction.ASC, models.Direction.DESC):
            order = models.OrderBy(key=key, direction=direction)
            with _Translated(self._url):
                records, _ = self._client.scroll(self._name, asked, limit=1, order_by=order, with_payload=True)
            ends += [(record.payload or {})[key] for record in records]
        return (ends[0], ends[1]) if len(ends) == 2 else None

    def optimise(self) -> bool:
        """Do nothing: a server builds its graph by itself."""
        return False

    def drop(self) -> None:
        """Delete the index and all in it."""
        with _Translated(self._url):
            self._client.delete_collection(self._name)
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _make_collection(self) -> None:
        if not self._client.collection_exists(self._name):
            try:
                self._client.create_collection(
                    self._name, **collection_of(self._profile, self._space.dimension, self._version)
                )
            except (UnexpectedResponse, grpc.RpcError) as error:
                if not _already_there(error):  # another process was quicker
                    raise
        info = self._client.get_collection(self._name)
        size = getattr(info.config.params.vectors, "size", None)
        if size != self._space.dimension:
            raise SpaceMismatch(
                f"collection {self._name} on {self._url} holds vectors of {size} numbers, {self._space.model!r} has "
                f"{self._space.dimension}: another program made it; rename or delete it"
            )
        shards = info.config.params.shard_number or 1
        if shards != self._profile.shards:
            _log.warning(
                "collection %s on %s was made with %d shards and keeps them; the profile %s has %d",
                self._name,
                self._url,
                shards,
                self._profile.name,
                self._profile.shards,
            )
        if TENANT not in info.payload_schema:
            self._client.create_payload_index(self._name, TENANT, tenant_schema(self._version), wait=True)
        if normal.WORDS not in info.payload_schema and self._version >= RANKS_WORDS:
            self._client.create_payload_index(
                self._name, normal.WORDS, words_schema(self._profile, self._version), wait=True
            )
        self.declare(RESERVED_FIELDS)


def _connect(url: str, shown: str, *, api_key: str | None, grpc_port: int | None, timeout_s: int) -> QdrantClient:
    if api_key is not None and urlsplit(url).scheme == "http":
        _log.warning("the Qdrant key travels unencrypted to %s: use https where the network is not your own", shown)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Api key is used", UserWarning)  # said above, with the address
        return QdrantClient(
            url=url,
            api_key=api_key,
            prefer_grpc=grpc_port is not None,
            grpc_port=grpc_port or 6334,
            timeout=timeout_s,
            check_compatibility=False,
        )


def _shown(url: str) -> str:
    """Give the address for messages: without user, password or query."""
    split = urlsplit(url)
    if split.scheme not in ("http", "https") or not split.hostname:
        raise InvalidSettings("PHOSPHENE_QDRANT_URL is an address like http://host:6333")
    return f"{split.scheme}://{split.hostname}" + (f":{split.port}" if split.port else "") + split.path.rstrip("/")


def _version(text: str) -> Version:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


class _Translated:
    """Turns what the client raises into our errors, with the address and never the key."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, UnexpectedResponse):
            raise self._refused(error.status_code or 0, _said(error.content)) from error
        if isinstance(error, ResourceExhaustedResponse):
            raise Overloaded(f"Qdrant at {self._url} has too much to do", retry_after_s=error.retry_after_s) from error
        if isinstance(error, ResponseHandlingException):
            raise Unavailable(
                f"Qdrant at {self._url} does not answer ({_first_line(error.source)}): check PHOSPHENE_QDRANT_URL, "
                "and that the server runs"
            ) from error
        if isinstance(error, grpc.RpcError):
            status, said = _http_status(error)
            raise self._refused(status, said) from error
        if isinstance(error, ApiException):
            raise Unavailable(f"Qdrant at {self._url}: {_first_line(error)}") from error

    def _refused(self, status: int, said: str) -> PhospheneError:
        if status in (401, 403):
            return Forbidden(f"Qdrant at {self._url} refuses the key: check PHOSPHENE_QDRANT_API_KEY")
        if status == 404:
            return DamagedData(f"Qdrant at {self._url} has lost it ({said}): run `phosphene verify --repair`")
        if 400 <= status < 500 and status not in (408, 429):
            return InvalidInput(f"Qdrant at {self._url} refuses the request: {said}")
        return Unavailable(f"Qdrant at {self._url} can't answer now ({said})")


_STATUS_OF = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNIMPLEMENTED: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
}


def _http_status(error: grpc.RpcError) -> tuple[int, str]:
    if not isinstance(error, grpc.Call):
        return 503, _first_line(error)
    return _STATUS_OF.get(error.code(), 503), " ".join(str(error.details() or error.code().name).split())[:200]


def _already_there(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == 409 or b"already exists" in error.content
    return isinstance(error, grpc.Call) and "already exists" in str(error.details())


def _said(content: bytes) -> str:
    try:
        said = json.loads(content)["status"]["error"]
    except (ValueError, TypeError, KeyError):
        said = content.decode(errors="replace")
    return " ".join(str(said).split())[:200] or "no reason given"


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _by_bytes(points: Sequence[CheckedPoint], dimension: int) -> Iterator[list[CheckedPoint]]:
    part: list[CheckedPoint] = []
    size = 0
    for point in points:
        weight = dimension * _BYTES_A_NUMBER + len(json.dumps(point[2])) + 64
        if part and (size + weight > _REQUEST_BYTES or len(part) == _POINTS_A_CALL):
            yield part
            part, size = [], 0
        part.append(point)
        size += weight
    if part:
        yield part


def _uuid(identifier: object) -> PointId:
    return PointId(UUID(str(identifier)))


def _texts(ids: Sequence[PointId]) -> list[str]:
    return [str(identifier) for identifier in ids]


def _scored(point: models.ScoredPoint) -> ScoredPoint:
    return ScoredPoint(_uuid(point.id), max(-1.0, min(1.0, point.score)), point.payload or {})


def _scored_words(point: models.ScoredPoint) -> ScoredPoint:
    return ScoredPoint(_uuid(point.id), point.score, point.payload or {})


def _word_request(query: WordQuery, limit: int) -> models.QueryRequest:
    among = _filter(query.among)
    return models.QueryRequest(
        query=models.TextQuery(text=" ".join(query.words)),
        using=normal.WORDS,
        filter=_filter(query.filter),
        limit=limit,
        with_payload=True,
        params=None if among is None else models.SearchParams(idf=models.IdfCorpusParams(corpus=among)),
    )


def _filter(source: Filter | None) -> models.Filter | None:
    return None if source is None else _group(normal.conditions_of(source))


def _group(group: normal.Group) -> models.Filter:
    return models.Filter(
        must=[_condition(part) for part in group.must] or None,
        should=[_condition(part) for part in group.should] or None,
        must_not=[_condition(part) for part in group.must_not] or None,
    )


def _condition(source: normal.Condition) -> models.Condition:
    match source:
        case normal.Match():
            values: list[Any] = list(source.values)
            match = models.MatchValue(value=values[0]) if len(values) == 1 else models.MatchAny(any=values)
            made: models.Condition = models.FieldCondition(key=source.key, match=match)
        case normal.Between():
            bounds = models.Range(gte=source.gte, gt=source.gt, lte=source.lte, lt=source.lt)
            made = models.FieldCondition(key=source.key, range=bounds)
        case normal.During():
            named: dict[str, Any] = {"gte": source.gte, "gt": source.gt, "lte": source.lte, "lt": source.lt}
            made = models.FieldCondition(key=source.key, range=models.DatetimeRange(**named))
        case normal.Around():
            centre = models.GeoPoint(lon=source.lon, lat=source.lat)
            made = models.FieldCondition(
                key=source.key, geo_radius=models.GeoRadius(center=centre, radius=source.radius_m)
            )
        case normal.Empty():
            made = models.IsEmptyCondition(is_empty=models.PayloadField(key=source.key))
        case normal.Nowhere():
            made = models.HasIdCondition(has_id=[])
        case normal.Group():
            made = _group(source)
    return made
