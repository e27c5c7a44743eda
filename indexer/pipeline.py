"""Source -> picture -> row -> embedding -> point: the whole way of a picture into the catalogue.

Three threads share the work of one ingest, joined by bounded queues: the intake reads, decodes (in the decoder
processes), keeps blobs and registers rows, a batch or two ahead; the caller's thread runs the encoder and nothing else;
a writer makes points durable and notes them. So the encoder works on batch n while batch n+1 is being made ready and
batch n-1 is being written.

Whatever is killed where: the order blob, row with its work entry, point, `indexed` means that what is missing is
known. The same command goes on: files whose row and embedding are there are passed over unread, rows without an
embedding are embedded from their blobs, the rest is read.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Self

from indexer.backpressure import is_full
from indexer.declared import DeclaredFields
from indexer.embedding import Embedded, embed_assets, encode_tolerantly, store, sweep, task_size
from indexer.intake import Batch, Intake
from indexer.lookahead import Background
from indexer.progress import Progress, SilentProgress, Tally
from indexer.sources import SourceOptions, Sources, open_sources
from indexer.uploads import add_asset, remove_asset, update_asset_metadata
from phosphene.assemble import Engine
from phosphene.catalog.records import Ingest, IngestState
from phosphene.errors import PhospheneError, Unavailable
from phosphene.jobs import JobName, Jobs, LocalJobs
from phosphene.types import IngestId, TenantId

__all__ = ["add_asset", "embed_assets", "ingest", "recover", "remove_asset", "sweep", "update_asset_metadata"]

BATCHES_AHEAD = 2  # registered and waiting for the encoder
BATCHES_BEHIND = 2  # encoded and waiting to be written
_GOODBYE_S = 30.0  # how long an interrupted ingest waits for the batch under way

log = logging.getLogger(__name__)


def ingest(
    specs: Sequence[str],
    *,
    engine: Engine,
    tenant: TenantId,
    options: SourceOptions | None = None,
    jobs: Jobs | None = None,
    progress: Progress | None = None,
    ingest_id: IngestId | None = None,
    owner: str | None = None,
    stop: threading.Event | None = None,
) -> Ingest:
    """Bring pictures into the catalogue and the index; the same call again goes on where it stopped.

    Where `jobs` reach other processes, pictures are registered here and embedded there; else all is done here. A bad
    picture goes to quarantine and the rest goes on. `ingest_id` is that of an ingest already started. Setting `stop`
    ends it soon, as INTERRUPTED.

    Raises InvalidInput for specs and manifests that can't be read, and what the stores raise; the ingest is then
    FAILED. On KeyboardInterrupt it is INTERRUPTED. With an `owner`, who has leased it, it goes on being RUNNING then,
    and where a store does not answer.
    """
    progress = progress or SilentProgress()
    stop = stop or threading.Event()
    tally = Tally(progress)
    try:
        if ingest_id is None and engine.settings.embedded:
            recover(engine, stop=stop)
        catalog = engine.catalog
        with _Closing(ingest_id, engine, owner) as closing:
            declared = catalog.fields(tenant)
            within = replace(
                options or SourceOptions(),
                max_bytes=engine.limits.max_bytes,
                max_download_bytes=engine.settings.max_download_bytes,
                fields=declared,
            )
            sources = open_sources(specs, within)
            closing.ingest_id = ingest_id = ingest_id or catalog.start_ingest(tenant, specs)
            fields = DeclaredFields(declared, lambda new: engine.declare_fields(tenant, new))
            fields.declare(sources.fields)
            with engine.answering() as space:  # to the end, whatever is swapped meanwhile
                intake = Intake(
                    engine=engine,
                    space=space,
                    tenant=tenant,
                    ingest=ingest_id,
                    sources=sources,
                    declared=fields,
                    tally=tally,
                    stop=stop,
                    with_pixels=jobs is None or isinstance(jobs, LocalJobs),
                )
                try:
                    _run(intake, jobs)
                finally:
                    sources.close()
            closing.state = IngestState.INTERRUPTED if stop.is_set() else IngestState.FINISHED
        return catalog.ingest(tenant, ingest_id)
    finally:
        progress.close()


@dataclass(slots=True)
class _Closing:
    """Notes how an ingest ended, however it ended."""

    ingest_id: IngestId | None
    engine: Engine
    owner: str | None
    state: IngestState = IngestState.FAILED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.ingest_id is None:
            return
        if self.owner is not None and isinstance(error, KeyboardInterrupt | SystemExit | Unavailable):
            return
        reason = None
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self.state = IngestState.INTERRUPTED
        elif error is not None:
            self.state = IngestState.FAILED
            reason = str(error) if isinstance(error, PhospheneError) else f"{type(error).__name__}: {error}"
        try:
            self.engine.catalog.finish_ingest(self.ingest_id, self.state, reason, owner=self.owner)
        except PhospheneError:
            if error is None:
                raise
            log.warning("ingest %s ended as %s, which could not be noted", self.ingest_id, self.state)


def recover(engine: Engine, *, stop: threading.Event | None = None) -> int:
    """Clear up after a process that was killed: its ingests are INTERRUPTED, its leftover pictures embedded.

    For the one process that holds an embedded data folder, before it starts anything. Gives how many were embedded.
    """
    engine.catalog.interrupt_ingests(idle_s=0.0)
    engine.blobs.tidy(older_than_s=0.0)
    _compare_counts(engine)
    return sweep(engine=engine, stop=stop)


def _compare_counts(engine: Engine) -> None:
    """Say where the index lost points without noticing, as a damaged file can make it."""
    space = engine.current
    embedded = engine.catalog.reindexes.embedded(space.space.id)
    there = space.index.count()
    if there < embedded:
        log.warning(
            "the index holds %d of %d pictures: run `phosphene verify --repair` to embed the rest again",
            there,
            embedded,
        )


def _run(intake: Intake, jobs: Jobs | None) -> None:
    intake.tally.stage("reading")
    threading.Thread(target=_count, args=(intake.sources, intake.tally), name="count", daemon=True).start()
    batches = Background(intake.batches(), depth=BATCHES_AHEAD, stop=intake.stop)
    try:
        if intake.with_pixels:
            _embed_here(batches, intake)
        else:
            _send_away(batches, intake, jobs)
    except BaseException:
        intake.stop.set()
        raise
    finally:
        batches.join(_GOODBYE_S)


def _count(sources: Sources, tally: Tally) -> None:
    total = sources.count()
    if total is not None:
        tally.total(total)


def _embed_here(batches: Background[Batch], intake: Intake) -> None:
    space = intake.space
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
        for batch in batches:
            intake.tally.stage("embedding")
            if batch.pixels is None:
                embed_assets(batch.ids, engine=intake.engine, spaces=[space])
                continue
            space.ready_for_pictures()
            embedded = encode_tolerantly(space.encoder, batch.pixels)
            writing.append(writer.submit(_write, intake, batch, embedded))
            while len(writing) > BATCHES_BEHIND or (writing and writing[0].done()):
                writing.popleft().result()
        for one in writing:
            one.result()
    if not intake.stop.is_set():
        space.index.optimise()


def _write(intake: Intake, batch: Batch, embedded: Embedded) -> None:
    store(intake.engine, intake.space, dict.fromkeys(batch.ids, intake.tenant), batch.ids, embedded)
    intake.done(batch)
    counts, lost = batch.counts, len(embedded.failures)
    # A picture that can't be encoded was registered as added, or was known before.
    added = min(lost, counts.added)
    intake.tally.add(
        added=counts.added - added,
        unchanged=max(0, counts.unchanged - (lost - added)),
        updated=counts.updated,
        quarantined=lost,
    )


def _send_away(batches: Background[Batch], intake: Intake, jobs: Jobs | None) -> None:
    intake.tally.stage("registering")
    for batch in batches:
        size = task_size(intake.space)
        for start in range(0, len(batch.ids), size):
            some = batch.ids[start : start + size]
            if is_full(intake.engine):  # nobody waits for room here: this may be the only worker
                embed_assets(some, engine=intake.engine)
            elif jobs is not None:
                jobs.send(JobName.EMBED, {"asset_ids": [str(id_) for id_ in some]})
        intake.done(batch)
        counts = batch.counts
        intake.tally.add(added=counts.added, unchanged=counts.unchanged, updated=counts.updated)
