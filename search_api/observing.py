"""Around every request: its id, its line in the log, its time in the metrics, and its span.

The id is the caller's X-Request-ID, where that is one (letters, digits and . _ -, at most 64), or else a new one. It is
sent back, and stands in every log line of the request, here and in the workers that go on with it.
"""

from __future__ import annotations

import logging
from http import HTTPMethod
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phosphene import logs, metrics, tracing

REQUEST_ID_HEADER = "X-Request-ID"
_UNKNOWN = "none"  # no route of ours, or refused before one was looked for: what is asked there is not for a label
_METHODS = frozenset(HTTPMethod)
_TOLD_ONCE = "/shared/"  # what follows opens a board to whoever reads it
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # asked every few seconds

log = logging.getLogger("phosphene.access")


class Observer:
    """Pure ASGI, outermost, so that what the guard refuses is seen too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and see what becomes of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID_HEADER, "")
        request_id = given if logs.is_id(given) else logs.new_id()
        seen = _Seen(scope, send, request_id)
        metrics.HTTP_UNDER_WAY.inc()
        with (
            logs.with_ids({"request_id": request_id}),
            tracing.going_on({name: value for name, value in headers.items() if name == "traceparent"}),
            tracing.span(scope["method"] if scope["method"] in _METHODS else "OTHER"),
        ):
            try:
                await self.app(scope, receive, seen)
            finally:
                metrics.HTTP_UNDER_WAY.dec()
                seen.tell()


class _Seen:
    """One request: sends on, and notes when the answer began."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope, self._send, self._request_id = scope, send, request_id
        self._began = perf_counter()
        self._first_s: float | None = None  # until the answer began
        self._status = 0
        self._bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._first_s = perf_counter() - self._began
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self._request_id
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    def tell(self) -> None:
        """Count it, and write its line; the query string may hold what nobody should read, and is left out."""
        method = self._scope["method"] if self._scope["method"] in _METHODS else "OTHER"
        route = route_of(self._scope)
        took_s = perf_counter() - self._began
        metrics.HTTP_REQUESTS.labels(method, route, str(self._status)).observe(self._first_s or took_s)
        tracing.name_span(f"{method} {route}", {"http.route": route, "http.response.status_code": self._status})
        path = path_told(self._scope["path"])
        fields = {
            "method": method,
            "path": path,
            "route": route,
            "status": self._status,
            "bytes": self._bytes,
            "ms": round(1000 * took_s, 1),
        }
        level = logging.DEBUG if path in _QUIET and self._status < 400 else logging.INFO
        said = "%s %s %d %d bytes %.1f ms"
        log.log(level, said, method, path, self._status, self._bytes, 1000 * took_s, extra={logs.EXTRA: fields})


def path_told(path: str) -> str:
    """Give a path as logs may have it: without what opens a shared board."""
    return f"{_TOLD_ONCE}…" if path.startswith(_TOLD_ONCE) else path


def route_of(scope: Scope) -> str:
    """Name the route that answered, as it is written in the code: /v1/assets/{asset_id}; /web for all files there."""
    path = getattr(scope.get("route"), "path", None) or scope.get("root_path")
    return path if isinstance(path, str) and path else _UNKNOWN
