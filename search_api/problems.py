"""Errors as problem+json (RFC 9457): one table from the error tree to a status, and nothing of our insides."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from phosphene import errors
from search_api.observing import path_told

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

# The first class that an error is an instance of decides; subclasses stand before their bases.
STATUS_OF: tuple[tuple[type[errors.PhospheneError], int], ...] = (
    (errors.InvalidInput, 422),
    (errors.PictureError, 422),
    (errors.NotFound, 404),
    (errors.Forbidden, 403),
    (errors.Overloaded, 429),
    (errors.Unavailable, 503),
    (errors.ModelError, 503),
    (errors.DataFolderInUse, 503),
    (errors.Outdated, 412),
    (errors.Cancelled, 409),
    (errors.DamagedData, 500),
)
# What every operation can answer; routes add their own.
COMMON = (400, 401, 403, 405, 413, 422, 503)
_MEANING = {
    400: "The request can't be read: broken JSON, a broken upload, or a strange Host header",
    401: "No API key, or a wrong one",
    403: "Not for this caller",
    404: "No such thing",
    405: "No such method here",
    406: "Not in this form",
    409: "What was asked for was cancelled",
    412: "It was changed since: If-Match names an older version",
    413: "The body is too large",
    422: "Readable, but wrong: `errors` says what and where",
    429: "The queue is full; try again after Retry-After seconds",
    503: "A store, the model or a decoder doesn't answer now; try again after Retry-After seconds",
}
_WRONG_SHOWN = 20
_SHOWN = 80


def status_of(error: errors.PhospheneError) -> int:
    """Give the HTTP status of an error."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)


def problem(
    status: int,
    detail: str,
    *,
    instance: str,
    kind: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> Response:
    """Make the response. `kind` is a URN that programs can tell errors apart by."""
    body = {
        "type": kind,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": errors.told(detail),
        "instance": instance,
        **members,
    }
    # ASCII, since a message may quote text that UTF-8 can't carry (lone surrogates).
    content = json.dumps(body, ensure_ascii=True).encode("ascii")
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def of_error(error: errors.PhospheneError, *, instance: str) -> Response:
    """Answer one of our own errors."""
    status = status_of(error)
    headers: dict[str, str] = {}
    members: dict[str, object] = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, errors.PictureError):
        members["fault"] = str(error.fault)
    return problem(status, str(error), instance=instance, kind=_urn(type(error)), headers=headers, **members)


def install(app: FastAPI) -> None:
    """Answer every error of an app as a problem."""

    @app.exception_handler(errors.PhospheneError)
    async def ours(request: Request, error: errors.PhospheneError) -> Response:
        if status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s %s: %s", request.method, path_told(request.url.path), error, exc_info=error)
        return of_error(error, instance=request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = error.errors()
        instance = request.url.path
        if any(entry["type"] == "json_invalid" for entry in wrong):
            reason = wrong[0].get("ctx", {}).get("error", "not JSON")
            detail = f"the body is not JSON: {reason} at character {wrong[0]['loc'][-1]}"
            return problem(400, detail, instance=instance, kind="urn:phosphene:problem:unreadable-body")
        entries = [_entry(one) for one in wrong[:_WRONG_SHOWN]]
        detail = "; ".join(f"{one['where']}: {one['problem']}" for one in entries[:3])
        kind = "urn:phosphene:problem:invalid-request"
        return problem(422, detail, instance=instance, kind=kind, errors=entries)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.BAD_REQUEST and error.__cause__ is not None:
            kind = "urn:phosphene:problem:unreadable-body"
            return problem(400, _unreadable(error.__cause__), instance=request.url.path, kind=kind)
        detail = error.detail
        if detail == HTTPStatus(error.status_code).phrase:
            detail = _MEANING.get(error.status_code, detail)
        return problem(error.status_code, detail, instance=request.url.path, headers=error.headers)


def responses(*more: int, without: Sequence[int] = ()) -> dict[int | str, dict[str, Any]]:
    """Document the problems of a route for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    statuses = sorted({*COMMON, *more} - set(without))
    return {status: {"description": _MEANING[status], "content": content} for status in statuses}


def _urn(kind: type[errors.PhospheneError]) -> str:
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)
    return f"urn:phosphene:problem:{words.removeprefix('-')}"


def _unreadable(cause: BaseException) -> str:
    """Say of a body that ended its parser, where the framework says only that it did."""
    match cause:
        case UnicodeDecodeError():
            return f"the body is not UTF-8: byte {cause.object[cause.start]:#04x} at {cause.start}"
        case RecursionError():
            return "the body is nested too deep"
        case ValueError():
            return "a number in the body has too many digits"
        case _:
            return f"the body can't be read: {type(cause).__name__}"


def _entry(wrong: Mapping[str, Any]) -> dict[str, str]:
    """Say what is wrong where, without repeating a megabyte of input; a strange field's name is input, too."""
    where = ".".join(map(str, wrong["loc"]))
    entry = {"where": _cut(where), "problem": errors.told(str(wrong["msg"]).removeprefix("Value error, "))}
    given = wrong.get("input")
    if isinstance(given, str | int | float | bool) and wrong["type"] != "missing":
        entry["given"] = _cut(repr(given))
    return entry


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
