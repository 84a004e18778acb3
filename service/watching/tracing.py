"""Spans of a request and its stages, sent to an OpenTelemetry collector where one is configured.

    with tracing.span("decode") as span:
        ...
        span.set({"threadmatch.width": 480})

Without a collector `span` costs a look at a context variable, and nothing of OpenTelemetry is imported. What a span is
under travels with the context: tasks inherit it, and `Retriever` hands it to its threads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias

from threadmatch.service.errors import StartError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan

logger = logging.getLogger(__name__)

TRACES_PATH: Final = "/v1/traces"
EXPORT_TIMEOUT_S: Final = 5.0
FLUSH_S: Final = 5.0
"""What the last spans get at the end; a collector that is away must not hold up the drain."""

Value: TypeAlias = str | int | float | bool


class Span(Protocol):
    """One step of a request, or nothing where there is no trace."""

    @property
    def trace_id(self) -> str: ...
    def set(self, attributes: Mapping[str, Value]) -> None: ...
    def rename(self, name: str) -> None: ...
    def fail(self) -> None: ...
    def child(self, name: str) -> AbstractContextManager[Span]: ...


class _NoSpan:
    trace_id = ""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Nothing."""

    def rename(self, name: str) -> None:
        """Nothing."""

    def fail(self) -> None:
        """Nothing."""

    @contextmanager
    def child(self, _name: str) -> Iterator[Span]:
        yield self


NO_SPAN: Final[Span] = _NoSpan()
_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current() -> Span:
    """The innermost span that is open."""
    return _current.get()


@contextmanager
def span(name: str) -> Iterator[Span]:
    """A step below the current one, until the block ends; an exception marks it as failed."""
    with _current.get().child(name) as child, _as_current(child):
        yield child


@contextmanager
def _as_current(span: Span) -> Iterator[None]:
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


class _Traced:
    """A span of the SDK."""

    def __init__(self, provider: TracerProvider, span: SdkSpan) -> None:
        self._provider, self._span = provider, span

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    def set(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR)

    @contextmanager
    def child(self, name: str) -> Iterator[Span]:
        from opentelemetry.trace import set_span_in_context

        tracer = self._provider.get_tracer("threadmatch")
        with _ended(self._provider, tracer.start_span(name, context=set_span_in_context(self._span))) as below:
            yield below


@contextmanager
def _ended(provider: TracerProvider, span: SdkSpan) -> Iterator[_Traced]:
    traced = _Traced(provider, span)
    try:
        yield traced
    except BaseException as error:  # a caller who left (CancelledError) is worth seeing in a trace, too
        span.set_attribute("error.type", type(error).__name__)
        traced.fail()
        raise
    finally:
        span.end()


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
        provider = self._provider
        if provider is None:
            yield NO_SPAN
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carried = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        context = TraceContextTextMapPropagator().extract(carried)
        tracer = provider.get_tracer("threadmatch")
        span = tracer.start_span(method, context=context, kind=SpanKind.SERVER)
        with _ended(provider, span) as traced, _as_current(traced):
            yield traced
