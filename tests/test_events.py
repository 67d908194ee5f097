"""A call can be followed while it runs: by events, by log records and by OpenTelemetry's spans and metrics."""

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sparse_embed import AuthenticationError, DenseEncoder, SparseEncoder
from sparse_embed.events import CallEnded, CallStarted, Event, Paused, RequestSent, Retrying
from sparse_embed.testing import fake_clients, no_wait
from tests.faultserver import HTML_502, RESET, Action, Gate, Seen
from tests.ways import KEY, Way, both_ways, each_wire, meeting, right

TEXTS = [f"a secret text {number}" for number in range(250)]


def limited_then_broken(seen: Seen) -> Action:
    """The first request is limited, the second meets a bad gateway, the third a reset; then all is well."""
    faults = {1: Action(429, "slow down", headers={"retry-after": "1"}), 2: HTML_502, 3: RESET}
    return faults.get(seen.number, Action())


@both_ways
@each_wire
def test_every_step_of_a_call_is_an_event(use: Way, provider: Any, kind: Any) -> None:
    heard: list[Event] = []
    with meeting(limited_then_broken, provider, kind, on_event=heard.append) as (server, encoder), no_wait():
        assert use(encoder, "embed_documents", TEXTS) == right(encoder, TEXTS)
        port = int(server.url.rpartition(":")[2])
    assert isinstance(heard[0], CallStarted)
    assert isinstance(heard[-1], CallEnded)
    assert len({event.call for event in heard}) == 1
    call = heard[0].call
    assert call[1:] == (provider, encoder.model, encoder._kind, "document", len(TEXTS), "127.0.0.1", port)
    sent = [event for event in heard if isinstance(event, RequestSent)]
    assert len(sent) == len(server.requests) == heard[-1].usage.requests
    assert sum(event.texts for event in sent if event.attempt == 1) == len(TEXTS)
    assert sorted((event.reason, event.status) for event in heard if isinstance(event, Retrying)) == [
        ("APIConnectionError", None),
        ("RateLimitError", 429),
        ("ServerError", 502),
    ]
    assert [1.0 <= event.seconds < 1.2 for event in heard if isinstance(event, Paused)] == [True]
    ended = heard[-1]
    assert (ended.usage, ended.error, ended.status) == (encoder.usage, None, None)
    assert ended.dimension == (4 if kind is DenseEncoder else None)


@both_ways
@pytest.mark.parametrize("method", ["embed_documents", "embed_query", "stream_documents"])
def test_an_error_ends_a_call_with_its_name_and_status(use: Way, method: str) -> None:
    heard: list[Event] = []
    given = "fox" if method == "embed_query" else ["fox"]
    with (
        meeting(lambda seen: Action(401), on_event=heard.append) as (_, encoder),
        pytest.raises(AuthenticationError),
    ):
        use(encoder, method, given)
    ended = heard[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.error, ended.status, ended.usage.requests) == ("AuthenticationError", 401, 1)


@both_ways
def test_a_stream_is_one_call_and_leaving_it_early_is_no_error(use: Way) -> None:
    heard: list[Event] = []
    encoder = SparseEncoder("pinecone", api_key=KEY, on_event=heard.append, **fake_clients())
    use(encoder, "stream_documents", iter(TEXTS))
    assert [type(event) for event in heard if not isinstance(event, RequestSent)] == [CallStarted, CallEnded]
    assert heard[0].call.texts is None

    heard.clear()
    stream = encoder.stream_documents(iter(TEXTS))
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator
    ended = heard[-1]
    assert isinstance(ended, CallEnded)
    assert ended.error is None


def test_a_call_counts_for_itself_and_for_its_encoder() -> None:
    heard: list[Event] = []
    encoder = SparseEncoder("pinecone", api_key=KEY, on_event=heard.append, cache=10, **fake_clients())
    for texts in (["a", "b"], ["b", "c"]):
        encoder.embed_documents(texts)
    ended = [event.usage for event in heard if isinstance(event, CallEnded)]
    assert [(usage.texts, usage.cache_hits, usage.requests) for usage in ended] == [(2, 0, 1), (1, 1, 1)]
    assert (encoder.usage.texts, encoder.usage.cache_hits, encoder.usage.requests) == (3, 1, 2)


def test_several_refusals_at_the_beginning_of_a_pause_are_one_pause() -> None:
    heard: list[Event] = []

    all_four = Gate()

    def refuse_the_first_four(seen: Seen) -> Action:
        if seen.number == 4:
            all_four.open()
        return Action(429, headers={"retry-after": "60"}, gate=all_four) if seen.number <= 4 else Action()

    with meeting(refuse_the_first_four, batch_size=10, on_event=heard.append) as (_, encoder), no_wait():
        encoder.embed_documents(TEXTS[:80])
    assert sum(isinstance(event, Retrying) for event in heard) == 4
    assert sum(isinstance(event, Paused) for event in heard) == 1


@both_ways
def test_a_listener_that_fails_is_logged_and_costs_no_vector(use: Way, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("a bug in the application")

    encoder = SparseEncoder("pinecone", api_key=KEY, on_event=fail, **fake_clients())
    assert len(use(encoder, "embed_documents", ["a"])) == 1
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {RuntimeError}


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if (record.name, record.levelno) == ("sparse_embed", level)
    ]


@both_ways
def test_the_log_warns_of_long_waits_and_pauses_and_tells_what_calls_cost(
    use: Way, caplog: pytest.LogCaptureFixture
) -> None:
    def limited_and_busy(seen: Seen) -> Action:
        busy = {1: Action(429, headers={"retry-after": "1"}), 2: Action(503, headers={"retry-after": "2"}), 3: RESET}
        return busy.get(seen.number, Action())

    caplog.set_level(logging.DEBUG, logger="sparse_embed")
    with meeting(limited_and_busy) as (_, encoder), no_wait():
        use(encoder, "embed_documents", TEXTS[:50])
    pause, retry, *_ = records(caplog, logging.WARNING)  # the backoff after the reset may be a long one
    assert pause.startswith("call ")
    assert "(pinecone pinecone-sparse-english-v0, document): " in pause
    assert "rate limit, no request for 1." in pause
    assert "attempt 2 failed (ServerError, status 503), retrying in 2." in retry
    (ended,) = records(caplog, logging.INFO)
    assert ": done in " in ended
    assert "texts 50 (cached 0), tokens 50, requests 4 (retries 3)" in ended
    assert sum("request of 50 text(s)" in line for line in records(caplog, logging.DEBUG)) == 4
    fields = vars(next(record for record in caplog.records if record.levelno == logging.INFO))
    assert fields["event"] == "CallEnded"
    assert (fields["provider"], fields["texts"], fields["tokens"], fields["error"]) == ("pinecone", 50, 50, None)


def test_at_the_default_level_a_call_that_goes_well_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    SparseEncoder("pinecone", api_key=KEY, **fake_clients()).embed_documents(TEXTS)
    assert caplog.records == []


@pytest.fixture(scope="module")
def exporters() -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(MeterProvider([reader]))
    return spans, reader


@pytest.fixture
def spans(exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> InMemorySpanExporter:
    exporters[0].clear()
    return exporters[0]


@both_ways
@each_wire
def test_a_call_is_one_client_span_by_the_conventions(
    use: Way, provider: Any, kind: Any, spans: InMemorySpanExporter
) -> None:
    with meeting(limited_then_broken, provider, kind) as (server, encoder), no_wait():
        use(encoder, "embed_documents", TEXTS)
    (span,) = spans.get_finished_spans()
    assert span.name == f"embeddings {encoder.model}"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.status.is_unset
    expected = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": encoder.model,
        "gen_ai.usage.input_tokens": encoder.usage.total_tokens,
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
        "sparse_embed.kind": encoder._kind,
        "sparse_embed.role": "document",
    }
    if kind is DenseEncoder:
        expected["gen_ai.embeddings.dimension.count"] = 4
    assert span.attributes == expected
    assert sorted(event.name for event in span.events) == ["rate limit pause", "retry", "retry", "retry"]


@both_ways
@pytest.mark.parametrize("method", ["embed_documents", "stream_documents"])
def test_the_callers_span_is_the_parent_and_stays_the_current_one(
    use: Way, method: str, spans: InMemorySpanExporter
) -> None:
    encoder = SparseEncoder("pinecone", api_key=KEY, **fake_clients())
    with trace.get_tracer("test").start_as_current_span("request") as parent:
        use(encoder, method, TEXTS)
        assert trace.get_current_span() is parent
    embeddings, request = spans.get_finished_spans()
    assert embeddings.parent is not None
    assert embeddings.parent.span_id == request.context.span_id


async def test_calls_at_the_same_time_have_a_span_each_below_their_own_parents(spans: InMemorySpanExporter) -> None:
    encoder = SparseEncoder("pinecone", api_key=KEY, **fake_clients())

    async def ask(number: int) -> None:
        with trace.get_tracer("test").start_as_current_span(f"request {number}"):
            await encoder.aembed_query(f"query {number}")

    await asyncio.gather(*(ask(number) for number in range(20)))
    finished = spans.get_finished_spans()
    parents = {span.context.span_id for span in finished if span.name.startswith("request")}
    assert {span.parent.span_id for span in finished if span.parent is not None} == parents
    assert len(parents) == 20


@both_ways
def test_an_error_is_named_in_the_span_and_its_message_is_not(use: Way, spans: InMemorySpanExporter) -> None:
    with (
        meeting(lambda seen: Action(401, "bad text: a secret text 0")) as (_, encoder),
        pytest.raises(AuthenticationError),
    ):
        use(encoder, "embed_documents", TEXTS[:1])
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "AuthenticationError"
    assert span.status.status_code is trace.StatusCode.ERROR
    assert "secret" not in span.to_json()


def test_duration_and_tokens_are_measured(exporters: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> None:
    SparseEncoder("pinecone", api_key=KEY, **fake_clients()).embed_documents(TEXTS)
    data = exporters[1].get_metrics_data()
    assert data is not None
    found = {
        metric.name: metric.unit
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert found == {"gen_ai.client.operation.duration": "s", "gen_ai.client.token.usage": "{token}"}


@both_ways
def test_no_text_vector_or_key_leaves_through_events_logs_or_spans(
    use: Way, caplog: pytest.LogCaptureFixture, spans: InMemorySpanExporter
) -> None:
    heard: list[Event] = []
    caplog.set_level(logging.DEBUG, logger="sparse_embed")
    headers = {"x-tenant": "a header's secret"}
    with meeting(limited_then_broken, on_event=heard.append, default_headers=headers) as (_, encoder), no_wait():
        vector = use(encoder, "embed_documents", TEXTS)[0]
    shown = "\n".join(
        [
            *map(repr, heard),
            *(f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name == "sparse_embed"),
            *(span.to_json() for span in spans.get_finished_spans()),
        ]
    )
    assert "gen_ai" in shown
    for secret in (KEY, "secret", str(vector.indices[0])):
        assert secret not in shown
