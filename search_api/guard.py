"""What stands before every request: the Host header, the caller, the size of the body; and headers on every answer."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phosphene.errors import PhospheneError
from search_api import problems
from search_api.auth import Doorkeeper
from search_api.observing import path_told

log = logging.getLogger(__name__)

# Only what this server itself sends; blob: and data: are pictures that the page has at hand (dropped ones, for one).
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "require-trusted-types-for 'script'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_DRAINED_AT_MOST = 2  # times the limit, so that a client that sends first and reads later sees the answer


class Guard:
    """Pure ASGI, since it must act before FastAPI reads a body, and around everything that may fail."""

    def __init__(self, app: ASGIApp, *, doorkeeper: Doorkeeper, max_body_bytes: int) -> None:
        self.app = app
        self.doorkeeper = doorkeeper
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, private=scope["path"].startswith("/v1/"))
        refusal = await self._refusal(scope, receive)
        if refusal is not None:
            await refusal(scope, receive, answer)
            return
        try:
            await self.app(scope, self._counted(receive), answer)
        except Exception as error:
            if answer.started:
                raise
            log.exception("%s %s failed", scope["method"], path_told(scope["path"]), exc_info=error)
            said = "something went wrong here; the server's log has it"
            await problems.problem(500, said, instance=scope["path"])(scope, receive, answer)

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        headers = Headers(scope=scope)
        instance = scope["path"]
        try:
            self.doorkeeper.check_host(headers)
            self.doorkeeper.check_origin(scope["method"], headers)
            if instance.startswith("/v1/"):
                scope["phosphene.principal"] = self.doorkeeper.identify(headers)
            announced = headers.get("content-length", "")
            if announced.isdecimal() and int(announced) > self.max_body_bytes:
                if "expect" not in headers:
                    await self._drain(receive)
                raise self._too_large(f"has {int(announced):,}")
        except HTTPException as error:
            return problems.problem(error.status_code, error.detail, instance=instance, headers=error.headers)
        except PhospheneError as error:
            return problems.of_error(error, instance=instance)
        return None

    def _counted(self, receive: Receive) -> Receive:
        """Stop reading a body that turns out too large though it was not announced."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body_bytes:
                raise self._too_large(f"has more than {self.max_body_bytes:,}")
            return message

        return counted

    async def _drain(self, receive: Receive) -> None:
        """Read some of what is refused: a client that sends first and reads later then sees the answer."""
        drained = 0
        while drained < _DRAINED_AT_MOST * self.max_body_bytes:
            message = await receive()
            drained += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return

    def _too_large(self, size: str) -> HTTPException:
        return HTTPException(413, f"the body {size} bytes, {self.max_body_bytes:,} are allowed")


class _Answer:
    """Sends on, with our headers on it."""

    def __init__(self, send: Send, *, private: bool) -> None:
        self.started = False
        self._send = send
        self._private = private

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self._private:
                headers.setdefault("Cache-Control", "no-store")
        await self._send(message)
