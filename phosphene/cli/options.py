"""Options that many commands share, and what is made of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from phosphene.cli import output
from phosphene.cli.backend import Backend, choose_backend
from phosphene.errors import InvalidInput
from phosphene.settings import Settings, load_settings, unknown_names

Request = TypeVar("Request", bound=BaseModel)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Server = Annotated[
    str | None, typer.Option(envvar="PHOSPHENE_SERVER", help="Ask this server instead of opening the data folder.")
]
ApiKey = Annotated[str | None, typer.Option(envvar="PHOSPHENE_API_KEY", help="Key for --server.")]
Data = Annotated[Path | None, typer.Option(help="Embedded data folder (PHOSPHENE_DATA, default ./phosphene-data).")]
Model = Annotated[str | None, typer.Option(help="OpenCLIP name/tag, folder, hf-hub: name, starter (PHOSPHENE_MODEL).")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="How many.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Write the picture to this .png or .webp file, or into this folder; several: FILE-0 …"
    ),
]


def settings(**overrides: object) -> Settings:
    """Load the settings, and warn of names that mean nothing."""
    for hint in unknown_names():
        if not hint.startswith(("PHOSPHENE_SERVER ", "PHOSPHENE_API_KEY ")):
            output.warn(hint)
    return load_settings(**overrides)


def backend(
    command: str, *, data: Path | None, model: str | None, server: str | None, api_key: str | None
) -> AbstractContextManager[Backend]:
    """Choose where a command is carried out."""
    chosen = settings(data=data, model=model)
    return choose_backend(chosen, command=f"phosphene {command}", server=server, api_key=api_key)


def request_of(kind: type[Request], **fields: object) -> Request:
    """Make a request as HTTP would take it. Raises InvalidInput, which names the field."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(first_wrong(error)) from error


def first_wrong(error: ValidationError) -> str:
    """Say what is wrong with the first field that is, in one line."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where, said = ".".join(map(str, wrong["loc"])), wrong["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said
