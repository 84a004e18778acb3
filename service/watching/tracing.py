"""Spans of a request and its stages, sent to an OpenTelemetry collector where one is configured.

    with tracing.span("decode") as span:
        ...
        span.set({"threadmatch.width": 480})

Without a collector these are spans of OpenTelemetry's API, which do nothing, and nothing of its SDK is imported. What a
span is under travels with the context: tasks inherit it, and `Retriever` hands it to its threads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from threadmatch.service.errors import StartError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

TRACES_PATH: Final = "/v1/traces"
EXPORT_TIMEOUT_S: Final = 5.0
FLUSH_S: Final = 5.0
"""What the last spans get at the end; a collector that is away must not hold up the drain."""

Value: TypeAlias = str | int | float | bool

_NO_TRACER: Final = trace.NoOpTracer()
_tracer: ContextVar[trace.Tracer] = ContextVar("tracer", default=_NO_TRACER)
"""Of the app whose request this is: several apps in a process may each have a collector of their own, or none."""


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a request, or nothing where there is no trace."""

    _span: trace.Span

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; "" where there is no trace."""
        context = self._span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""
        self._span.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        """Call it otherwise than at its beginning."""
        self._span.update_name(name)

    def fail(self) -> None:
        """Mark it as failed."""
        self._span.set_status(trace.StatusCode.ERROR)


NO_SPAN: Final = Span(trace.INVALID_SPAN)


def current() -> Span:
    """The innermost span that is open."""
    return Span(trace.get_current_span())


@contextmanager
def span(name: str) -> Iterator[Span]:
    """A step below the current one, until the block ends; an exception marks it as failed."""
    tracer = _tracer.get()
    if tracer is _NO_TRACER:  # a search has ten steps, and nobody traces it
        yield NO_SPAN
        return
    with _open(tracer.start_span(name)) as child:
        yield child


@contextmanager
def _open(span: trace.Span) -> Iterator[Span]:
    """Make it the current one until the block ends."""
    opened = Span(span)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield opened
        except BaseException as error:  # a caller who left (CancelledError) is worth seeing in a trace, too
            opened.set({"error.type": type(error).__name__})
            opened.fail()
            raise


class Tracing:
    """The traces of one app. `async with tracing:` sends them while the block runs, and what is left at its end.

    Args:
        endpoint: a collector's OTLP/HTTP receiver, such as "http://collector:4318"; "" makes no traces.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._provider: TracerProvider | None = None

    async def __aenter__(self) -> Self:
        """Begin to send; nothing without an endpoint.

        Raises:
            StartError: an endpoint, but no OpenTelemetry SDK.
        """
        if self._endpoint:
            self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        provider, self._provider = self._provider, None
        if provider is None:
            return
        flushing = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_S)

    def _start(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise StartError(
                "THREADMATCH_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'threadmatch[otel]'"
            ) from error
        named = Resource({"service.name": "threadmatch"}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=named, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=self._endpoint + TRACES_PATH, timeout=EXPORT_TIMEOUT_S)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._provider = provider
        logger.info("traces are sent", extra={"endpoint": self._endpoint})

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """The span of a whole request, under the caller's where a W3C `traceparent` names one.

        Args:
            method: of HTTP.
            headers: of the request, names in lower case.
        """
        if self._provider is None:
            yield NO_SPAN
            return
        carried = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        context = TraceContextTextMapPropagator().extract(carried)
        tracer = self._provider.get_tracer("threadmatch")
        chosen = _tracer.set(tracer)
        try:
            with _open(tracer.start_span(method, context=context, kind=trace.SpanKind.SERVER)) as opened:
                yield opened
        finally:
            _tracer.reset(chosen)
