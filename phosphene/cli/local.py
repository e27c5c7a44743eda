"""Commands carried out in this process, on stores it opens itself."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from types import TracebackType
from typing import Self
from uuid import UUID

from indexer import pipeline
from indexer.catalogue_jobs import ask
from indexer.declared import declare_fields
from indexer.duplicates import compare_waiting
from indexer.generated import accept_picture
from indexer.jobs import handlers
from indexer.labelling import write_keywords
from indexer.probing import StandingProbe, apply_probe, delete_probe, standing_probes, train_probe
from indexer.progress import progress_for
from indexer.reindex import ACTIONS, advance, start_reindex
from indexer.sources import SourceOptions
from indexer.verify import verify
from phosphene.assemble import Engine, open_engine, open_jobs
from phosphene.catalog.records import CatalogueJobKind
from phosphene.cli import output, reindexing
from phosphene.cli.backend import Asked, Ingested, ProbeSides, uuid_of
from phosphene.cli.boards_backend import LocalBoards
from phosphene.cli.imagining import POLL_S, StepBar, follow, told_cancelled
from phosphene.errors import DamagedData, InvalidInput
from phosphene.evaluation.golden import GoldenQuery
from phosphene.filter_terms import parse_terms
from phosphene.generation.request import cancel_generation, request_generation
from phosphene.generation.run import run_generation
from phosphene.jobs import JSON, JobName, Jobs
from phosphene.query_language import parse_query
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, GenerationId, IngestId
from search_api import comparing, evaluating, pictures
from search_api.duplicates import KINDS, page_of_clusters
from search_api.imagining import offered
from search_api.labelling import run_classify, run_describe, run_probe
from search_api.moderating import Moderation
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
    SearchResponse,
    SimilarityRequest,
    SimilarityResponse,
    VerifyResponse,
)
from search_api.schemas.jobs import JobList, JobOut, JobRequest
from search_api.schemas.label_probes import AppliedOut, ProbeAnswer, ProbeList, ProbeOut, ProbeRequest
from search_api.schemas.labels import (
    ClassifyRequest,
    ClassifyResponse,
    DescribeRequest,
    DescribeResponse,
    KeywordsRequest,
    KeywordsResponse,
    PictureIn,
)
from search_api.search import run_search

LISTED = 20  # ingests, jobs
QUARANTINE_PAGE = 1000
_NOBODY_DOES_JOBS = "jobs need a process that does them: start `phosphene serve`, or set PHOSPHENE_BROKER_URL"
_NOBODY_GOES_ON = "--no-wait needs a process that goes on: start `phosphene serve`, or set PHOSPHENE_BROKER_URL"


class LocalBackend:
    """Opens the engine on entering; the whole command then is one process."""

    def __init__(self, settings: Settings, *, command: str) -> None:
        self._settings = settings
        self._command = command
        self._opened: Engine | None = None

    def __enter__(self) -> Self:
        self._opened = open_engine(self._settings, command=self._command)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.close()

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            raise RuntimeError("use LocalBackend in a with statement")
        return self._opened

    @property
    def boards(self) -> LocalBoards:
        """Curators' boards, here."""
        return LocalBoards(self._engine, DEFAULT_TENANT)

    @property
    def moderation(self) -> Moderation:
        """The review queue, here."""
        return Moderation(self._engine, DEFAULT_TENANT)

    def search(self, asked: Asked) -> SearchResponse:
        """Find pictures."""
        engine = self._engine
        fields = engine.fields(DEFAULT_TENANT)
        typed = parse_query(asked.request.query, fields) if asked.request.query is not None else None
        query = asked.request.to_query(parse_terms(asked.terms, fields), typed=typed, fetched={})
        answer = run_search(query, engine=engine, tenant=DEFAULT_TENANT)
        if not answer.hits and engine.index.count() == 0 and engine.catalog.count_assets(DEFAULT_TENANT):
            output.warn(f"no picture is embedded with {engine.current.model} yet: phosphene verify --repair does it")
        with self._elsewhere() as jobs:
            offer = offered(query, answer, asked.request.generate, engine=engine, tenant=DEFAULT_TENANT, jobs=jobs)
        return SearchResponse.of(query, answer, offer)

    def generate(self, asked: GenerateRequest) -> UUID:
        """Note what is to be drawn; await_generation draws it, unless workers do."""
        with self._elsewhere() as jobs:
            return request_generation(asked.to_asked(), engine=self._engine, tenant=DEFAULT_TENANT, jobs=jobs).id

    @contextlib.contextmanager
    def _elsewhere(self) -> Iterator[Jobs | None]:
        """Give the jobs of Celery workers, where there are any."""
        if self._settings.broker_url is None:
            yield None
            return
        jobs = open_jobs(self._settings, {})
        try:
            yield jobs
        finally:
            jobs.close()

    def await_generation(self, generation: UUID) -> GenerationOut:
        """Draw it here, or watch the workers that do."""
        if self._settings.broker_url is not None:
            return follow(generation, read=self._generation, cancel=self._cancel)
        bar = StepBar()
        try:
            while not (now := self._generation(generation)).ended:  # again, where a dead process still has its lease
                self._draw(generation, bar)
                if not self._generation(generation).ended:
                    time.sleep(POLL_S)
        finally:
            bar.close()
        return now

    def _draw(self, generation: UUID, bar: StepBar) -> None:
        """Draw in a thread, so that Ctrl-C is heard between two steps and the store learns of it."""
        stop = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="draw") as thread:
            drawing = thread.submit(
                run_generation,
                GenerationId(generation),
                engine=self._engine,
                on_step=lambda done: bar.report(done.stage, done.step, done.of),
                stop=stop,
            )
            try:
                while not drawing.done():
                    with contextlib.suppress(NotYet):
                        drawing.exception(timeout=POLL_S)
            except KeyboardInterrupt:
                bar.close()
                told_cancelled(generation, self._cancel)
                raise
            except BaseException:
                stop.set()
                raise
        drawing.result()

    def _generation(self, generation: UUID) -> GenerationOut:
        return GenerationOut.of(self._engine.catalog.generations.one(DEFAULT_TENANT, GenerationId(generation)))

    def _cancel(self, generation: UUID) -> None:
        cancel_generation(GenerationId(generation), engine=self._engine, tenant=DEFAULT_TENANT)

    def generated_picture(self, generation: UUID, index: int) -> bytes:
        """Read the file of a picture."""
        found = self._engine.catalog.generations.one(DEFAULT_TENANT, GenerationId(generation))
        return pictures.generated_picture(found, found.pictures[index], engine=self._engine).data

    def generations(self, *, limit: int) -> list[GenerationOut]:
        """List generations, newest first."""
        found = self._engine.catalog.generations.latest(DEFAULT_TENANT, before=None, limit=limit)
        return [GenerationOut.of(generation, preview=False) for generation in found]

    def accept(self, generation: str, *, index: int, title: str | None) -> AssetOut:
        """Take a picture into the catalogue and embed it, unless workers do."""
        id_ = GenerationId(uuid_of(generation, "generation"))
        with self._elsewhere() as jobs:
            asset = accept_picture(DEFAULT_TENANT, id_, index, engine=self._engine, title=title, jobs=jobs)
        return AssetOut.of(asset)

    def ingest(self, asked: Ingested) -> IngestResponse:
        """Add pictures; without waiting where Celery workers can do it."""
        engine = self._engine
        if not asked.wait:
            return self._send(asked)
        options = SourceOptions(
            metadata=asked.metadata,
            column_map=asked.column_map,
            fetch_urls=asked.fetch_urls or self._settings.fetch_urls,
            max_bytes=self._settings.max_picture_bytes,
            fields=engine.catalog.fields(DEFAULT_TENANT),
        )
        jobs = open_jobs(self._settings, {}) if self._settings.broker_url else None
        try:
            done = pipeline.ingest(
                asked.specs,
                engine=engine,
                tenant=DEFAULT_TENANT,
                options=options,
                jobs=jobs,
                progress=progress_for(sys.stderr),
            )
        finally:
            if jobs is not None:
                jobs.close()
        return IngestResponse.of(done)

    def _send(self, asked: Ingested) -> IngestResponse:
        if self._settings.broker_url is None:
            raise InvalidInput(_NOBODY_GOES_ON)
        engine = self._engine
        job: dict[str, JSON] = {
            "tenant": DEFAULT_TENANT,
            "sources": list(asked.specs),
            "metadata": asked.metadata,
            "column_map": dict(asked.column_map),
            "fetch_urls": asked.fetch_urls or self._settings.fetch_urls,
            "local_files": True,
        }
        ingest = engine.catalog.start_ingest(DEFAULT_TENANT, asked.specs, job=job)
        jobs = open_jobs(self._settings, handlers(engine))
        try:
            jobs.send(JobName.INGEST, {**job, "ingest_id": str(ingest)})
        finally:
            jobs.close()
        return IngestResponse.of(engine.catalog.ingest(DEFAULT_TENANT, ingest))

    def ingest_status(self, ingest: str) -> IngestResponse:
        """Say how an ingest stands."""
        return IngestResponse.of(self._engine.catalog.ingest(DEFAULT_TENANT, IngestId(uuid_of(ingest, "ingest"))))

    def ingests(self) -> list[IngestResponse]:
        """List ingests, newest first."""
        return [IngestResponse.of(ingest) for ingest in self._engine.catalog.ingests(DEFAULT_TENANT, limit=LISTED)]

    def quarantine(self, ingest: str | None) -> list[QuarantineEntry]:
        """List what could not be used, of one ingest or of all."""
        ingest_id = IngestId(uuid_of(ingest, "ingest")) if ingest is not None else None
        catalog = self._engine.catalog
        entries: list[QuarantineEntry] = []
        after: int | None = None
        while page := catalog.quarantined(DEFAULT_TENANT, ingest_id, after=after, limit=QUARANTINE_PAGE):
            entries.extend(QuarantineEntry.of(entry) for entry in page)
            after = page[-1].id
        return entries

    def fields(self, said: FieldsIn | None) -> FieldList:
        """List the fields; `said`: declare some first."""
        if said is not None:
            declare_fields(said.to_fields(), engine=self._engine, tenant=DEFAULT_TENANT)
        return FieldList.of(self._engine.fields(DEFAULT_TENANT))

    def verify(self, *, repair: bool) -> VerifyResponse:
        """Compare catalogue, blobs and index. An index too damaged to open is made anew when repairing."""
        if repair:
            if self._engine.held is not None:  # an ingest that says it runs has died: nobody needs its blobs any more
                self._engine.catalog.interrupt_ingests(idle_s=0.0)
            try:
                _ = self._engine.index
            except DamagedData as damage:
                output.warn(f"{damage.args[0]} Making it anew from the catalogue.")
                self._engine.discard_index()
        return VerifyResponse.of(verify(engine=self._engine, repair=repair))

    def calibrate(self, *, false_match_rate: float, golden: Sequence[GoldenQuery] = ()) -> CalibrationList:
        """Ask the catalogue its own captions, and golden queries; keep what that teaches."""
        engine = self._engine
        outcomes = engine.calibrate(DEFAULT_TENANT, false_match_rate=false_match_rate, golden=golden)
        return CalibrationList.of(engine.judge.standing(DEFAULT_TENANT), outcomes)

    def evaluate(self, asked: EvaluationRequest) -> EvaluationOut:
        """Ask golden queries, and the index against exact search."""
        return evaluating.evaluate(asked, engine=self._engine, tenant=DEFAULT_TENANT)

    def classify(self, asked: ClassifyRequest) -> ClassifyResponse:
        """Tell which labels a picture shows."""
        found = run_classify(
            asked.picture(),
            asked.labels,
            templates=asked.templates,
            each=asked.multi_label,
            engine=self._engine,
            tenant=DEFAULT_TENANT,
        )
        return ClassifyResponse.of(found, each=asked.multi_label, limit=asked.limit)

    def describe(self, asked: DescribeRequest) -> DescribeResponse:
        """Describe a picture."""
        space, found = run_describe(
            asked.picture(), asked.kinds, most=asked.limit, engine=self._engine, tenant=DEFAULT_TENANT
        )
        return DescribeResponse.of(space, found)

    def keywords(self, asked: KeywordsRequest) -> KeywordsResponse:
        """Give pictures automatic keywords."""
        return KeywordsResponse.of(write_keywords(asked.asked(), engine=self._engine, tenant=DEFAULT_TENANT))

    def train_probe(self, name: str, sides: ProbeSides) -> ProbeOut:
        """Learn a label from examples."""
        where = parse_terms(sides.terms, self._engine.fields(DEFAULT_TENANT))
        asked = ProbeRequest(name=name, positive=list(sides.positive), negative=list(sides.negative))
        probe = train_probe(name, asked.examples(where), engine=self._engine, tenant=DEFAULT_TENANT)
        return ProbeOut.of(StandingProbe(probe, stale=False))

    def probes(self) -> ProbeList:
        """List labels that were learned."""
        found = standing_probes(engine=self._engine, tenant=DEFAULT_TENANT)
        return ProbeList(probes=[ProbeOut.of(one) for one in found])

    def apply_probe(self, name: str) -> AppliedOut:
        """Give a label to the pictures of the catalogue."""
        return AppliedOut.of(apply_probe(name, engine=self._engine, tenant=DEFAULT_TENANT))

    def ask_probe(self, name: str, picture: PictureIn) -> ProbeAnswer:
        """Tell whether a picture shows a label."""
        return ProbeAnswer.of(*run_probe(picture.picture(), name, engine=self._engine, tenant=DEFAULT_TENANT))

    def delete_probe(self, name: str) -> None:
        """Forget a label."""
        delete_probe(name, engine=self._engine, tenant=DEFAULT_TENANT)

    def duplicates(self, *, again: bool, limit: int) -> list[ClusterList]:
        """Compare what was not compared yet here, and list clusters."""
        engine = self._engine
        if again:
            engine.catalog.duplicates.forget(DEFAULT_TENANT)
        compare_waiting(engine=engine, tenant=DEFAULT_TENANT, fill_in=True)
        return [
            ClusterList.of(page_of_clusters(kind, after=None, limit=limit, engine=engine, tenant=DEFAULT_TENANT))
            for kind in KINDS
        ]

    def start_job(self, asked: JobRequest) -> JobOut:
        """Hand it to workers."""
        kind = CatalogueJobKind(asked.kind)
        with self._elsewhere() as jobs:
            if jobs is None:
                raise InvalidInput(_NOBODY_DOES_JOBS)
            return JobOut.of(ask(kind, asked.arguments(), engine=self._engine, tenant=DEFAULT_TENANT, jobs=jobs))

    def jobs(self) -> JobList:
        """List jobs."""
        return JobList(jobs=[JobOut.of(job) for job in self._engine.catalog.jobs.latest(DEFAULT_TENANT, LISTED)])

    def job(self, id_: UUID) -> JobOut:
        """Say how a job stands."""
        return JobOut.of(self._engine.catalog.jobs.one(DEFAULT_TENANT, id_))

    def embed(self, asked: EmbeddingsRequest) -> EmbeddingsResponse:
        """Embed here."""
        return comparing.embeddings_of(asked, engine=self._engine, tenant=DEFAULT_TENANT)

    def similarity(self, asked: SimilarityRequest) -> SimilarityResponse:
        """Compare here."""
        return comparing.similarity_of(asked, engine=self._engine, tenant=DEFAULT_TENANT)

    def reindex(self, asked: ReindexRequest | ReindexAction | None, *, wait: bool = True) -> ReindexStatus:
        """Begin or steer a change of the model."""
        engine = self._engine
        if not wait and self._settings.broker_url is None:
            raise InvalidInput(_NOBODY_GOES_ON)
        if isinstance(asked, ReindexRequest):
            start_reindex(asked.model, asked.to_options(DEFAULT_TENANT), engine=engine)
        elif asked is not None:
            ACTIONS[asked](engine=engine)
        return ReindexStatus.of(engine)

    def await_reindex(self) -> ReindexStatus:
        """Do it here, or watch the workers that do."""
        engine = self._engine
        here = self._settings.broker_url is None
        return reindexing.await_end(
            lambda: ReindexStatus.of(engine), (lambda: advance(engine=engine)) if here else (lambda: False)
        )
