"""The metrics of a worker over HTTP: one port answers for its children, living and dead."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from phosphene import metrics
from phosphene.errors import Unavailable
from phosphene.settings import Settings
from workers.children import folder_of_children

_PATIENCE_S = 10  # with a scraper that sends nothing

log = logging.getLogger(__name__)


@contextmanager
def scraped(settings: Settings) -> Iterator[int | None]:
    """Answer at PHOSPHENE_METRICS_PORT with the metrics of children started meanwhile; gives the port.

    Nothing is measured where none is set. Raises Unavailable where the port can't be listened on.
    """
    if settings.metrics_port is None:
        yield None
        return
    key = settings.metrics_key.get_secret_value() if settings.metrics_key is not None else None
    with folder_of_children(metrics.FOLDER) as folder:
        try:
            server = ThreadingHTTPServer((settings.metrics_host, settings.metrics_port), _handler(folder, key))
        except OSError as error:
            where = f"{settings.metrics_host}:{settings.metrics_port}"
            message = f"metrics can't be served at {where}: {error.strerror}; choose another PHOSPHENE_METRICS_PORT"
            raise Unavailable(message) from error
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        port = int(server.server_address[1])
        log.info("metrics are at http://%s:%d/metrics", settings.metrics_host, port)
        try:
            yield port
        finally:
            server.shutdown()
            server.server_close()


def _handler(folder: Path, key: str | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self._answer(HTTPStatus.NOT_FOUND, b"metrics are at /metrics\n")
            elif key is not None and not self._knows(key):
                self._answer(HTTPStatus.UNAUTHORIZED, b"send Authorization: Bearer PHOSPHENE_METRICS_KEY\n")
            else:
                self._answer(HTTPStatus.OK, metrics.exposition_of_children(folder), metrics.CONTENT_TYPE)

        def _knows(self, key: str) -> bool:
            scheme, _, given = self.headers.get("Authorization", "").partition(" ")
            return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status is HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", 'Bearer realm="phosphene metrics"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  its signature
            log.debug(format, *arguments)

    return Handler
