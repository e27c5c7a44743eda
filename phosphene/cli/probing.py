"""`phosphene probe`: labels learned from examples."""

from __future__ import annotations

from typing import Annotated

import typer

from phosphene.cli import output
from phosphene.cli.backend import ProbeSides, uuid_of
from phosphene.cli.labelling import picture_fields
from phosphene.cli.options import ApiKey, Data, Json, Model, Server, backend
from search_api.schemas.label_probes import ProbeOut
from search_api.schemas.labels import PictureIn

probe = typer.Typer(no_args_is_help=True, help="Labels learned from examples: train, list, apply, delete.")

Name = Annotated[str, typer.Argument(help="What the label is called.")]


@probe.command()
def train(
    name: Name,
    positive: Annotated[list[str] | None, typer.Option(metavar="ASSET", help="A picture that shows it.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option(metavar="ASSET", help="One that does not; default: others of the catalogue.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="FILTER", help="All that this finds show it, as keywords=insect.")
    ] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Learn a label from examples; without any, again from those before, as after a change of the model."""
    sides = ProbeSides(
        tuple(uuid_of(one, "asset") for one in positive or ()),
        tuple(uuid_of(one, "asset") for one in negative or ()),
        tuple(where or ()),
    )
    with backend("probe", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.train_probe(name, sides)
    output.line(found.model_dump_json() if json else _line(found))


@probe.command("list")
def list_all(
    data: Data = None, model: Model = None, server: Server = None, api_key: ApiKey = None, json: Json = False
) -> None:
    """List labels, and how well each does on examples that were held out."""
    with backend("probe", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.probes()
    if json:
        output.line(found.model_dump_json())
        return
    for one in found.probes:
        output.line(_line(one))


@probe.command()
def apply(
    name: Name,
    picture: Annotated[
        str | None, typer.Argument(metavar="FILE|ASSET", help="One picture only, which is not changed.")
    ] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Give a label to the pictures of the catalogue: --filter probe_labels=NAME; or ask it of one picture."""
    with backend("probe", data=data, model=model, server=server, api_key=api_key) as opened:
        if picture is not None:
            answer = opened.ask_probe(name, PictureIn.model_validate(picture_fields(picture)))
            told = f"{'yes' if answer.holds else 'no'}  {answer.probability:.3f}, yes from {answer.threshold:.3f}"
            output.line(answer.model_dump_json() if json else told)
            return
        done = opened.apply_probe(name)
    output.line(done.model_dump_json() if json else f"{done.labelled:,} of {done.pictures:,} pictures have it now")


@probe.command()
def delete(name: Name, data: Data = None, model: Model = None, server: Server = None, api_key: ApiKey = None) -> None:
    """Forget a label, and take it from all pictures."""
    with backend("probe", data=data, model=model, server=server, api_key=api_key) as opened:
        opened.delete_probe(name)


def _line(one: ProbeOut) -> str:
    held = one.held_out
    area = held.auroc
    stale = "  stale: another model answers, train it again" if one.stale else ""
    return (
        f"{one.name}  held out: AUROC {area.value:.3f} ({area.low:.3f} to {area.high:.3f}), precision "
        f"{held.precision:.2f} and recall {held.recall:.2f} from {one.threshold:.2f} on; "
        f"{one.positive} examples for it, {one.negative} against{stale}"
    )
