"""What the jobs do: plain calls with JSON arguments, the same in a thread here and in a Celery worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from uuid import UUID

from indexer.catalogue_jobs import resume_jobs, run_job
from indexer.duplicates import compare_waiting
from indexer.embedding import embed_assets, sweep
from indexer.holding import ending_in
from indexer.pipeline import ingest
from indexer.reindex import STEP_LIMIT_S, advance
from indexer.resuming import hand_out_again, resume_ingests, take_up
from indexer.sources import SourceOptions
from phosphene.assemble import Engine
from phosphene.errors import PhospheneError
from phosphene.generation.run import run_generation, sweep_generations
from phosphene.jobs import GENERATE_LIMIT_S, JSON, JobName, Jobs
from phosphene.logs import with_ids
from phosphene.types import AssetId, GenerationId, IngestId, Modality, TenantId

log = logging.getLogger(__name__)

GOODBYE_S = 120.0  # for ending a generation with a reason before its task is ended without one
COMPARE_LIMIT_S = 10.0  # of a sweep; the next one goes on
SWEEP_LIMIT_S = 30.0  # the next one goes on: a worker that sweeps for hours would take up nothing else


def handlers(
    engine: Engine, jobs: Jobs | None = None, *, stop: threading.Event | None = None
) -> Mapping[JobName, Callable[..., None]]:
    """Give the function for each job, called with the arguments that were sent.

    `jobs` are those of a Celery worker, so that an ingest there sends its pictures on to be embedded. Setting `stop`
    ends an ingest, a sweep, a calibration or a generation that is under way.
    """

    def run_ingest(
        *,
        tenant: str,
        ingest_id: str,
        sources: Sequence[str],
        metadata: str | None = None,
        column_map: Mapping[str, str] | None = None,
        fetch_urls: bool = False,
        local_files: bool = False,
    ) -> None:
        options = SourceOptions(
            metadata=metadata, column_map=column_map or {}, fetch_urls=fetch_urls, local_files=local_files
        )
        id_ = IngestId(UUID(ingest_id))

        def run(owner: str | None, stop: threading.Event | None) -> None:
            done = ingest(
                sources,
                engine=engine,
                tenant=TenantId(tenant),
                options=options,
                jobs=jobs,
                ingest_id=id_,
                owner=owner,
                stop=stop,
            )
            log.info("ingest %s %s: %d pictures came to an end", ingest_id, done.state, done.counts.total)

        with with_ids({"ingest_id": ingest_id}):
            take_up(id_, run, engine=engine, alone=jobs is None, stop=stop)

    def run_embed(*, asset_ids: Sequence[str]) -> None:
        done = embed_assets([AssetId(UUID(id_)) for id_ in asset_ids], engine=engine)
        log.info("embedded %d of %d pictures", done, len(asset_ids))

    def run_sweep() -> None:
        if jobs is None:
            sweep(engine=engine, stop=stop)
        else:
            resume_ingests(engine=engine, jobs=jobs)
            resume_jobs(engine=engine, jobs=jobs)
            hand_out_again(engine=engine, jobs=jobs)
            with ending_in(SWEEP_LIMIT_S) as enough:
                sweep(engine=engine, stop=enough)
        compare_waiting(engine=engine, stop=stop, most_s=COMPARE_LIMIT_S)

    def run_calibrate(*, tenant: str) -> None:
        """Calibrate unless what there is still holds."""
        standing = engine.judge.standing(TenantId(tenant))
        if {one.calibration.modality for one in standing if not one.stale} != set(Modality):
            for one in engine.calibrate(TenantId(tenant), stop=stop):
                if one.reason is not None:
                    level = logging.INFO if one.stopped else logging.WARNING
                    log.log(level, "tenant %s: %s questions are not calibrated: %s", tenant, one.modality, one.reason)

    every: dict[JobName, Callable[..., None]] = {
        JobName.INGEST: run_ingest,
        JobName.EMBED: run_embed,
        JobName.EMBED_ONLINE: run_embed,
        JobName.SWEEP: run_sweep,
        JobName.CALIBRATE: run_calibrate,
        JobName.DUPLICATES: _duplicates_handler(engine, jobs, stop),
        JobName.REINDEX: _reindex_handler(engine, jobs, stop),
        JobName.CATALOGUE: _catalogue_handler(engine, stop),
        **_generation_handlers(engine, jobs, stop),
    }
    return {name: _in_step(engine, run) for name, run in every.items()}


def _in_step(engine: Engine, run: Callable[..., None]) -> Callable[..., None]:
    """Leave a space that another one has taken the place of, before each job: nobody asks a worker anything."""

    def run_in_step(**arguments: JSON) -> None:
        engine.spaces.keep_up()
        run(**arguments)

    return run_in_step


def _duplicates_handler(engine: Engine, jobs: Jobs | None, stop: threading.Event | None) -> Callable[..., None]:
    def run_duplicates(*, tenant: str) -> None:
        limit_s = None if jobs is None else COMPARE_LIMIT_S  # sweeps go on with what is left
        done = compare_waiting(engine=engine, tenant=TenantId(tenant), fill_in=True, stop=stop, most_s=limit_s)
        log.info("tenant %s: %d pictures were compared with the others", tenant, done)

    return run_duplicates


def _catalogue_handler(engine: Engine, stop: threading.Event | None) -> Callable[..., None]:
    def run_catalogue(*, job_id: str | None = None) -> None:
        """Do a job or, in a process that is alone, those that a dead one left."""
        if job_id is None:
            resume_jobs(engine=engine, jobs=None, stop=stop)
        else:
            run_job(UUID(job_id), engine=engine, stop=stop)

    return run_catalogue


def _reindex_handler(engine: Engine, jobs: Jobs | None, stop: threading.Event | None) -> Callable[[], None]:
    told: list[str] = []  # what is in the way, said once and not every second

    def run_reindex() -> None:
        try:
            began = monotonic()
            while (stop is None or not stop.is_set()) and advance(engine=engine, jobs=jobs, stop=stop):
                if jobs is not None and monotonic() - began > STEP_LIMIT_S:
                    break  # workers are told again within seconds
            told.clear()
        except PhospheneError as error:
            if told != [str(error)]:
                log.warning("the change of the model does not get on, and is tried again: %s", error)
            told[:] = [str(error)]

    return run_reindex


def _generation_handlers(
    engine: Engine, jobs: Jobs | None, stop: threading.Event | None
) -> dict[JobName, Callable[..., None]]:
    def run_generate(*, generation_id: str) -> None:
        limit_s = None if jobs is None else GENERATE_LIMIT_S - GOODBYE_S
        with with_ids({"generation_id": generation_id}):
            run_generation(GenerationId(UUID(generation_id)), engine=engine, stop=stop, limit_s=limit_s)

    def run_recover() -> None:
        sweep_generations(engine=engine, jobs=jobs, stop=stop)

    return {JobName.GENERATE: run_generate, JobName.RECOVER: run_recover}
