"""`phosphene keys`: which tenants have keys, and new ones. Keys are settings: nothing is written anywhere."""

from __future__ import annotations

import json as json_text
import secrets
from collections import Counter
from typing import Annotated

import typer

from phosphene.cli import output
from phosphene.cli.options import Json
from phosphene.cli.options import settings as read_settings
from phosphene.errors import InvalidInput

_SECRET_BYTES = 32


def keys(
    new: Annotated[str | None, typer.Option(metavar="TENANT", help="Make a key for this tenant, and print it.")] = None,
    json: Json = False,
) -> None:
    """List the tenants that PHOSPHENE_API_KEYS has keys for, without the keys; or make one more."""
    held = [key.get_secret_value() for key in read_settings().api_keys]
    if new is None:
        _list_tenants(held, as_json=json)
        return
    tenant = new.strip()
    if not tenant or not tenant.isprintable() or {":", ","} & set(tenant):
        raise InvalidInput(f"{new!r} is no tenant: write a name without colon and comma")
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    if json:
        output.line(json_text.dumps({"tenant": tenant, "secret": secret}))
        return
    output.line(f"{tenant}:{secret}")
    output.note(
        "put it into PHOSPHENE_API_KEYS, after a comma where there are keys already, and start the server again; "
        "callers send `Authorization: Bearer` and what stands behind the colon"
    )


def _list_tenants(held: list[str], *, as_json: bool) -> None:
    counts = Counter(key.partition(":")[0] for key in held)
    if as_json:
        output.line(json_text.dumps([{"tenant": tenant, "keys": count} for tenant, count in sorted(counts.items())]))
        return
    for tenant, count in sorted(counts.items()):
        output.line(f"{tenant}  {count} {'key' if count == 1 else 'keys'}")
    if not counts:
        output.note("no keys: whoever is on this machine may ask everything, nobody else anything")
