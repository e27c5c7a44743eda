"""`phosphene evaluate`: its options; what they ask for is in evaluate.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phosphene.cli import output
from phosphene.cli.backend import choose_backend
from phosphene.cli.options import ApiKey, Data, Json, Model, Server
from phosphene.cli.options import settings as read_settings
from phosphene.errors import InvalidInput


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
    from phosphene.cli import evaluate as measuring
    from phosphene.cli.evaluation_text import lines

    wanted = measuring.Wanted(
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
        fail_under=measuring.thresholds_of(fail_under or ()),
        plot=plot,
    )
    if wanted.of_model and server is not None:
        raise InvalidInput("--zero-shot, --captions and --bias embed in this process, with --model: leave --server out")
    settings = read_settings(data=data, model=model)
    report = measuring.evaluate(
        wanted,
        settings,
        backend=lambda: choose_backend(settings, command="phosphene evaluate", server=server, api_key=api_key),
    )
    output.evaluated(report, lines(report), as_json=json)
    if plot is not None:
        from phosphene.cli.evaluation_plot import draw_evaluation

        draw_evaluation(report, plot)
    if low := measuring.too_low(report, wanted.fail_under):
        for text in low:
            output.note(f"phosphene: {text}")
        raise typer.Exit(1)
