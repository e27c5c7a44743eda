"""What is counted and timed, for Prometheus: the only file that imports its client.

Metrics live in memory. A Celery worker's children keep theirs in files of a folder that their parent names before it
starts them (`FOLDER`), so that one port answers for all. No label holds what users choose: no tenant, id or text.
"""

from __future__ import annotations

import contextlib
import glob
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client import disable_created_metrics as _disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from phosphene import tracing

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the client library's own name: read when it is imported

_disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each of the first, which nobody asks for
REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)

_QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_LONG_S = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

HTTP_REQUESTS = Histogram(
    "phosphene_http_request_seconds",
    "HTTP requests, with the time until the answer begins",
    ["method", "route", "status"],
    buckets=_REQUEST_S,
    registry=REGISTRY,
)
HTTP_UNDER_WAY = Gauge(
    "phosphene_http_requests_under_way",
    "HTTP requests being answered, event streams included",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
SEARCHES = Counter(
    "phosphene_searches_total",
    "Searches that were answered, by kind of question and whether the best hit is a match",
    ["kind", "matched"],
    registry=REGISTRY,
)
SEARCH_STAGES = Histogram(
    "phosphene_search_stage_seconds",
    "What the parts of a search take: embed, vectors, match, catalogue",
    ["stage"],
    buckets=_QUICK_S,
    registry=REGISTRY,
)
TEXT_EMBEDDINGS = Counter(
    "phosphene_text_embeddings_total",
    "Texts that were to be embedded: a cache hit, shared with one who asks the same now, or a miss for the model",
    ["result"],
    registry=REGISTRY,
)
TEXT_BATCH = Histogram(
    "phosphene_text_batch_texts",
    "Texts of callers who ask at the same time that went through the model together",
    buckets=(1, 2, 4, 8, 16, 32, 64),
    registry=REGISTRY,
)
EMBED_STAGES = Histogram(
    "phosphene_embed_stage_seconds",
    "What the parts of embedding take: read and decode of one picture; register, forward and upsert of a batch",
    ["stage"],
    buckets=_BATCH_S,
    registry=REGISTRY,
)
BATCH_FILL = Histogram(
    "phosphene_embed_batch_fill_ratio",
    "Pictures in a batch as a share of the batch size",
    buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 1),
    registry=REGISTRY,
)
EMBEDDED = Counter("phosphene_pictures_embedded_total", "Pictures whose points were written", registry=REGISTRY)
QUARANTINED = Counter(
    "phosphene_pictures_quarantined_total", "Pictures that can't be used, by fault", ["fault"], registry=REGISTRY
)
JOBS = Histogram(
    "phosphene_job_seconds",
    "Jobs that ended: done, unavailable (a store or the broker did not answer) or failed",
    ["job", "outcome"],
    buckets=_LONG_S,
    registry=REGISTRY,
)
JOBS_UNDER_WAY = Gauge(
    "phosphene_jobs_under_way", "Jobs being done now", ["job"], multiprocess_mode="livesum", registry=REGISTRY
)
JOBS_SENT = Counter(
    "phosphene_jobs_sent_total",
    "Jobs handed in: accepted or, where the queue is full or the broker away, refused",
    ["job", "outcome"],
    registry=REGISTRY,
)
GENERATIONS_ENDED = Counter(
    "phosphene_generations_ended_total", "Generations that ended, by state", ["state"], registry=REGISTRY
)

# Set at each scrape of the API, from the catalogue. All have labels: what is not set is then not shown.
PART_UP = Gauge(
    "phosphene_part_up",
    "1 where a part answered when readiness was last looked at: stores, queues with a worker, job threads",
    ["part"],
    registry=REGISTRY,
)
WORK = Gauge(
    "phosphene_work_pictures",
    "Pictures in the queue of a space: waiting, leased, lost (the lease ran out) and retried; counted up to a limit",
    ["space", "state"],
    registry=REGISTRY,
)
WORK_AGE = Gauge(
    "phosphene_work_oldest_seconds", "Age of the oldest picture in the queue of a space", ["space"], registry=REGISTRY
)
INDEX_LAG = Gauge(
    "phosphene_index_lag_pictures",
    "Pictures that are registered and not found by any search yet; counted up to a limit for each tenant",
    ["state"],
    registry=REGISTRY,
)
INDEX_LAG_AGE = Gauge(
    "phosphene_index_lag_seconds",
    "Age of the oldest picture that is registered and not found by any search yet",
    ["state"],
    registry=REGISTRY,
)
REINDEX = Gauge(
    "phosphene_reindex_pictures",
    "A change of the model under way: pictures there were at its start (total) and dealt with (done)",
    ["state"],
    registry=REGISTRY,
)
GENERATIONS = Gauge(
    "phosphene_generations",
    "Generations queued and running; those that ended, of the last 24 hours",
    ["state"],
    registry=REGISTRY,
)
GENERATIONS_AGE = Gauge(
    "phosphene_generations_oldest_seconds", "Age of the oldest generation in a state", ["state"], registry=REGISTRY
)
JOBS_WAITING = Gauge(
    "phosphene_jobs_waiting", "Jobs that have not begun, by thread of this process", ["thread"], registry=REGISTRY
)
OF_CATALOGUE = (WORK, WORK_AGE, INDEX_LAG, INDEX_LAG_AGE, REINDEX, GENERATIONS, GENERATIONS_AGE)


@contextmanager
def embed_stage(stage: str) -> Iterator[None]:
    """Time a part of embedding that concerns a batch."""
    with tracing.span(f"embed.{stage}"), EMBED_STAGES.labels(stage).time():
        yield


@contextmanager
def job(name: str, *, unavailable: type[BaseException]) -> Iterator[None]:
    """Time a job, and note how it ended; errors of the kind `unavailable` are no fault of the job."""
    began = time.perf_counter()
    outcome = "failed"
    under_way = JOBS_UNDER_WAY.labels(name)
    under_way.inc()
    try:
        with tracing.span(name):
            yield
        outcome = "done"
    except unavailable:
        outcome = "unavailable"
        raise
    finally:
        under_way.dec()
        JOBS.labels(name, outcome).observe(time.perf_counter() - began)


Readings = dict[Gauge, dict[tuple[str, ...], float]]  # what gauges say, by the values of their labels


def exposition(now: Readings) -> bytes:
    """Write all metrics of this process as text; gauges are set to what they are `now`, and to nothing else."""
    with _exposing:
        for gauge, values in now.items():
            gauge.clear()
            for labels, value in values.items():
                gauge.labels(*labels).set(value)
        return bytes(generate_latest(REGISTRY))


_exposing = threading.Lock()


def exposition_of_children(folder: Path) -> bytes:
    """Write the metrics that children keep in a folder, dead ones' counts included."""
    for pid in {int(found[1]) for path in glob.glob(f"{folder}/gauge_live*.db") if (found := _PID.search(path))}:  # noqa: PTH207  as the library finds them
        if not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            with contextlib.suppress(FileNotFoundError):  # another scrape was faster
                mark_process_dead(pid, path=str(folder))  # type: ignore[no-untyped-call]  # it has no types
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]  # it has no types
    ProcessCollector(registry=registry)
    return bytes(generate_latest(registry))


_PID = re.compile(r"_(\d+)\.db$")
