"""Spans and metrics of OpenTelemetry, by its semantic conventions for generative AI clients (version 1.38, 2025-10).

One span ``embeddings {model}`` per call, with retries and pauses as span events. ``observers`` imports this module in
applications that have imported OpenTelemetry themselves; without an SDK, all of this does nothing. No text and no
error message is recorded: a provider's message may quote a text.
"""

from contextvars import Token
from importlib.metadata import version
from typing import Final

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from sparse_embed.events import CallEnded, CallInfo, CallStarted, Event, Paused, Retrying

# The conventions' own buckets.
SECONDS: Final = [0.01 * 2**power for power in range(14)]
TOKENS: Final = [4.0**power for power in range(14)]

_tracer = trace.get_tracer("sparse_embed", version("sparse-embed"))
_meter = metrics.get_meter("sparse_embed", version("sparse-embed"))
_duration = _meter.create_histogram(
    "gen_ai.client.operation.duration", "s", "GenAI operation duration", explicit_bucket_boundaries_advisory=SECONDS
)
_tokens = _meter.create_histogram(
    "gen_ai.client.token.usage", "{token}", "Number of tokens used", explicit_bucket_boundaries_advisory=TOKENS
)


class CallRecorder:
    """Records one call."""

    _span: Span
    _token: Token[Context] | None = None

    def __call__(self, event: Event) -> None:
        """Record an event."""
        match event:
            case CallStarted(call):
                self._start(call)
            case Retrying(_, reason, status, attempt, wait):
                answer = {} if status is None else {"http.response.status_code": status}
                self._span.add_event("retry", {"error.type": reason, "attempt": attempt, "wait": wait, **answer})
            case Paused(_, seconds):
                self._span.add_event("rate limit pause", {"seconds": seconds})
            case CallEnded():
                self._end(event)

    def _start(self, call: CallInfo) -> None:
        attributes = _attributes(call) | {"sparse_embed.kind": call.kind, "sparse_embed.role": call.role}
        self._span = _tracer.start_span(f"embeddings {call.model}", kind=SpanKind.CLIENT, attributes=attributes)
        # Spans of the HTTP requests become children of this one. Not in a stream: what a generator attaches would stay
        # attached in its consumer.
        if call.texts is not None:
            self._token = context.attach(trace.set_span_in_context(self._span))

    def _end(self, ended: CallEnded) -> None:
        if self._token is not None:
            context.detach(self._token)
        attributes, tokens = _attributes(ended.call), ended.usage.total_tokens
        if ended.error is not None:
            attributes["error.type"] = ended.error
            self._span.set_status(Status(StatusCode.ERROR))
        _duration.record(ended.seconds, attributes)
        if tokens:
            _tokens.record(tokens, attributes | {"gen_ai.token.type": "input"})
        self._span.set_attributes(attributes | {"gen_ai.usage.input_tokens": tokens})
        if ended.dimension is not None:
            self._span.set_attribute("gen_ai.embeddings.dimension.count", ended.dimension)
        self._span.end()


def _attributes(call: CallInfo) -> dict[str, str | int]:
    return {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": call.model,
        "server.address": call.host,
        "server.port": call.port,
    }
