"""`phosphene generate`, `generations`, `accept`: pictures that a model draws, and what becomes of them."""

from __future__ import annotations

from typing import Annotated

import typer

from phosphene.cli import imagining, output
from phosphene.cli.options import ApiKey, Data, Json, Model, Output, Server, backend


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
    with backend("generate", data=data, model=model, server=server, api_key=api_key) as opened:
        drawn = imagining.save(opened.await_generation(opened.generate(asked)), opened, target=output_file)
    if not imagining.print_drawn(drawn, as_json=json):
        raise typer.Exit(1)


def generations(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """List what was asked to be drawn, newest first."""
    with backend("generations", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.generations(limit=limit)
    imagining.print_generations(found, as_json=json)


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
    with backend("accept", data=data, model=model, server=server, api_key=api_key) as opened:
        asset = opened.accept(generation, index=picture, title=title)
    output.line(asset.model_dump_json() if json else f"{asset.asset_id}  {asset.title or ''}".rstrip())
