"""Traces from a push, or from the source, to searchable: one context travels in Kafka's headers.

Off, and as good as free, until ``start_tracing`` is called; only then the SDK (the extra ``otel``) is
imported. Spans carry the mailbox's hash and the message's id, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from connectors.errors import ConfigurationError
from schemas.headers import Headers
from schemas.identity import hashed

_tracer: Any = None  # of OpenTelemetry; None: nobody traces
_NO_SPAN = nullcontext()
_OF_A_TRACE = ("traceparent", "tracestate")


def start_tracing(endpoint: str) -> None:
    """Send spans to ``endpoint`` (OTLP over HTTP). Raises ConfigurationError without the extra."""
    global _tracer
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra: install mailstream[otel]"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "mailstream"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("mailstream")


def span(
    name: str, headers: Headers = (), mailbox_id: str | None = None, message_id: str | None = None
) -> AbstractContextManager[None]:
    """A span around what is done inside; its parent is in the ``headers`` of the record that is worked on."""
    return _NO_SPAN if _tracer is None else _span(name, headers, mailbox_id, message_id)


@contextmanager
def _span(name: str, headers: Headers, mailbox_id: str | None, message_id: str | None) -> Iterator[None]:
    attributes = _attributes(mailbox_id, message_id)
    # An exception's text may quote what it choked on.
    with _tracer.start_as_current_span(
        name, _parent(headers), attributes=attributes, record_exception=False, set_status_on_exception=False
    ):
        yield


def spans(name: str, started_ns: int, ended_ns: int, works: Sequence[tuple[Headers, str, str]]) -> None:
    """Spans of works that were done together: headers, mailbox id and message id of each."""
    if _tracer is None:
        return
    for headers, mailbox_id, message_id in works:
        attributes = _attributes(mailbox_id, message_id)
        _tracer.start_span(name, _parent(headers), attributes=attributes, start_time=started_ns).end(ended_ns)


def headers() -> Headers:
    """What a record written now takes along: the span it is written in."""
    if _tracer is None:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple((name, value.encode()) for name, value in carrier.items())


def trace_of(headers: Headers) -> Headers:
    """Of a record's headers those that a trace put there."""
    return tuple((name, value) for name, value in headers if name in _OF_A_TRACE)


def _parent(headers: Headers) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {name: value.decode("ascii", "replace") for name, value in trace_of(headers)}
    return TraceContextTextMapPropagator().extract(carrier) if carrier else None


def _attributes(mailbox_id: str | None, message_id: str | None) -> dict[str, str]:
    found = {"mailbox": hashed(mailbox_id) if mailbox_id else None, "message_id": message_id}
    return {name: value for name, value in found.items() if value}
