"""Observability sees what was embedded, and never a key or a header."""

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from sparse_embed import ConfigurationError

from .conftest import DENSE


class Recorder(BaseEventHandler):
    """Keeps each event."""

    seen: list = []  # noqa: RUF012  # pydantic copies defaults

    def handle(self, event, **kwargs):
        self.seen.append(event)


@pytest.fixture
def watched():
    root = get_dispatcher()
    recorder, spans = Recorder(), SimpleSpanHandler()
    root.add_event_handler(recorder)
    root.add_span_handler(spans)
    yield recorder, spans
    root.event_handlers.remove(recorder)
    root.span_handlers.remove(spans)


async def test_events_name_the_texts_and_hold_no_secret(cls, wire, call, watched):
    recorder, spans = watched
    embedding = cls(api_key="secret", default_headers={"x-auth": "secret"}, **wire.clients)
    debug = LlamaDebugHandler(print_trace_on_end=False)
    if cls in DENSE:
        embedding.callback_manager = CallbackManager([debug])
    await call(embedding, "get_text_embedding_batch", ["fox", "dog"])
    await call(embedding, "get_query_embedding", "cat")
    assert [event.chunks for event in recorder.seen if hasattr(event, "chunks")] == [["fox", "dog"], ["cat"]]
    said = [f"{event!r} {event.model_dump_json()}" for event in recorder.seen]
    said += [repr(span) for span in spans.completed_spans]
    said += [repr(pair) for pair in debug.get_event_pairs()]
    assert len(said) > 4
    assert "secret" not in "".join(said)


async def test_a_failure_shows_no_secret(cls, key_variable, call, watched, monkeypatch):
    recorder, spans = watched
    monkeypatch.setenv(key_variable, "secret")
    with pytest.raises(ConfigurationError, match="is not sent to"):
        await call(cls(base_url="https://thief.example"), "get_query_embedding", "cat")
    assert recorder.seen
    assert "secret" not in f"{recorder.seen!r} {spans.dropped_spans!r}"
