"""Addresses as they are told and kept: names, passwords and signatures in them open doors.

Errors, logs and the list of ingests tell an address without the values of its query. The catalogue keeps the query,
since `?id=7` and `?id=8` are two pictures, but not what signs a request to a store of objects: it names nothing, and a
picture signed anew stays the picture it was. What is fetched is fetched by the address as it was given.
"""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_USER = re.compile(r"^(https?://)[^/?#]*@", re.IGNORECASE)
_SIGNS = re.compile(
    r"([?&](?:x-(?:amz|goog|oss)-[a-z0-9-]*|signature|sig|awsaccesskeyid|ossaccesskeyid|googleaccessid|key-pair-id|"
    r"policy|access_token)=)(?:(?!::)[^&#])*",
    re.IGNORECASE,
)


def kept(address: str) -> str:
    """Write an address as the catalogue keeps it: without name, password and what signs the request."""
    if _ADDRESS.match(address) is None:
        return address
    return _SIGNS.sub(r"\1***", _USER.sub(r"\1***@", address))


def told(address: str) -> str:
    """Write an address as errors and logs tell it: without name, password and values of the query. Paths stay."""
    return "::".join(map(_told, address.split("::"))) if _ADDRESS.match(address) else address


def _told(part: str) -> str:
    place, question, query = _USER.sub(r"\1***@", part).partition("?")
    names = (name + "=***" if equals else "***" for name, equals, _ in (one.partition("=") for one in query.split("&")))
    return place + question + ("&".join(names) if query else "")
