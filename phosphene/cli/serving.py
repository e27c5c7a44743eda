"""`phosphene serve` and `phosphene demo`: the API, the page and, embedded, the jobs in one process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

from indexer.jobs import handlers
from indexer.verify import outdated
from phosphene import logs, tracing
from phosphene.assemble import Engine, open_engine, open_jobs
from phosphene.catalog.records import AssetState, IngestState
from phosphene.cli import output
from phosphene.holder import current_holder
from phosphene.jobs import JSON, JobName, Jobs
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT
from search_api.app import create_app
from search_api.serving import refuse_open_door, serve

log = logging.getLogger(__name__)

WhenReady = Callable[[Engine, Jobs, str], None]


def serve_until_stopped(
    settings: Settings, *, command: str, as_json: bool = False, when_ready: WhenReady | None = None
) -> None:
    """Open the engine, load the model, serve until Ctrl-C or SIGTERM, then let jobs and stores finish cleanly.

    With `as_json` all that is printed is {"url": …, "pid": …}, once it answers.
    """
    refuse_open_door(settings)  # before the model is loaded for nothing
    level = settings.log_level or ("info" if settings.log_format == "json" else "warning")
    logs.configure(settings.log_format, level=level, secrets=list(settings.secrets()))
    # uvicorn raises the signal again once it has shut down; this way everything is closed and the exit status is 0.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    tracing.start("phosphene-api")
    with contextlib.ExitStack() as closing:
        closing.callback(tracing.stop)
        engine = closing.enter_context(open_engine(settings, command=command))
        if settings.log_format == "json":
            log.info("loading %s", engine.current.model)
        else:
            output.note(f"loading {engine.current.model}")
        engine.warm()
        if engine.held is not None:  # whatever ran here before is dead
            engine.catalog.interrupt_ingests(idle_s=0.0)
            engine.blobs.tidy(older_than_s=0.0)
        stop = threading.Event()
        jobs = open_jobs(settings, handlers(engine, stop=stop))
        closing.callback(jobs.close)
        closing.callback(stop.set)  # first: a running ingest ends with its batch, and goes on next time

        def ready(url: str) -> None:
            if engine.held is not None:
                engine.held.announce(url)
            output.line(_where(url, os.getpid()) if as_json else f"Phosphene is at {url}")
            before = outdated(engine)
            if before is not None:
                output.warn(before)
            jobs.send(JobName.SWEEP, {})  # what an earlier process left half done
            if when_ready is not None:
                when_ready(engine, jobs, url)

        application = create_app(engine, jobs, local_token=engine.held.token if engine.held else None)
        serve(application, settings=settings, when_ready=ready)


def _where(url: str, pid: int) -> str:
    return json.dumps({"url": url, "pid": pid})


def serve_demo(settings: Settings, *, port_was_asked: bool, as_json: bool = False) -> None:
    """Serve the bundled catalogue; where another demo already does, say where."""
    holder = current_holder(settings.data) if settings.embedded else None
    if holder is not None and holder.url:
        there = f"Phosphene is already at {holder.url} (pid {holder.pid})"
        output.line(_where(holder.url, holder.pid) if as_json else there)
        return
    if not port_was_asked and _is_taken(settings.host, settings.port):
        output.note(f"port {settings.port} is taken by another program; using a free one")
        settings = settings.model_copy(update={"port": 0})
    with contextlib.ExitStack() as closing:
        catalogue = closing.enter_context(as_file(files("phosphene") / "starter" / "demo" / "catalogue.tar"))

        def fill(engine: Engine, jobs: Jobs, url: str) -> None:
            fill_and_calibrate(engine, jobs, catalogue, in_order=settings.broker_url is None)
            if not as_json:
                output.line(f"Open {url} and search: a sailing ship, something to drink, birthday. Ctrl-C stops it.")

        serve_until_stopped(settings, command="phosphene demo", as_json=as_json, when_ready=fill)


def fill_and_calibrate(engine: Engine, jobs: Jobs, catalogue: Path, *, in_order: bool) -> None:
    """Ask for an ingest where it is missing, and a calibration after it; `in_order`: jobs run as they are sent."""
    coming_in = _fill_if_empty(engine, jobs, catalogue)
    if in_order or not (coming_in or engine.catalog.count_assets(DEFAULT_TENANT, AssetState.REGISTERED)):
        jobs.send(JobName.CALIBRATE, {"tenant": DEFAULT_TENANT})
    else:  # a worker could take it before the pictures are in, and learn nothing
        output.note(
            "once all pictures are in, run `phosphene calibrate` to have matches told from what is merely nearest"
        )


def _fill_if_empty(engine: Engine, jobs: Jobs, catalogue: Path) -> bool:
    """Ingest the demo catalogue into an empty folder, or go on where an earlier demo was stopped; tell whether so."""
    source = str(catalogue)
    earlier = [ingest for ingest in engine.catalog.ingests(DEFAULT_TENANT, limit=100) if ingest.sources == (source,)]
    if any(ingest.state is IngestState.FINISHED for ingest in earlier):
        return False
    if not earlier and engine.catalog.count_assets(DEFAULT_TENANT):
        return False  # somebody's own pictures
    job: dict[str, JSON] = {"tenant": DEFAULT_TENANT, "sources": [source], "local_files": True}
    ingest = engine.catalog.start_ingest(DEFAULT_TENANT, [source], job=job)
    jobs.send(JobName.INGEST, {**job, "ingest_id": str(ingest)})
    output.note("the demo catalogue is coming in; what is there can be searched already")
    return True


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
