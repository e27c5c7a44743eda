"""`phosphene moderation`: pictures that somebody should look at."""

from __future__ import annotations

from typing import Annotated

import typer

from phosphene.cli import output
from phosphene.cli.backend import uuid_of
from phosphene.cli.options import ApiKey, Data, Json, Model, Server, backend
from phosphene.errors import InvalidInput
from search_api.schemas.moderation import DecisionRequest, PolicyBody, ScanRequest, State

moderation = typer.Typer(no_args_is_help=True, help="Pictures that people should look at: policy, scan, list, decide.")


@moderation.command()
def policy(
    concept: Annotated[
        list[str] | None, typer.Option(help="What to flag, in plain words; as often as needed. Replaces those before.")
    ] = None,
    guard_rails: Annotated[
        bool | None, typer.Option("--guard-rails/--no-guard-rails", help="Flag what is not drawn, too.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="Flag from this score on.")] = None,
    at_ingest: Annotated[
        bool | None, typer.Option("--at-ingest/--no-at-ingest", help="Look at pictures as they come in.")
    ] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Say what is flagged, or change it."""
    named = {"concepts": concept, "guard_rails": guard_rails, "min_score": min_score, "at_ingest": at_ingest}
    said = {name: value for name, value in named.items() if value is not None}
    with backend("moderation", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.moderation.policy()
        if said:
            changed = found.model_dump() | said
            found = opened.moderation.set_policy(PolicyBody.model_validate(changed))
    if json:
        output.line(found.model_dump_json())
        return
    flagged = [*found.concepts, *(["what the guard rails block"] if found.guard_rails else [])]
    when = "as pictures come in, and by scans" if found.at_ingest else "by scans"
    output.line(f"flagged from {found.min_score:g} on, {when}: {', '.join(flagged)}")


@moderation.command()
def scan(
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="For this scan; default: that of the policy.")
    ] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Flag pictures by the policy; what was decided stays."""
    with backend("moderation", data=data, model=model, server=server, api_key=api_key) as opened:
        done = opened.moderation.scan(ScanRequest(min_score=min_score))
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
        found = opened.moderation.listed(states[state])
    if json:
        output.line(found.model_dump_json())
        return
    for one in found.assets:
        told = f"  {one.state} by {one.by}, {one.at:%Y-%m-%d %H:%M}" if one.at is not None else ""
        likely = f"{one.probability:4.0%}  " if one.probability is not None else ""
        output.line(f"{one.score:.3f}  {likely}{one.asset_id}  {one.title or ''}  ({one.concept}){told}")
    output.note(found.note)


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
        done = opened.moderation.decide(uuid_of(asset, "asset"), body)
    output.line(done.model_dump_json() if json else f"{done.state} by {done.by}: {done.title or done.asset_id}")
