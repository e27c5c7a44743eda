"""`phosphene jobs`: what is done to the whole catalogue in the background."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from phosphene.cli import output
from phosphene.cli.backend import uuid_of
from phosphene.cli.options import ApiKey, Data, Json, Model, Server, backend
from phosphene.errors import InvalidInput
from search_api.schemas.jobs import JobOut, JobRequest

jobs = typer.Typer(no_args_is_help=True, help="What is done to the whole catalogue in the background.")


@jobs.command()
def start(
    kind: Annotated[str, typer.Argument(help="keywords, probe, moderation or duplicates.")],
    name: Annotated[str | None, typer.Argument(help="Of the label, for probe.")] = None,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Begin a job, and say its id; a server or workers do it."""
    said: dict[str, Any] = {"kind": kind} | ({} if name is None else {"name": name})
    try:
        asked: JobRequest = TypeAdapter(JobRequest).validate_python(said)
    except ValidationError as error:
        raise InvalidInput(
            f"start keywords, probe NAME, moderation or duplicates, not {' '.join(map(str, said.values()))}"
        ) from error
    with backend("jobs", data=data, model=model, server=server, api_key=api_key) as opened:
        _print(opened.start_job(asked), as_json=json)


@jobs.command("list")
def list_all(
    data: Data = None, model: Model = None, server: Server = None, api_key: ApiKey = None, json: Json = False
) -> None:
    """List jobs, the latest first."""
    with backend("jobs", data=data, model=model, server=server, api_key=api_key) as opened:
        found = opened.jobs()
    if json:
        output.line(found.model_dump_json())
        return
    for one in found.jobs:
        _print(one, as_json=False)


@jobs.command()
def show(
    job: Annotated[str, typer.Argument(help="Its id.")],
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Say how a job stands."""
    with backend("jobs", data=data, model=model, server=server, api_key=api_key) as opened:
        _print(opened.job(uuid_of(job, "job")), as_json=json)


def _print(one: JobOut, *, as_json: bool) -> None:
    if as_json:
        output.line(one.model_dump_json())
        return
    counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in (one.result or {}).items())
    told = counts or one.error or ""
    output.line(f"{one.id}  {one.queued_at:%Y-%m-%d %H:%M}  {one.kind}  {one.state}  {told}".rstrip())
