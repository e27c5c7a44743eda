"""`phosphene search`: pictures by meaning, and by the words they carry."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from phosphene.cli import asking, imagining, output
from phosphene.cli.backend import Asked
from phosphene.cli.options import ApiKey, Data, Json, Limit, Model, Output, Server, backend
from phosphene.errors import InvalidQuery
from phosphene.types import GenerateMode
from phosphene.words.fusion import Fusion, Mode


class Collapse(StrEnum):
    """What a list can be rid of."""

    DUPLICATES = "duplicates"


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
        Mode,
        typer.Option(
            help="Compare a text with the picture, with its words (title, fields, file name), or with both; "
            "auto: with both where that can be."
        ),
    ] = Mode.PICTURE,
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
    with backend("search", data=data, model=model, server=server, api_key=api_key) as opened:
        response = opened.search(asked)
        if not json:
            output.hits(response, as_json=False)
        drawn = imagining.draw_offered(opened, response.generation, target=output_file)
    if json:
        output.line(imagining.search_json(response, drawn))
    wanted = generate or response.generation is not None
    if wanted and not imagining.print_offered(response, drawn, quiet=json) and generate:
        raise typer.Exit(1)
