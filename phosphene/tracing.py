"""Spans for OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector: the only file that imports it.

Off otherwise, and then a span costs nothing. Names of spans are routes, jobs and stages: never what users wrote.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

log = logging.getLogger(__name__)


class _Tracing:
    """What `start` has set up in this process."""

    provider: TracerProvider | None = None
    tracer: Tracer | None = None


_tracing = _Tracing()


def start(service: str) -> bool:
    """Begin to send spans, where the environment asks for it; tell whether so. Warns where the package is missing."""
    if not os.environ.get(ENDPOINT) or _tracing.provider is not None:
        return _tracing.provider is not None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("%s is set, but %s is missing: pip install 'phosphene[otel]'", ENDPOINT, error.name)
        return False
    named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracing.provider, _tracing.tracer = provider, provider.get_tracer("phosphene")
    return True


def stop() -> None:
    """Send what is left."""
    provider, _tracing.provider, _tracing.tracer = _tracing.provider, None, None
    if provider is not None:
        provider.shutdown()


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[None]:
    """Make what is done in this block a span below the current one; an error marks it, without its message."""
    tracer = _tracing.tracer
    if tracer is None:
        yield
        return
    from opentelemetry.trace import Status, StatusCode

    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except BaseException as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def name_span(name: str, attributes: Mapping[str, str | int]) -> None:
    """Name the current span, and say more about it, now that it is known."""
    if _tracing.tracer is not None:
        from opentelemetry.trace import get_current_span

        current = get_current_span()
        current.update_name(name)
        current.set_attributes(attributes)


def past_span(name: str, seconds: float) -> None:
    """Add a span that ends now and took so long."""
    tracer = _tracing.tracer
    if tracer is not None:
        ended = time.time_ns()
        tracer.start_span(name, start_time=ended - int(seconds * 1e9)).end(ended)


def carried() -> dict[str, str]:
    """Give the headers by which another process goes on with this trace."""
    headers: dict[str, str] = {}
    if _tracing.tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


@contextmanager
def going_on(headers: Mapping[str, str]) -> Iterator[None]:
    """Go on with the trace that the headers name, if they name one."""
    if _tracing.tracer is None:
        yield
        return
    from opentelemetry import context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    token = context.attach(TraceContextTextMapPropagator().extract(headers))
    try:
        yield
    finally:
        context.detach(token)
