"""Commands of `phosphene`: parse, call one function of a backend, print. At the end the list of them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phosphene import __version__
from phosphene.cli import asking, comparing, drawing, evaluating, labelling, output, reindexing, searching
from phosphene.cli.backend import Backend, Ingested
from phosphene.cli.boards import boards
from phosphene.cli.jobs import jobs
from phosphene.cli.keys import keys
from phosphene.cli.moderating import moderation
from phosphene.cli.options import ApiKey, Data, Json, Model, Server, backend
from phosphene.cli.options import settings as read_settings
from phosphene.cli.probing import probe
from phosphene.errors import InvalidInput
from phosphene.evaluation.golden import read_golden
from phosphene.settings import load_settings
from phosphene.types import Modality
from search_api.schemas.labels import KeywordsRequest

app = typer.Typer(
    name="phosphene",
    help="Semantic image search. PHOSPHENE_* variables or .env hold the settings; what is unset means embedded.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Semantic image search."""
    if show:
        output.line(__version__)
        raise typer.Exit


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Folder, file, glob, CSV/JSONL/Parquet manifest, WebDataset tar, URL list, any fsspec URL. "
            "Or: status [INGEST], which lists ingests, or what one of them could not use.",
        ),
    ],
    metadata: Annotated[
        str | None, typer.Option(metavar="FILE", help="Manifest joined to the pictures by file name; or its address.")
    ] = None,
    column_map: Annotated[
        str | None, typer.Option(help="Manifest columns: file=path,title=caption,year=date_created.")
    ] = None,
    fetch_urls: Annotated[bool, typer.Option("--fetch-urls", help="Fetch from public http(s) addresses.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Start it and come back (needs a server or workers).")
    ] = False,
    keywords: Annotated[
        bool, typer.Option("--keywords", help="Give new pictures automatic keywords, too (PHOSPHENE_AUTO_KEYWORDS).")
    ] = False,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Add pictures. Run again at will: what is known is skipped, what was interrupted goes on."""
    if keywords and no_wait:
        raise InvalidInput("--keywords waits for the pictures: leave --no-wait out, or set PHOSPHENE_AUTO_KEYWORDS")
    with backend("ingest", data=data, model=model, server=server, api_key=api_key) as opened:
        if sources[0] == "status":
            _ingest_status(opened, sources[1:], json=json)
            return
        asked = Ingested(
            specs=tuple(sources),
            metadata=metadata,
            column_map=_pairs(column_map),
            fetch_urls=fetch_urls,
            wait=not no_wait,
        )
        response = opened.ingest(asked)
        labelled = opened.keywords(KeywordsRequest(new_only=True)) if keywords else None
    output.ingested(response, as_json=json)
    if labelled is not None and not json:
        labelling.print_keywords(labelled, as_json=False)
    if response.state == "failed":
        raise typer.Exit(1)


def _ingest_status(opened: Backend, arguments: list[str], *, json: bool) -> None:
    if len(arguments) > 1:
        raise InvalidInput(f"ingest status takes one ingest, not {len(arguments)}")
    if arguments:
        output.quarantine(opened.ingest_status(arguments[0]), opened.quarantine(arguments[0]), as_json=json)
    else:
        output.ingests(opened.ingests(), opened.quarantine(None), as_json=json)


def _pairs(column_map: str | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in (column_map or "").split(","):
        if not part.strip():
            continue
        name, equals, column = part.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise InvalidInput(f"--column-map {part!r}: write field=column, separated by commas")
        pairs[name.strip()] = column.strip()
    return pairs


def fields(
    declared: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=KIND…", help="Declare these, before pictures carry them.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="What they hold.")] = None,
    facet: Annotated[bool | None, typer.Option(help="Whether --facets may count them.")] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """List the fields that filters may name, or declare some: keyword, integer, float, bool, datetime, text, geo."""
    said = asking.fields_of(declared, description=description, facet=facet) if declared else None
    with backend("fields", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.fields(said)
    output.fields(found, as_json=json)


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Compare catalogue, blobs and index; exit status 1 when they differ and were not mended."""
    with backend("verify", data=data, model=model, server=server, api_key=api_key) as opened:
        report = opened.verify(repair=repair)
    output.verified(report, as_json=json)
    if not report.ok:
        raise typer.Exit(1)


def calibrate(
    false_match_rate: Annotated[
        float, typer.Option(help="Share of wrong best hits that may be called a match, between 0 and 1.")
    ] = 0.1,
    golden: Annotated[
        Path | None, typer.Option(help="Learn from these golden queries too: JSONL as `phosphene evaluate` reads it.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw ROC and reliability into this PNG file.")] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Learn from the catalogue's own captions when the best hit is a match; exit status 1 when nothing could be."""
    if not 0 < false_match_rate < 1:
        raise InvalidInput(f"the false-match rate lies between 0 and 1, not at {false_match_rate}")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {plot.absolute().parent} for --plot")
    judged = read_golden(golden) if golden is not None else []
    with backend("calibrate", data=data, model=model, server=server, api_key=api_key) as opened:
        response = opened.calibrate(false_match_rate=false_match_rate, golden=judged)
    output.calibrated(response, as_json=json)
    if plot is not None:
        from phosphene.cli.plot import draw_calibrations

        draw_calibrations(response.calibrations, plot)
    if len(response.failed) == len(Modality):
        raise typer.Exit(1)


def duplicates(
    again: Annotated[
        bool, typer.Option("--again", help="Forget what was found, and compare every picture anew.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many clusters of each kind.")] = 50,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """List near-duplicates of the whole catalogue, and which of them to keep; new pictures are compared first."""
    with backend("duplicates", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.duplicates(again=again, limit=limit)
    output.duplicates(found, as_json=json)


def serve(
    host: Annotated[str | None, typer.Option(help="Address (PHOSPHENE_HOST, default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (PHOSPHENE_PORT, default 8000; 0: a free one).")] = None,
    data: Data = None,
    model: Model = None,
    json: Json = False,
) -> None:
    """Serve the page and the HTTP API; embedded, with its jobs."""
    from phosphene.cli.serving import serve_until_stopped

    chosen = read_settings(host=host, port=port, data=data, model=model)
    serve_until_stopped(chosen, command="phosphene serve", as_json=json)


def demo(
    port: Annotated[int | None, typer.Option(help="Port (PHOSPHENE_PORT, default 8000; 0: a free one).")] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Serve a catalogue of real clip art to search in; pictures come in while you look."""
    from phosphene.cli.serving import serve_demo

    serve_demo(read_settings(port=port, data=data), port_was_asked=port is not None, as_json=json)


def worker(
    queues: Annotated[
        str, typer.Option(help="Which queues, separated by commas.")
    ] = "embed.online,embed,ingest,generate,maintenance",
    concurrency: Annotated[int, typer.Option(min=1, help="Processes, all on one device. For each GPU one worker.")] = 1,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda:N, mps (PHOSPHENE_DEVICE).")] = None,
) -> None:
    """Run a Celery worker on PHOSPHENE_BROKER_URL."""
    from workers.celery_app import run_worker

    names = [name.strip() for name in queues.split(",") if name.strip()]
    run_worker(read_settings(device=device), queues=names, concurrency=concurrency)


def models(json: Json = False) -> None:
    """List the models that can be named, and which are here."""
    from phosphene.encoders import describe_models

    output.models(describe_models(), as_json=json)


def doctor(
    data: Data = None,
    model: Model = None,
    json: Json = False,
) -> None:
    """Look at settings, disk, model and stores, and say what is wrong."""
    from phosphene.cli.doctor import examine

    if not output.findings(examine(load_settings(data=data, model=model)), as_json=json):
        raise typer.Exit(1)


for command in (  # in the order of --help
    ingest,
    searching.search,
    drawing.generate,
    drawing.generations,
    drawing.accept,
    fields,
    verify,
    calibrate,
    evaluating.evaluate,
    duplicates,
    reindexing.reindex,
    comparing.embed,
    comparing.similarity,
    labelling.classify,
    labelling.describe,
    labelling.keywords,
    serve,
    demo,
    worker,
    models,
    keys,
    doctor,
):
    app.command()(command)
app.add_typer(boards)
app.add_typer(probe, name="probe")
app.add_typer(moderation, name="moderation")
app.add_typer(jobs, name="jobs")
