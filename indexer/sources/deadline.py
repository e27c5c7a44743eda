"""A connection to the web that is cut at its deadline: httpx bounds each read, and headers may drip byte by byte."""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self


class Line:
    """The connection of one request. `trace` goes to httpx as the extension of that name."""

    def __init__(self, deadline: float) -> None:
        """`deadline` is of time.monotonic()."""
        self.deadline = deadline
        self.cut = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(max(deadline - time.monotonic(), 0), self._cut)
        self._timer.daemon = True

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take the connection when it stands, before TLS is spoken on it."""
        if event == "connection.connect_tcp.complete":
            connected = info["return_value"].get_extra_info("socket")
            with self._lock:
                # One of our own: shutdown of an ssl.SSLSocket would take its TLS away from the thread that reads.
                self._socket = socket.socket(fileno=os.dup(connected.fileno()))
            if self.cut:
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            self.cut = True
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # the other side was quicker

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
