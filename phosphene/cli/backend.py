"""Where a command is carried out: in this process, or by the server that holds the data folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from phosphene.cli.boards_backend import BoardsBackend
from phosphene.cli.moderation_backend import ModerationBackend
from phosphene.errors import InvalidInput
from phosphene.evaluation.golden import GoldenQuery
from phosphene.holder import current_holder
from phosphene.settings import Settings
from search_api.schemas import (
    AssetOut,
    CalibrationList,
    ClusterList,
    EmbeddingsRequest,
    EmbeddingsResponse,
    EvaluationOut,
    EvaluationRequest,
    FieldList,
    FieldsIn,
    GenerateRequest,
    GenerationOut,
    IngestResponse,
    QuarantineEntry,
    ReindexAction,
    ReindexRequest,
    ReindexStatus,
    SearchRequest,
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


@dataclass(frozen=True, slots=True)
class Asked:
    """A search as the command line understood it; terms are filters yet to be parsed."""

    request: SearchRequest
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ingested:
    """An ingest as the command line understood it."""

    specs: tuple[str, ...]
    metadata: str | None
    column_map: Mapping[str, str]
    fetch_urls: bool
    wait: bool


@dataclass(frozen=True, slots=True)
class ProbeSides:
    """Examples as the command line understood them; terms are filters yet to be parsed."""

    positive: tuple[UUID, ...]
    negative: tuple[UUID, ...]
    terms: tuple[str, ...]


class Backend(Protocol):
    """What the commands need, here or over HTTP."""

    @property
    def boards(self) -> BoardsBackend:
        """Curators' boards."""
        ...

    @property
    def moderation(self) -> ModerationBackend:
        """Pictures that somebody should look at."""
        ...

    def search(self, asked: Asked) -> SearchResponse:
        """Find pictures."""
        ...

    def generate(self, asked: GenerateRequest) -> UUID:
        """Ask for pictures."""
        ...

    def await_generation(self, generation: UUID) -> GenerationOut:
        """Wait for the end of a generation, showing progress on stderr; Ctrl-C cancels it."""
        ...

    def generated_picture(self, generation: UUID, index: int) -> bytes:
        """Give the file of a picture that was drawn."""
        ...

    def generations(self, *, limit: int) -> list[GenerationOut]:
        """List generations, newest first."""
        ...

    def accept(self, generation: str, *, index: int, title: str | None) -> AssetOut:
        """Take a picture that was drawn into the catalogue."""
        ...

    def ingest(self, asked: Ingested) -> IngestResponse:
        """Add pictures, showing progress on stderr."""
        ...

    def ingest_status(self, ingest: str) -> IngestResponse:
        """Say how an ingest stands."""
        ...

    def ingests(self) -> list[IngestResponse]:
        """List ingests, newest first."""
        ...

    def quarantine(self, ingest: str | None) -> list[QuarantineEntry]:
        """List what could not be used, of one ingest or of all."""
        ...

    def fields(self, said: FieldsIn | None) -> FieldList:
        """List the fields; `said`: declare some first."""
        ...

    def verify(self, *, repair: bool) -> VerifyResponse:
        """Compare catalogue, blobs and index."""
        ...

    def calibrate(self, *, false_match_rate: float, golden: Sequence[GoldenQuery] = ()) -> CalibrationList:
        """Learn to tell matches."""
        ...

    def evaluate(self, asked: EvaluationRequest) -> EvaluationOut:
        """Measure how good search is on the catalogue."""
        ...

    def classify(self, asked: ClassifyRequest) -> ClassifyResponse:
        """Tell which labels a picture shows."""
        ...

    def describe(self, asked: DescribeRequest) -> DescribeResponse:
        """Describe a picture."""
        ...

    def keywords(self, asked: KeywordsRequest) -> KeywordsResponse:
        """Give pictures automatic keywords."""
        ...

    def train_probe(self, name: str, sides: ProbeSides) -> ProbeOut:
        """Learn a label from examples."""
        ...

    def probes(self) -> ProbeList:
        """List labels that were learned."""
        ...

    def apply_probe(self, name: str) -> AppliedOut:
        """Give a label to the pictures of the catalogue."""
        ...

    def ask_probe(self, name: str, picture: PictureIn) -> ProbeAnswer:
        """Tell whether a picture shows a label."""
        ...

    def delete_probe(self, name: str) -> None:
        """Forget a label."""
        ...

    def duplicates(self, *, again: bool, limit: int) -> list[ClusterList]:
        """Compare what was not compared yet; give the first clusters: near-duplicates, and exact ones."""
        ...

    def start_job(self, asked: JobRequest) -> JobOut:
        """Have something done to the whole catalogue."""
        ...

    def jobs(self) -> JobList:
        """List such jobs, the latest first."""
        ...

    def job(self, id_: UUID) -> JobOut:
        """Say how one of them stands."""
        ...

    def embed(self, asked: EmbeddingsRequest) -> EmbeddingsResponse:
        """Give vectors."""
        ...

    def similarity(self, asked: SimilarityRequest) -> SimilarityResponse:
        """Compare."""
        ...

    def reindex(self, asked: ReindexRequest | ReindexAction | None, *, wait: bool = True) -> ReindexStatus:
        """Begin or steer a change of the model; None: only say how it stands. `wait`: `await_reindex` comes next."""
        ...

    def await_reindex(self) -> ReindexStatus:
        """Go on with a change of the model, or watch those who do, showing progress on stderr."""
        ...


def uuid_of(text: str, what: str) -> UUID:
    """Read the id of an asset, an ingest, a generation. Raises InvalidInput."""
    try:
        return UUID(text)
    except ValueError as error:
        article = "an" if what[0] in "aeiou" else "a"
        raise InvalidInput(f"{text!r} is not the id of {article} {what}") from error


def choose_backend(
    settings: Settings, *, command: str, server: str | None, api_key: str | None
) -> AbstractContextManager[Backend]:
    """Use the server named, else the one that holds the data folder, else open the stores here."""
    from phosphene.cli.remote import RemoteBackend

    if server is not None:
        return RemoteBackend(server, api_key=api_key, token=None)
    holder = current_holder(settings.data) if settings.embedded else None
    if holder is not None and holder.url is not None:
        return RemoteBackend(holder.url, api_key=api_key or _own_key(settings), token=holder.token)
    from phosphene.cli.local import LocalBackend

    return LocalBackend(settings, command=command)


def _own_key(settings: Settings) -> str | None:
    return settings.api_keys[0].get_secret_value().partition(":")[2] if settings.api_keys else None
