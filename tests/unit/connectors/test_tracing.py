"""One trace from a push to searchable, over Kafka's headers; nothing at all where nobody traces."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from connectors import tracing
from connectors.tracing import headers, span, spans
from schemas.headers import Headers
from schemas.identity import hashed


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("mailstream"))
    yield exporter
    provider.shutdown()


def test_nobody_traces_nothing_is_made() -> None:
    assert span("extract") is span("push")  # one object for all: nothing is made for an event
    with span("push", mailbox_id="box"):
        assert headers() == ()
    spans("index", 0, 1, [((), "box", "m1")])


def test_a_trace_goes_from_stage_to_stage_in_headers(exporter: InMemorySpanExporter) -> None:
    carried: Headers = ()
    for stage in ("push", "source", "extract"):
        with span(stage, carried, "box", "m1"):
            carried = headers()
        assert [name for name, _ in carried] == ["traceparent"]
    spans("index", 1_000, 5_000, [(carried, "box", "m1")])
    made: list[Any] = list(exporter.get_finished_spans())
    assert [each.name for each in made] == ["push", "source", "extract", "index"]
    assert len({each.context.trace_id for each in made}) == 1
    parents = [each.parent and each.parent.span_id for each in made]
    assert parents == [None, *(each.context.span_id for each in made[:-1])]
    assert (made[3].start_time, made[3].end_time) == (1_000, 5_000)
    assert dict(made[3].attributes) == {"mailbox": hashed("box"), "message_id": "m1"}


def test_what_an_error_says_is_not_told(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="xylophone"), span("extract", (), "box", "m1"):
        raise ValueError("xylophone")
    [made] = exporter.get_finished_spans()
    assert "xylophone" not in made.to_json()


def test_headers_of_others_do_no_harm(exporter: InMemorySpanExporter) -> None:
    with span("extract", (("traceparent", b"\xff no trace"), ("other", b"x"))):
        pass
    [made] = exporter.get_finished_spans()
    assert made.parent is None
