"""The batch methods tell observers what LlamaIndex's own methods tell them, and send all windows as one call."""

import asyncio
import json
import re
from contextlib import contextmanager
from typing import Any

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.storage.kvstore import SimpleKVStore

from sparse_embed import BadRequestError, ConfigurationError
from tests.faultserver import GOOD, Action, FaultServer, Gate, dense_of, status

from .conftest import DENSE, SPARSE

TEXTS = [f"text {number}" for number in range(20)] + ["text 3", "text 19"]  # repeated: across windows, within one
WINDOW, REQUEST = 8, 4  # the last window is short; no request holds texts of two windows, which would fail together


def said(value: Any) -> str:
    """A payload, to the last digit; what is not JSON, such as an error or a cache, by its type."""
    return json.dumps(value, default=lambda other: type(other).__name__)


class Record:
    """What all observers are told, in order, without what differs between any two calls: random ids and times."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self._ids: dict[str, str] = {}

    def add(self, *line: Any) -> None:
        self.lines.append(line)

    def name(self, random_id: str | None) -> str | None:
        """The first id of a method is its name and 0, and so on."""
        if random_id is None:
            return None
        method = re.sub(r"-?[0-9a-f]{8}-[-0-9a-f]+$", "", random_id)
        return self._ids.setdefault(random_id, f"{method} {len(self._ids)}")

    def events(self) -> BaseEventHandler:
        record = self

        class Events(BaseEventHandler):
            def handle(self, event: Any, **kwargs: Any) -> None:
                told = said(event.model_dump(exclude={"id_", "timestamp", "span_id", "err_str"}))
                record.add("event", type(event), told, record.name(event.span_id), event.model_fields_set)

        return Events()

    def spans(self) -> BaseSpanHandler[Any]:
        record = self

        class Spans(BaseSpanHandler[Any]):
            def span_enter(self, id_: str, bound_args: Any, instance: Any = None, parent_id: Any = None, **_: Any):
                given = {name: value for name, value in bound_args.arguments.items() if name != "jobs"}
                given.pop("job", None)  # a coroutine
                record.add("enter", record.name(id_), record.name(parent_id), given, type(instance))

            def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **_: Any):
                record.add("exit", record.name(id_), result)

            def span_drop(self, id_: str, bound_args: Any, instance: Any = None, err: Any = None, **_: Any):
                record.add("drop", record.name(id_), type(err))

            def new_span(self, *args: Any, **kwargs: Any) -> None: ...
            def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None: ...
            def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None: ...

        return Spans()

    def callbacks(self) -> BaseCallbackHandler:
        record = self

        class Callbacks(BaseCallbackHandler):
            def on_event_start(self, event_type: Any, payload: Any = None, event_id="", parent_id="", **_: Any) -> str:
                record.add("start", event_type, said(payload), record.name(event_id), parent_id)
                return event_id

            def on_event_end(self, event_type: Any, payload: Any = None, event_id="", **_: Any) -> None:
                record.add("end", event_type, said(payload), record.name(event_id))

            def start_trace(self, trace_id: Any = None) -> None:
                record.add("start trace", trace_id)

            def end_trace(self, trace_id: Any = None, trace_map: Any = None) -> None:
                record.add("end trace", trace_id)

        return Callbacks([], [])

    @contextmanager
    def listening(self):
        root, events, spans = get_dispatcher(), self.events(), self.spans()
        root.add_event_handler(events)
        root.add_span_handler(spans)
        yield
        root.event_handlers.remove(events)
        root.span_handlers.remove(spans)


class Limiter:
    """A rate limiter of LlamaIndex, which records that it was used."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def acquire(self, num_tokens: int = 0) -> None:
        self.record.add("limiter")

    async def async_acquire(self, num_tokens: int = 0) -> None:
        self.acquire()


class LlamaIndexs:
    """An object's batch methods as LlamaIndex has them."""

    def __init__(self, embedding: Any) -> None:
        base = BaseEmbedding if isinstance(embedding, BaseEmbedding) else BaseSparseEmbedding
        self.get_text_embedding_batch = base.get_text_embedding_batch.__get__(embedding)
        self.aget_text_embedding_batch = base.aget_text_embedding_batch.__get__(embedding)


def plain(embedding: Any, record: Record) -> None:
    """No further settings."""


def cached(embedding: Any, record: Record) -> None:
    embedding.embeddings_cache = SimpleKVStore()
    for text in TEXTS[5:9]:
        embedding.embeddings_cache.put(text, {"any": [1.0, 2.0, 3.0, 4.0]}, collection="embeddings")


def limited(embedding: Any, record: Record) -> None:
    embedding.rate_limiter = Limiter(record)


def cached_and_limited(embedding: Any, record: Record) -> None:
    cached(embedding, record)
    limited(embedding, record)


def with_workers(embedding: Any, record: Record) -> None:
    embedding.num_workers = 2


def refused(text: str | None) -> FaultServer:
    """A provider that refuses one text."""
    return FaultServer(lambda seen: status(400) if text in seen.texts else GOOD)


def made(cls: Any, server: FaultServer, **fields: Any) -> Any:
    """With one request at a time, so that the order of what happens is the same in every run."""
    fields = {"embed_batch_size": WINDOW, "batch_size": REQUEST, "max_concurrency": 1} | fields
    return cls(api_key="any", base_url=server.url, **fields)


def ours(embedding: Any) -> Any:
    return embedding


async def observed(call: Any, cls: Any, settings: Any, bad: str | None, *args: Any, **kwargs: Any) -> list[Any]:
    """What observers and the caller get from LlamaIndex's method, and from ours."""
    with refused(bad) as server:
        return [await run(call, cls, whose, settings, server, *args, **kwargs) for whose in (LlamaIndexs, ours)]


async def run(call: Any, cls: Any, whose: Any, settings: Any, server: FaultServer, *args: Any, **kwargs: Any) -> Any:
    record = Record()
    with record.listening():
        embedding = made(cls, server)
        if cls in DENSE:
            embedding.callback_manager = CallbackManager([record.callbacks()])
        settings(embedding, record)
        try:
            result = await call(whose(embedding), "get_text_embedding_batch", *args, **kwargs)
        except BadRequestError as error:
            result = type(error)
        # With workers, LlamaIndex leaves the other windows running after an error: their spans end later.
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        store = getattr(embedding, "embeddings_cache", None)
        kept = {} if store is None else store.get_all(collection="embeddings")
        await embedding.aclose()
        embedding.close()
    return record.lines, result, {text: list(entry.values()) for text, entry in kept.items()}


HAS_LIMITER = "rate_limiter" in BaseEmbedding.model_fields  # llama-index-core 0.14.10 has none
FOR_ALL = [plain, with_workers]
FOR_DENSE = [*FOR_ALL, cached, *([limited, cached_and_limited] if HAS_LIMITER else [])]
CASES = [(cls, settings) for cls in DENSE for settings in FOR_DENSE]
CASES += [(cls, settings) for cls in SPARSE for settings in FOR_ALL]


@pytest.mark.parametrize("bad", [None, "text 0", "text 12", "text 18"])
@pytest.mark.parametrize(("cls", "settings"), CASES)
async def test_observers_are_told_what_llamaindex_would_tell_them(cls, call, settings, bad):
    theirs, ours = await observed(call, cls, settings, bad, TEXTS)
    assert ours == theirs
    assert len(ours[0]) >= 4


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((TEXTS,), {"show_progress": True}),
        ((TEXTS, True), {}),
        ((), {"texts": TEXTS}),
        ((TEXTS[:WINDOW],), {}),
        ((TEXTS[: 2 * WINDOW],), {}),
        ((["fox"],), {}),
        (([],), {}),
    ],
    ids=["progress", "progress by position", "by name", "one window", "full windows", "one text", "no text"],
)
async def test_however_it_is_called(cls, call, args, kwargs):
    theirs, ours = await observed(call, cls, plain, None, *args, **kwargs)
    assert ours == theirs


async def test_a_further_argument_is_ignored_or_refused_as_by_llamaindex(cls, call):
    said = []
    with FaultServer() as server:
        for whose in (LlamaIndexs, ours):
            try:
                said.append(await call(whose(made(cls, server)), "get_text_embedding_batch", ["fox"], further=3))
            except TypeError as error:
                said.append(str(error))
    assert said[0] == said[1]


async def test_the_progress_bar_is_llamaindexs(cls, call, capsys):
    ends = []
    with FaultServer() as server:
        for whose in (LlamaIndexs, ours):
            await call(whose(made(cls, server)), "get_text_embedding_batch", TEXTS, show_progress=True)
            ends.append(re.findall(r"Generating embeddings: +(\d+%)\S+ (\d+/\d+)", capsys.readouterr().err)[-1])
    assert ends[0] == ends[1]
    assert ends[0][0] == "100%"


async def test_windows_do_not_wait_for_each_other(cls, call):
    gate = Gate()

    def script(seen: Any) -> Action:
        if "text 19" in seen.texts:  # of the last window
            gate.open()
        return Action(gate=gate)

    with FaultServer(script) as server:
        vectors = await call(made(cls, server, max_concurrency=16), "get_text_embedding_batch", TEXTS)
    assert len(vectors) == len(TEXTS)


async def test_a_text_that_is_repeated_in_another_window_is_sent_once(cls, call):
    with FaultServer() as server:
        await call(made(cls, server), "get_text_embedding_batch", TEXTS)
    assert sorted(text for texts in server.texts for text in texts) == sorted(set(TEXTS))


async def test_an_error_has_positions_of_the_whole_list_and_all_vectors_before_it(cls, call):
    with refused("text 9") as server, pytest.raises(BadRequestError) as caught:
        await call(made(cls, server), "get_text_embedding_batch", TEXTS)
    assert 9 in caught.value.texts
    assert list(caught.value.partial)[:8] == list(range(8))
    if cls in DENSE:
        assert caught.value.partial[0] == dense_of("text 0")


async def test_bad_input_in_a_late_window_is_refused_before_any_request(cls, call):
    with FaultServer() as server, pytest.raises(ConfigurationError, match="text 22 is None"):
        await call(made(cls, server), "get_text_embedding_batch", [*TEXTS, None])
    assert not server.requests


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("hello", r"a list of texts is needed, not str: for one text pass \[text\]"),
        ({"hello", "world"}, "a set of texts has no order"),
        (None, "a list of texts is needed, not NoneType"),
    ],
)
@pytest.mark.parametrize(("cls", "settings"), CASES)
async def test_what_is_no_list_of_texts_is_refused(cls, call, texts, message, settings):
    with FaultServer() as server:
        embedding = made(cls, server)
        settings(embedding, Record())
        with pytest.raises(ConfigurationError, match=message):
            await call(embedding, "get_text_embedding_batch", texts)
    assert not server.requests
