"""`phosphene moderation`: pictures that somebody should look at."""

from __future__ import annotations

from typing import Annotated

import typer

from phosphene.cli import output
from phosphene.cli.backend import uuid_of
from phosphene.cli.options import ApiKey, Data, Json, Model, Server, backend
from phosphene.errors import InvalidInput
from search_api.schemas.moderation import DecisionRequest, ScanRequest, State

moderation = typer.Typer(no_args_is_help=True, help="Pictures that somebody should look at: scan, list, decide.")


@moderation.command()
def scan(
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Of the nearest blocked concept.")] = 0.4,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Flag pictures that are near to what is blocked; what was decided stays."""
    with backend("moderation", data=data, model=model, server=server, api_key=api_key) as opened:
        done = opened.scan_moderation(ScanRequest(min_score=min_score))
    output.line(done.model_dump_json() if json else f"{done.flagged:,} of {done.pictures:,} pictures are flagged")


@moderation.command("list")
def list_all(
    state: Annotated[str, typer.Option(help="flagged, approved or rejected.")] = "flagged",
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """List pictures that wait for a decision, or what was decided."""
    states: dict[str, State] = {"flagged": "flagged", "approved": "approved", "rejected": "rejected"}
    if state not in states:
        raise InvalidInput(f"--state {state!r}: {', '.join(states)}")
    with backend("moderation", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.moderated(states[state])
    if json:
        output.line(found.model_dump_json())
        return
    for one in found.assets:
        told = f"  {one.state} by {one.by}, {one.at:%Y-%m-%d %H:%M}" if one.at is not None else ""
        output.line(f"{one.score:.3f}  {one.asset_id}  {one.title or ''}  ({one.concept}){told}")


@moderation.command()
def decide(
    asset: Annotated[str, typer.Argument(help="A picture that was flagged.")],
    decision: Annotated[str, typer.Argument(help="approve or reject.")],
    by: Annotated[str, typer.Option(help="Who decides.")],
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Approve or reject a picture that was flagged."""
    if decision not in {"approve", "reject"} or not by.strip():
        raise InvalidInput(f"decide approve or reject, not {decision!r}, and say --by whom")
    body = DecisionRequest.model_validate({"decision": decision, "by": by})
    with backend("moderation", data=data, model=model, server=server, api_key=api_key) as opened:
        done = opened.decide_moderation(uuid_of(asset, "asset"), body)
    output.line(done.model_dump_json() if json else f"{done.state} by {done.by}: {done.title or done.asset_id}")
