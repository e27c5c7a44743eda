"""Commands carried out by a running server, over HTTP."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx2
from pydantic import BaseModel, ValidationError

from indexer.progress import Snapshot, progress_for
from phosphene.catalog.records import IngestCounts
from phosphene.cli import reindexing
from phosphene.cli.backend import Asked, Ingested, ProbeSides, uuid_of
from phosphene.cli.boards_backend import RemoteBoards
from phosphene.cli.imagining import follow
from phosphene.cli.moderation_backend import RemoteModeration
from phosphene.errors import Forbidden, InvalidInput, NotFound, Overloaded, PhospheneError, Unavailable
from phosphene.evaluation.golden import GoldenQuery
from phosphene.filter_terms import parse_terms
from phosphene.filters import source_of
from phosphene.model_files import full_name
from phosphene.types import Field
from search_api.duplicates import KINDS
from search_api.schemas import (
    AssetOut,
    CalibrationList,
    ClusterList,
    CompareResponse,
    EmbeddingsRequest,
    EmbeddingsResponse,
    EvaluationOut,
    EvaluationRequest,
    FieldList,
    FieldsIn,
    GenerateRequest,
    GenerationList,
    GenerationOut,
    IngestList,
    IngestResponse,
    QuarantineEntry,
    QuarantinePage,
    ReindexAction,
    ReindexRequest,
    ReindexStatus,
    SearchResponse,
    SimilarityRequest,
    SimilarityResponse,
    VerifyResponse,
)
from search_api.schemas.jobs import JobList, JobOut, JobRequest
from search_api.schemas.label_probes import AppliedOut, ProbeAnswer, ProbeList, ProbeOut
from search_api.schemas.labels import (
    ClassifyRequest,
    ClassifyResponse,
    DescribeRequest,
    DescribeResponse,
    KeywordsRequest,
    KeywordsResponse,
    PictureIn,
)

POLL_S = 0.3
TIMEOUT_S = 60.0

Answer = TypeVar("Answer", bound=BaseModel)


class RemoteBackend:
    """Speaks the HTTP contract; what the server refuses becomes the same errors as here."""

    def __init__(self, url: str, *, api_key: str | None, token: str | None) -> None:
        headers = {}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        if token is not None:
            headers["X-Phosphene-Local-Token"] = token
        self._url = url.rstrip("/")
        self._local = token is not None
        self._client = httpx2.Client(base_url=self._url, headers=headers, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def boards(self) -> RemoteBoards:
        """Curators' boards, of the server."""
        return RemoteBoards(self._ask_raw)

    @property
    def moderation(self) -> RemoteModeration:
        """The review queue of the server."""
        return RemoteModeration(self._ask_raw)

    def _ask_raw(self, method: str, path: str, body: BaseModel | None) -> tuple[bytes, Mapping[str, str]]:
        sent = None if body is None else body.model_dump(mode="json", exclude_unset=True)
        response = self._answer(method, path, sent, None)
        return bytes(response.content), response.headers

    def search(self, asked: Asked) -> SearchResponse:
        """Find pictures."""
        body: dict[str, object] = asked.request.model_dump(mode="json", exclude_defaults=True)
        if asked.terms:
            fields = [Field(field.name, field.kind) for field in self._get("/v1/fields", FieldList).fields]
            parsed = parse_terms(asked.terms, fields)
            if parsed is not None:
                body["filter"] = source_of(parsed)
        return self._post("/v1/search", body, SearchResponse)

    def generate(self, asked: GenerateRequest) -> UUID:
        """Let the server draw."""
        body = asked.model_dump(mode="json", exclude_none=True)
        return self._post("/v1/generations", body, GenerationOut).id

    def await_generation(self, generation: UUID) -> GenerationOut:
        """Watch until it has ended."""
        path = f"/v1/generations/{generation}"
        return follow(
            generation,
            read=lambda _: self._get(path, GenerationOut),
            cancel=lambda _: self._post(f"{path}/cancel", {}, GenerationOut),
        )

    def generated_picture(self, generation: UUID, index: int) -> bytes:
        """Fetch the file of a picture."""
        path = f"/v1/generations/{generation}/image?index={index}"
        return bytes(self._answer("GET", path, None, TIMEOUT_S).content)

    def generations(self, *, limit: int) -> list[GenerationOut]:
        """List generations, newest first."""
        return self._get(f"/v1/generations?limit={limit}", GenerationList).generations

    def accept(self, generation: str, *, index: int, title: str | None) -> AssetOut:
        """Let the server take a picture into the catalogue."""
        body: dict[str, object] = {"index": index} | ({} if title is None else {"title": title})
        return self._post(f"/v1/generations/{uuid_of(generation, 'generation')}/accept", body, AssetOut)

    def ingest(self, asked: Ingested) -> IngestResponse:
        """Let the server ingest; paths are of its machine, so they are made absolute here."""
        body: dict[str, object] = {"sources": [self._absolute(spec) for spec in asked.specs]}
        if asked.metadata is not None:
            body["metadata"] = self._absolute(asked.metadata)
        if asked.column_map:
            body["column_map"] = dict(asked.column_map)
        if asked.fetch_urls:
            if not self._local:
                raise InvalidInput(
                    "a server elsewhere decides itself whether it fetches: start it with PHOSPHENE_FETCH_URLS=true"
                )
            body["fetch_urls"] = True
        started = self._post("/v1/ingests", body, IngestResponse)
        return self._follow(started) if asked.wait else started

    def _absolute(self, spec: str) -> str:
        if "://" in spec or not self._local:
            return spec
        return str(Path(spec).expanduser().absolute())

    def _follow(self, ingest: IngestResponse) -> IngestResponse:
        progress = progress_for(sys.stderr)
        try:
            while ingest.state == "running":
                time.sleep(POLL_S)
                ingest = self.ingest_status(str(ingest.id))
                progress.report(Snapshot("ingesting", IngestCounts(**ingest.counts.model_dump())))
        except KeyboardInterrupt:
            text = f"the server goes on with it: phosphene ingest status {ingest.id}"
            print(text, file=sys.stderr)  # noqa: T201  a command line prints
            raise
        finally:
            progress.close()
        return ingest

    def ingest_status(self, ingest: str) -> IngestResponse:
        """Say how an ingest stands."""
        return self._get(f"/v1/ingests/{ingest}", IngestResponse)

    def ingests(self) -> list[IngestResponse]:
        """List ingests, newest first."""
        return self._get("/v1/ingests", IngestList).ingests

    def quarantine(self, ingest: str | None) -> list[QuarantineEntry]:
        """List what could not be used, of one ingest or of all."""
        path = "/v1/quarantine" if ingest is None else f"/v1/ingests/{ingest}/quarantine"
        page = self._get(path, QuarantinePage)
        entries = page.entries
        while page.next_after is not None:
            page = self._get(f"{path}?after={page.next_after}", QuarantinePage)
            entries = entries + page.entries
        return entries

    def fields(self, said: FieldsIn | None) -> FieldList:
        """List the server's fields; `said`: declare some first."""
        if said is None:
            return self._get("/v1/fields", FieldList)
        return self._request("PUT", "/v1/fields", said.model_dump(mode="json"), FieldList, TIMEOUT_S)

    def verify(self, *, repair: bool) -> VerifyResponse:
        """Compare catalogue, blobs and index; takes as long as it takes."""
        return self._post("/v1/verify", {"repair": repair}, VerifyResponse, timeout_s=None)

    def calibrate(self, *, false_match_rate: float, golden: Sequence[GoldenQuery] = ()) -> CalibrationList:
        """Let the server calibrate; takes as long as it takes."""
        asked = {
            "false_match_rate": false_match_rate,
            "golden": [{"query": query.text, "relevant": dict(query.relevant)} for query in golden],
        }
        return self._post("/v1/calibrations", asked, CalibrationList, timeout_s=None)

    def evaluate(self, asked: EvaluationRequest) -> EvaluationOut:
        """Let the server measure; takes as long as it takes."""
        body = asked.model_dump(mode="json", exclude_none=True)
        return self._post("/v1/evaluations", body, EvaluationOut, timeout_s=None)

    def classify(self, asked: ClassifyRequest) -> ClassifyResponse:
        """Let the server tell which labels a picture shows."""
        return self._post("/v1/classify", _body(asked), ClassifyResponse, timeout_s=None)

    def describe(self, asked: DescribeRequest) -> DescribeResponse:
        """Let the server describe a picture."""
        return self._post("/v1/describe", _body(asked), DescribeResponse, timeout_s=None)

    def keywords(self, asked: KeywordsRequest) -> KeywordsResponse:
        """Let the server give pictures keywords; takes as long as it takes."""
        return self._post("/v1/keywords", _body(asked), KeywordsResponse, timeout_s=None)

    def train_probe(self, name: str, sides: ProbeSides) -> ProbeOut:
        """Let the server learn a label."""
        body: dict[str, object] = {
            "name": name,
            "positive": list(map(str, sides.positive)),
            "negative": list(map(str, sides.negative)),
        }
        if sides.terms:
            body["where"] = self._filter(sides.terms)
        return self._post("/v1/probes", body, ProbeOut, timeout_s=None)

    def probes(self) -> ProbeList:
        """List labels that the server has learned."""
        return self._get("/v1/probes", ProbeList)

    def apply_probe(self, name: str) -> AppliedOut:
        """Let the server give a label to pictures; takes as long as it takes."""
        return self._post(f"/v1/probes/{quote(name, safe='')}/apply", {}, AppliedOut, timeout_s=None)

    def ask_probe(self, name: str, picture: PictureIn) -> ProbeAnswer:
        """Ask the server whether a picture shows a label."""
        return self._post(f"/v1/probes/{quote(name, safe='')}/predict", _body(picture), ProbeAnswer)

    def delete_probe(self, name: str) -> None:
        """Let the server forget a label."""
        self._answer("DELETE", f"/v1/probes/{quote(name, safe='')}", None, TIMEOUT_S)

    def _filter(self, terms: Sequence[str]) -> dict[str, object]:
        fields = [Field(field.name, field.kind) for field in self._get("/v1/fields", FieldList).fields]
        parsed = parse_terms(terms, fields)
        return {} if parsed is None else source_of(parsed)

    def duplicates(self, *, again: bool, limit: int) -> list[ClusterList]:
        """Have the server compare what was not compared yet, wait for it, and list clusters."""
        left = self._post("/v1/duplicates", {"again": again}, CompareResponse).waiting
        while left:
            time.sleep(POLL_S)
            left = self._get("/v1/duplicates?limit=1", ClusterList).waiting
        return [self._get(f"/v1/duplicates?kind={kind}&limit={limit}", ClusterList) for kind in KINDS]

    def start_job(self, asked: JobRequest) -> JobOut:
        """Let the server begin it."""
        return self._post("/v1/jobs", _body(asked), JobOut)

    def jobs(self) -> JobList:
        """List the server's jobs."""
        return self._get("/v1/jobs", JobList)

    def job(self, id_: UUID) -> JobOut:
        """Ask how a job stands."""
        return self._get(f"/v1/jobs/{id_}", JobOut)

    def embed(self, asked: EmbeddingsRequest) -> EmbeddingsResponse:
        """Let the server embed."""
        return self._post("/v1/embeddings", _body(asked), EmbeddingsResponse, timeout_s=None)

    def similarity(self, asked: SimilarityRequest) -> SimilarityResponse:
        """Let the server compare."""
        return self._post("/v1/similarity", _body(asked), SimilarityResponse, timeout_s=None)

    def reindex(self, asked: ReindexRequest | ReindexAction | None, *, wait: bool = True) -> ReindexStatus:
        """Have the server begin or steer a change of the model; a folder is one of its machine."""
        del wait  # it goes on in any case
        if asked is None:
            return self._get("/v1/reindex", ReindexStatus)
        if isinstance(asked, ReindexRequest):
            model = full_name(asked.model) if self._local else asked.model
            body = asked.model_copy(update={"model": model}).model_dump(mode="json")
            return self._post("/v1/reindex", body, ReindexStatus, timeout_s=None)
        return self._post(f"/v1/reindex/{asked}", {}, ReindexStatus, timeout_s=None)

    def await_reindex(self) -> ReindexStatus:
        """Watch how the server goes on with it."""
        return reindexing.await_end(lambda: self.reindex(None), lambda: False)

    def _get(self, path: str, kind: type[Answer]) -> Answer:
        return self._request("GET", path, None, kind, TIMEOUT_S)

    def _post(
        self, path: str, body: dict[str, object], kind: type[Answer], *, timeout_s: float | None = TIMEOUT_S
    ) -> Answer:
        return self._request("POST", path, body, kind, timeout_s)

    def _request(
        self, method: str, path: str, body: dict[str, object] | None, kind: type[Answer], timeout_s: float | None
    ) -> Answer:
        response = self._answer(method, path, body, timeout_s)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise Unavailable(f"{self._url} answers, but not as Phosphene of this version does") from error

    def _answer(
        self, method: str, path: str, body: dict[str, object] | None, timeout_s: float | None
    ) -> httpx2.Response:
        try:
            response = self._client.request(method, path, json=body, timeout=timeout_s)
        except httpx2.InvalidURL as error:
            raise InvalidInput(f"--server {self._url} is not an address like http://127.0.0.1:8000") from error
        except httpx2.TimeoutException as error:
            raise Unavailable(f"{self._url} did not answer within {timeout_s} s") from error
        except httpx2.HTTPError as error:
            raise Unavailable(f"{self._url} can't be reached: {error}") from error
        if response.is_success:
            return response
        raise _error(response, self._url)


def _body(asked: BaseModel) -> dict[str, object]:
    return asked.model_dump(mode="json", exclude_none=True)


def _error(response: httpx2.Response, url: str) -> PhospheneError:
    status = response.status_code
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"{url} answers {status} and no more; is it a Phosphene server?")
    if status in (401, 403):
        return Forbidden(detail)
    if status == 404:
        return NotFound(detail)
    if status == 429:
        return Overloaded(detail, retry_after_s=float(response.headers.get("retry-after", 1)))
    if 400 <= status < 500:
        return InvalidInput(detail)
    return Unavailable(detail)
