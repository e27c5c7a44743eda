"""Commands of `phosphene`: parse, call one function of a backend, print."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from phosphene import __version__
from phosphene.catalog.records import ReindexState
from phosphene.cli import asking, comparing, imagining, labelling, moderating, output, probing
from phosphene.cli.backend import Asked, Backend, Ingested, choose_backend
from phosphene.cli.boards import boards
from phosphene.cli.options import ApiKey, Data, Json, Limit, Model, Output, Server
from phosphene.cli.options import backend as _backend
from phosphene.cli.options import settings as _settings
from phosphene.errors import InvalidInput, InvalidQuery
from phosphene.evaluation.golden import read_golden
from phosphene.settings import load_settings
from phosphene.types import GenerateMode, Modality
from phosphene.words.fusion import Fusion, Mode
from search_api.schemas import ReindexAction
from search_api.schemas.labels import KeywordsRequest

app = typer.Typer(
    name="phosphene",
    help="Semantic image search. PHOSPHENE_* variables or .env hold the settings; what is unset means embedded.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Collapse(StrEnum):
    """What a list can be rid of."""

    DUPLICATES = "duplicates"


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Semantic image search."""
    if show:
        output.line(__version__)
        raise typer.Exit


@app.command()
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Folder, file, glob, CSV/JSONL/Parquet manifest, WebDataset tar, URL list, any fsspec URL. "
            "Or: status [INGEST], which lists ingests, or what one of them could not use.",
        ),
    ],
    metadata: Annotated[Path | None, typer.Option(help="Manifest joined to the pictures by file name.")] = None,
    column_map: Annotated[
        str | None, typer.Option(help="Manifest columns: file=path,title=caption,year=date_created.")
    ] = None,
    fetch_urls: Annotated[bool, typer.Option("--fetch-urls", help="Fetch pictures from http(s) addresses.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start it and come back (needs a server).")] = False,
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
    with _backend("ingest", data=data, model=model, server=server, api_key=api_key) as backend:
        if sources[0] == "status":
            _ingest_status(backend, sources[1:], json=json)
            return
        asked = Ingested(
            specs=tuple(sources),
            metadata=metadata,
            column_map=_pairs(column_map),
            fetch_urls=fetch_urls,
            wait=not no_wait,
        )
        response = backend.ingest(asked)
        labelled = backend.keywords(KeywordsRequest(new_only=True)) if keywords else None
    output.ingested(response, as_json=json)
    if labelled is not None and not json:
        labelling.print_keywords(labelled, as_json=False)
    if response.state == "failed":
        raise typer.Exit(1)


def _ingest_status(backend: Backend, arguments: list[str], *, json: bool) -> None:
    if len(arguments) > 1:
        raise InvalidInput(f"ingest status takes one ingest, not {len(arguments)}")
    if arguments:
        output.quarantine(backend.ingest_status(arguments[0]), backend.quarantine(arguments[0]), as_json=json)
    else:
        output.ingests(backend.ingests(), backend.quarantine(None), as_json=json)


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


@app.command()
def search(
    text: Annotated[
        str | None,
        typer.Argument(
            help="What the picture shows, in your own words, or in the language of the search box: "
            "2:dog + beach -snow orientation:landscape NOT people."
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="[WEIGHT:]FILE", help="Search with this picture; several times, and beside TEXT."),
    ] = None,
    asset: Annotated[
        list[str] | None,
        typer.Option(metavar="[WEIGHT:]ID", help="Search for pictures like this asset, -1:ID unlike. Several times."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="TEXT|FILE|asset:ID", help="Take out pictures that show this. Several times."),
    ] = None,
    rather: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT|FILE|asset:ID", help="Only pictures more like this than --than. Several times."),
    ] = None,
    than: Annotated[list[str] | None, typer.Option(metavar="TEXT|FILE|asset:ID", help="See --rather.")] = None,
    edit: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="BEFORE AFTER", help="Turn the question from what one caption says to the other."),
    ] = None,
    theta: Annotated[float, typer.Option(min=0, max=1, help="How far --edit goes.")] = 0.35,
    best_score: Annotated[
        bool, typer.Option("--best-score", help="Of several examples, rank by the nearest one instead of their mean.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="TEXT is words only: no sign in it means anything.")] = False,
    filter: Annotated[
        list[str] | None,
        typer.Option(help="year>=1990, keywords=cat|dog, creator=*, isolated=true, colour=#ff8800, or JSON."),
    ] = None,
    limit: Limit = 10,
    cursor: Annotated[str | None, typer.Option(help="Go on after an earlier list.")] = None,
    generate: Annotated[
        bool | None,
        typer.Option(help="Draw a picture where none matches, and wait for it (PHOSPHENE_GENERATE)."),
    ] = None,
    prior_search: Annotated[
        bool, typer.Option("--prior-search", help="Where none matches, let the prior say what to look for.")
    ] = False,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="How much a hit loses for being like one above it.")
    ] = 0.0,
    group_by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="List the best of each value of this field, or near_duplicates.")
    ] = None,
    group_size: Annotated[int, typer.Option(min=1, max=12, help="Hits of a group.")] = 4,
    collapse: Annotated[
        Collapse | None, typer.Option(help="Leave out what is nearly the same picture as one above it.")
    ] = None,
    rerank: Annotated[
        bool | None, typer.Option(help="Order by the deployment's own function (PHOSPHENE_RERANK), or not.")
    ] = None,
    facets: Annotated[
        str | None, typer.Option(metavar="FIELDS", help="Count the values of these fields: category,year.")
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(help="Compare a text with the picture, with its words (title, fields, file name), or with both."),
    ] = None,
    fusion: Annotated[Fusion, typer.Option(help="Both: the two lists are made one by ranks or scores.")] = Fusion.RRF,
    weights: Annotated[
        str | None, typer.Option(metavar="PICTURE:WORDS", help="What each of the two lists counts for, like 1:2.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say of each hit which part gave what.")] = False,
    output_file: Output = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Find pictures by meaning, and by the words they carry."""
    if generate and cursor is not None:
        raise InvalidQuery("--generate goes with the first page: leave --cursor out")
    imagining.check_output(output_file)
    question = asking.Question(
        text=text,
        plain=plain,
        images=tuple(image or ()),
        assets=tuple(asset or ()),
        excluded=tuple(exclude or ()),
        pairs=asking.pairs_of(rather or [], than or []),
        edit=edit,
        theta=theta,
        best_score=best_score,
    )
    request = question.request(
        limit=limit,
        cursor=cursor,
        generate=None if generate is None else GenerateMode.WHEN_UNMATCHED if generate else GenerateMode.NEVER,
        prior_search=prior_search,
        listing={
            "diversity": diversity,
            "group_by": group_by,
            "group_size": group_size,
            "collapse": collapse,
            "rerank": rerank,
            "facets": [name.strip() for name in (facets or "").split(",") if name.strip()],
        },
        words=asking.WordsAsked(mode, fusion, weights, explain),
    )
    asked = Asked(request, terms=tuple(filter or ()))
    with _backend("search", data=data, model=model, server=server, api_key=api_key) as backend:
        response = backend.search(asked)
        if not json:
            output.hits(response, as_json=False)
        drawn = imagining.draw_offered(backend, response.generation, target=output_file)
    if json:
        output.line(imagining.search_json(response, drawn))
    wanted = generate or response.generation is not None
    if wanted and not imagining.print_offered(response, drawn, quiet=json) and generate:
        raise typer.Exit(1)


@app.command()
def generate(
    text: Annotated[str | None, typer.Argument(help="What to draw, in your own words.")] = None,
    variation_of: Annotated[
        str | None, typer.Option(metavar="ASSET|FILE", help="Draw variations of this picture.")
    ] = None,
    blend: Annotated[
        list[str] | None,
        typer.Option(metavar="ASSET|FILE", help="Blend this picture with others and with TEXT; give it several times."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Shares in a blend, as 2,1: TEXT first, then each --blend.")
    ] = None,
    edit: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="BEFORE AFTER", help="Change the picture from what one caption says to the other."),
    ] = None,
    theta: Annotated[float, typer.Option(min=0, max=1, help="How far --edit goes.")] = 0.35,
    images: Annotated[int, typer.Option(min=1, max=64, help="How many.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed, the same picture; default: random.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="In pixels; default: the generator's own.")] = None,
    negative: Annotated[str | None, typer.Option(help="What the picture should not show.")] = None,
    steps: Annotated[int | None, typer.Option(min=2, max=1000, help="Denoising steps of prior and decoder.")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=1, max=100, help="How closely both follow what is asked; 1: not at all more.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="png or webp; default: as -o says, else png.")] = None,
    withhold_prompt: Annotated[
        bool, typer.Option("--withhold-prompt", help="Keep the words out of the picture's metadata and the catalogue.")
    ] = False,
    output_file: Output = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Draw pictures with unCLIP: from words, as variations, blends or edits. Ctrl-C cancels."""
    wanted = imagining.Wanted(
        text=text,
        variation_of=variation_of,
        blend=tuple(blend or ()),
        weights=imagining.weights_of(weights),
        edit=edit,
        theta=theta,
        images=images,
        seed=seed,
        size=size,
        negative=negative,
        steps=steps,
        guidance=guidance,
        format=format,
        withhold_prompt=withhold_prompt,
        output=output_file,
    )
    asked = wanted.request()
    imagining.check_output(output_file)
    with _backend("generate", data=data, model=model, server=server, api_key=api_key) as backend:
        drawn = imagining.save(backend.await_generation(backend.generate(asked)), backend, target=output_file)
    if not imagining.print_drawn(drawn, as_json=json):
        raise typer.Exit(1)


@app.command()
def generations(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """List what was asked to be drawn, newest first."""
    with _backend("generations", data=data, model=model, server=server, api_key=api_key) as backend:
        found = backend.generations(limit=limit)
    imagining.print_generations(found, as_json=json)


@app.command()
def accept(
    generation: Annotated[str, typer.Argument(help="Id of a finished generation; phosphene generations lists them.")],
    picture: Annotated[int, typer.Option(min=0, max=63, help="Which of its pictures, counted from 0.")] = 0,
    title: Annotated[
        str | None, typer.Option(help="What it is called; default: the words that it was drawn from.")
    ] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Take a drawn picture into the catalogue, where searches find it, marked as generated."""
    with _backend("accept", data=data, model=model, server=server, api_key=api_key) as backend:
        asset = backend.accept(generation, index=picture, title=title)
    output.line(asset.model_dump_json() if json else f"{asset.asset_id}  {asset.title or ''}".rstrip())


@app.command()
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
    with _backend("fields", data=data, model=model, server=server, api_key=api_key) as backend:
        found = backend.fields(said)
    output.fields(found, as_json=json)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Compare catalogue, blobs and index; exit status 1 when they differ and were not mended."""
    with _backend("verify", data=data, model=model, server=server, api_key=api_key) as backend:
        report = backend.verify(repair=repair)
    output.verified(report, as_json=json)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
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
    with _backend("calibrate", data=data, model=model, server=server, api_key=api_key) as backend:
        response = backend.calibrate(false_match_rate=false_match_rate, golden=judged)
    output.calibrated(response, as_json=json)
    if plot is not None:
        from phosphene.cli.plot import draw_calibrations

        draw_calibrations(response.calibrations, plot)
    if len(response.failed) == len(Modality):
        raise typer.Exit(1)


@app.command()
def evaluate(
    golden: Annotated[
        Path | None,
        typer.Argument(
            metavar="GOLDEN",
            help='Golden queries: {"query": "a dog", "relevant": ["dog.jpg"]} lines; default: the demo\'s.',
        ),
    ] = None,
    no_match: Annotated[
        bool, typer.Option("--no-match", help="Also how well matches are told: ask with the right pictures taken out.")
    ] = False,
    index_recall: Annotated[
        bool,
        typer.Option("--index-recall", help="The index against exact search, also under filters of 50, 10 and 1 %."),
    ] = False,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Neighbours that --index-recall asks for.")] = 10,
    questions: Annotated[
        int, typer.Option(min=1, max=10_000, help="Stored pictures that --index-recall asks with.")
    ] = 200,
    zero_shot: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Zero-shot accuracy on a folder with a folder for each class.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the folders: JSON, or lines of folder and label.")
    ] = None,
    templates: Annotated[Path | None, typer.Option(help="Sentences with {} where the label goes, one a line.")] = None,
    captions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Captions against pictures: Karpathy's or COCO's JSON, or CSV.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The pictures of --captions.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of the --captions file; default: test, where it has parts.")
    ] = None,
    captions_each: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many captions of each picture; default: all.")
    ] = None,
    bias: Annotated[
        bool, typer.Option("--bias", help="Known limits: counting, negation, colours of things, written words.")
    ] = False,
    people: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|FILE", help="Pictures of people by group: a folder for each, or CSV/JSONL."),
    ] = None,
    people_by: Annotated[str, typer.Option(help="Column of --people that says the group, as race.")] = "group",
    people_labels: Annotated[
        Path | None, typer.Option(help="What people may be called in --people, one a line; default: ten labels.")
    ] = None,
    fail_under: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Exit status 1 below it: recall@10=0.5, mrr=0.4 …")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG, SVG or PDF file.")] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Measure search on golden queries, the index against exact search, or a model on a published benchmark."""
    from phosphene.cli import evaluate as evaluating
    from phosphene.cli.evaluation_text import lines

    wanted = evaluating.Wanted(
        golden=golden,
        no_match=no_match,
        index_recall=index_recall,
        k=k,
        questions=questions,
        zero_shot=zero_shot,
        labels=labels,
        templates=templates,
        captions=captions,
        images=images,
        split=split,
        captions_each=captions_each,
        bias=bias,
        people=people,
        people_by=people_by,
        people_labels=people_labels,
        fail_under=evaluating.thresholds_of(fail_under or ()),
        plot=plot,
    )
    if wanted.of_model and server is not None:
        raise InvalidInput("--zero-shot, --captions and --bias embed in this process, with --model: leave --server out")
    settings = _settings(data=data, model=model)
    report = evaluating.evaluate(
        wanted,
        settings,
        backend=lambda: choose_backend(settings, command="phosphene evaluate", server=server, api_key=api_key),
    )
    output.evaluated(report, lines(report), as_json=json)
    if plot is not None:
        from phosphene.cli.evaluation_plot import draw_evaluation

        draw_evaluation(report, plot)
    if low := evaluating.too_low(report, wanted.fail_under):
        for text in low:
            output.note(f"phosphene: {text}")
        raise typer.Exit(1)


@app.command()
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
    with _backend("duplicates", data=data, model=model, server=server, api_key=api_key) as backend:
        found = backend.duplicates(again=again, limit=limit)
    output.duplicates(found, as_json=json)


@app.command()
def reindex(
    target: Annotated[
        str | None,
        typer.Option("--model", help="Move to this model: OpenCLIP name/tag, folder, hf-hub: name, starter."),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Say how it stands.")] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Let the new model answer, after --no-swap or --rollback.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Let the model before answer again, at once.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the space of the model before.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Drop the new space.")] = False,
    golden: Annotated[
        Path | None, typer.Option(help="Golden queries that both models are asked, as phosphene evaluate takes them.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="By how much recall@10 and nDCG@10 of --golden may be worse.")
    ] = 0.02,
    least_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Recall@10 of the new index against exact comparison.")
    ] = 0.95,
    max_missing: Annotated[int, typer.Option(min=0, help="Pictures that the new model may be unable to embed.")] = 0,
    auto_swap: Annotated[bool, typer.Option("--auto-swap/--no-swap", help="Answer as soon as all is passed.")] = True,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave it to the server or the workers.")] = False,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Move the catalogue to another model while it is searched; run again, it goes on. Exit status 1: not passed."""
    from phosphene.cli import reindexing

    named: dict[ReindexAction, bool] = {"swap": swap, "rollback": rollback, "finish": finish, "abort": abort}
    wanted = reindexing.asked(
        model=target,
        actions=[name for name, given in named.items() if given],
        golden=golden,
        tolerance=tolerance,
        least_recall=least_recall,
        max_missing=max_missing,
        swap=auto_swap,
    )
    if status and wanted is not None:
        raise InvalidInput("--status only looks: leave the others out")
    with _backend("reindex", data=data, model=None, server=server, api_key=api_key) as backend:
        now = backend.reindex(wanted, wait=not no_wait)
        if wanted is not None and not no_wait:
            now = backend.await_reindex()
    output.reindexed(now, reindexing.lines(now), as_json=json)
    if wanted is not None and now.reindex is not None and now.reindex.state is ReindexState.REFUSED:
        raise typer.Exit(1)


app.add_typer(boards)
app.command()(comparing.embed)
app.command()(comparing.similarity)
app.command()(labelling.classify)
app.command()(labelling.describe)
app.command()(labelling.keywords)
app.add_typer(probing.probe, name="probe")
app.add_typer(moderating.moderation, name="moderation")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address (PHOSPHENE_HOST, default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (PHOSPHENE_PORT, default 8000; 0: a free one).")] = None,
    data: Data = None,
    model: Model = None,
) -> None:
    """Serve the page and the HTTP API; embedded, with its jobs."""
    from phosphene.cli.serving import serve_until_stopped

    serve_until_stopped(_settings(host=host, port=port, data=data, model=model), command="phosphene serve")


@app.command()
def demo(
    port: Annotated[int | None, typer.Option(help="Port (PHOSPHENE_PORT, default 8000; 0: a free one).")] = None,
    data: Data = None,
) -> None:
    """Serve a catalogue of real clip art to search in; pictures come in while you look."""
    from phosphene.cli.serving import serve_demo

    serve_demo(_settings(port=port, data=data), port_was_asked=port is not None)


@app.command()
def worker(
    queues: Annotated[
        str, typer.Option(help="Which queues, separated by commas.")
    ] = "embed.online,embed,ingest,generate,maintenance",
    concurrency: Annotated[int, typer.Option(min=1, help="Processes; one for each GPU.")] = 1,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda:N, mps (PHOSPHENE_DEVICE).")] = None,
) -> None:
    """Run a Celery worker on PHOSPHENE_BROKER_URL."""
    from workers.celery_app import run_worker

    names = [name.strip() for name in queues.split(",") if name.strip()]
    run_worker(_settings(device=device), queues=names, concurrency=concurrency)


@app.command()
def models(json: Json = False) -> None:
    """List the models that can be named, and which are here."""
    from phosphene.encoders import describe_models

    output.models(describe_models(), as_json=json)


@app.command()
def doctor(
    data: Data = None,
    model: Model = None,
    json: Json = False,
) -> None:
    """Look at settings, disk, model and stores, and say what is wrong."""
    from phosphene.cli.doctor import examine

    if not output.findings(examine(load_settings(data=data, model=model)), as_json=json):
        raise typer.Exit(1)
