"""Serving an app until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from phosphene.errors import InvalidSettings, Unavailable
from phosphene.settings import Settings, is_loopback

_SHUTDOWN_S = 5  # for requests that are being answered; event streams end at once
_BACKLOG = 2048


def serve(app: FastAPI, *, settings: Settings, when_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; `when_ready` gets the URL once requests are answered. Port 0 takes a free one.

    Raises InvalidSettings (not loopback, and no API keys), Unavailable (the port is taken or not allowed).
    """
    Server(app, settings=settings, when_ready=when_ready).run()


class Server(uvicorn.Server):
    """uvicorn on a socket that is bound before anything else, so that a taken port is one clear line."""

    def __init__(self, app: FastAPI, *, settings: Settings, when_ready: Callable[[str], None] | None = None) -> None:
        refuse_open_door(settings)
        self.socket = _bound(settings.host, settings.port)
        self.url = _url(settings.host, self.socket.getsockname()[1])
        self._app = app
        self._when_ready = when_ready
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                log_config=None,  # phosphene.logs writes all lines, search_api.observing those of requests
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        try:
            super().run([*(sockets or []), self.socket])
        finally:
            self.socket.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started and self._when_ready is not None:
            await asyncio.to_thread(self._when_ready, self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End event streams, then wait for the answers under way."""
        self._app.state.stopping.set()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on a signal; the second one does not wait."""
        self._app.state.stopping.set()
        super().handle_exit(sig, frame)


def refuse_open_door(settings: Settings) -> None:
    """Raise InvalidSettings where others could reach a server that asks for no keys."""
    if not settings.api_keys and not is_loopback(settings.host):
        message = (
            f"PHOSPHENE_HOST={settings.host} can be reached from other machines, which needs API keys: set "
            "PHOSPHENE_API_KEYS=tenant:secret (secrets of 16 characters or more), or listen on 127.0.0.1"
        )
        raise InvalidSettings(message)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        message = f"PHOSPHENE_HOST={host} is no address of this machine: {error.strerror}"
        raise InvalidSettings(message) from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(AttributeError, OSError):
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        why = {
            errno.EADDRINUSE: f"port {port} of {host} is taken by another program: choose another one, or 0 for any",
            errno.EACCES: f"port {port} needs more rights than this process has: choose one above 1023",
        }.get(error.errno or 0, f"{host}:{port} can't be listened on: {error.strerror}")
        raise Unavailable(why) from error
    return listening


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104  told, not bound
    return f"http://[{name}]:{port}" if ":" in name and not name.startswith("[") else f"http://{name}:{port}"
