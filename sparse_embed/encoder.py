"""The public face of the core: `SparseEncoder` and `DenseEncoder`.

Decides what a call is, and in which form its vectors are returned. Leaves splitting, caching, sending and retrying to
``transport``, and the wire to ``providers``.
"""

import os
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing
from functools import partial
from types import NoneType, TracebackType
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, Self, TypedDict, TypeVar, Unpack

from sparse_embed.cache import ByteStore, Cache, CacheKey, open_cache
from sparse_embed.errors import ConfigurationError
from sparse_embed.events import CallInfo, Listener, next_id
from sparse_embed.observers import Observer
from sparse_embed.providers import make_provider, read_config, split_model
from sparse_embed.providers.base import Answer, DenseVector, Provider
from sparse_embed.quota import Quota
from sparse_embed.settings import Kind, Role, Secret, Settings, SupportsSecret, check_kind
from sparse_embed.texts import check_text, has_content, list_texts, name_text, refuse_bare_text
from sparse_embed.transport.batching import Batch, achunks, chunks
from sparse_embed.transport.call import Call, Chunk, Meter, track
from sparse_embed.transport.client import AsyncClient, HttpLayer, SyncClient
from sparse_embed.transport.flow import Flow, embed, embed_all, embed_or_split
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import retry_policy
from sparse_embed.transport.run import RateLimiter, Resources, drive, run_all
from sparse_embed.vectors import SparseVector, Usage

V = TypeVar("V")
T = TypeVar("T")
Progress = Callable[[int, int | None], None]
# A stream runs up to this many times `max_concurrency` requests ahead of its consumer: one slow request at the head
# does not idle the others, and memory stays bounded.
STREAM_AHEAD: Final = 4


class ProviderOptions(TypedDict, total=False):
    """Options that only one provider has; `Chroma` and `Pinecone` in ``sparse_embed.providers`` describe them."""

    task: str | None
    instructions: str | None
    query_instructions: str | None
    query_model: str | None
    truncate: str
    max_tokens_per_sequence: int | None
    dimension: int | None
    parameters: Mapping[str, Any]
    api_version: str


class _State(NamedTuple):
    """What an encoder is built from, and all that a pickle of it holds."""

    provider: Provider
    settings: Settings
    cache: Cache[Any] | None
    rate_limiter: RateLimiter | None
    quota: Quota | None
    on_progress: Progress | None
    on_event: Listener | None
    own_clients: tuple[SyncClient | None, AsyncClient | None]


class _Encoder(ABC, Generic[V]):
    """What the two encoders share.

    An encoder may be shared by any number of threads and event loops, survives a fork, and can be pickled and copied: a
    pickle carries a key that was given explicitly and never one from the environment, and no connections.
    """

    _kind: ClassVar[Kind]
    _check = staticmethod(check_text)

    def __init__(
        self,
        provider: Literal["chroma", "pinecone"],
        *,
        model: str | None = None,
        api_key: str | SupportsSecret | None = None,
        base_url: str | None = None,
        batch_size: int | None = None,
        max_concurrency: int = 16,
        max_retries: int | None = None,
        deadline: float | None = None,
        timeout: float | None = 60.0,
        cache: int | str | os.PathLike[str] | ByteStore | None = None,
        rate_limiter: RateLimiter | None = None,
        quota: Quota | None = None,
        return_tokens: bool = False,
        default_headers: Mapping[str, str] | None = None,
        allow_insecure_http: bool = False,
        http_client: SyncClient | None = None,
        http_async_client: AsyncClient | None = None,
        on_progress: Progress | None = None,
        on_event: Listener | None = None,
        **provider_options: Unpack[ProviderOptions],
    ) -> None:
        """Check the settings; nothing is sent.

        Args:
            provider: ``"chroma"`` or ``"pinecone"``; at run time also ``"provider:model"``, as in `from_config`.
            model: The provider's model id. The default is the provider's usual model of this kind, and will not change.
            api_key: The key. Without it, CHROMA_API_KEY or PINECONE_API_KEY is looked up whenever a request is sent.
            base_url: Another address; else CHROMA_EMBED_URL or PINECONE_CONTROLLER_HOST, else the provider's own. A key
                from the environment goes only to the provider's host, the variable's host, and loopback.
            batch_size: Texts per request. Default and upper bound: the provider's limit (Chroma 100, Pinecone 96).
            max_concurrency: Requests in flight, over all calls on this object: one limit shared by all threads, and one
                per event loop.
            max_retries: Sends after the first. None: 6 for documents, 2 for queries.
            deadline: Seconds without a vector after which a call gives up. None: 180 for documents, 30 for queries.
                Rate limits (429) count against this alone for documents, and against `max_retries` too for queries. An
                answer that keeps coming, however slowly, is not cut off.
            timeout: Seconds without progress (connecting, sending, or between two parts of the answer) after which one
                attempt is given up; never more than what is left of the deadline. None: the deadline alone.
            cache: Remember vectors: a number of entries to hold in memory, the path of a SQLite file, or a store with
                LangChain's ``mget`` and ``mset`` for bytes. None: no cache. Repeated texts are sent once in any case:
                those of one call, and in a stream those that fall into one request.
            rate_limiter: Asked before each attempt; anything with LangChain's ``acquire`` and ``aacquire``.
            quota: What the provider allows per minute, if that is known; encoders may share one.
            return_tokens: Ask for the terms behind the indices.
            default_headers: Sent with every request.
            allow_insecure_http: Permit a plain ``http://`` address that is not loopback.
            http_client: A ``httpx.Client`` to use as it is (proxy, certificates, mock transport); never closed here.
            http_async_client: The same for the async methods.
            on_progress: Called with (texts done, texts in all or None for a stream), in the caller's thread.
            on_event: Called with each event of ``sparse_embed.events``, in the thread or task where it occurs; it must
                return quickly. The same events go to the logger ``sparse_embed``.
            **provider_options: What only one provider has: `ProviderOptions`.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        name, model = split_model(provider, model)
        own = _Encoder.__init__.__kwdefaults__ or ()
        chosen = make_provider(name, self._kind, model, return_tokens, provider_options, settings=own)
        if api_key is not None and not isinstance(api_key, str):
            if not hasattr(api_key, "get_secret_value"):
                raise ConfigurationError(f"api_key must be a str or a SecretStr, not {type(api_key).__name__}")
            api_key = api_key.get_secret_value()
        if isinstance(rate_limiter, Quota):
            raise ConfigurationError("rate_limiter needs acquire and aacquire: pass a Quota as quota= instead")
        if rate_limiter is not None and not hasattr(rate_limiter, "acquire"):
            raise ConfigurationError(f"rate_limiter needs acquire and aacquire, unlike {type(rate_limiter).__name__}")
        if not isinstance(default_headers, Mapping | None):
            raise ConfigurationError(f"default_headers must be a mapping, not {type(default_headers).__name__}")
        for name, callback in (("on_progress", on_progress), ("on_event", on_event)):
            if callback is not None and not callable(callback):
                raise ConfigurationError(f"{name} must be callable, unlike {type(callback).__name__}")
        check_kind("quota", quota, Quota, NoneType)
        check_kind("http_client", http_client, SyncClient, NoneType)
        check_kind("http_async_client", http_async_client, AsyncClient, NoneType)
        settings = Settings(
            api_key=None if api_key is None else Secret(api_key),
            base_url=base_url,
            batch_size=batch_size,
            max_concurrency=max_concurrency,
            max_retries=max_retries,
            deadline=deadline,
            timeout=timeout,
            default_headers=dict(default_headers or {}),
            allow_insecure_http=allow_insecure_http,
        )
        if batch_size is not None and batch_size > chosen.max_batch_size:
            warnings.warn(
                f"batch_size {batch_size} is over {chosen.title}'s limit: {chosen.max_batch_size} is used", stacklevel=2
            )
        own_clients = (http_client, http_async_client)
        opened = open_cache(cache)
        self.__setstate__(_State(chosen, settings, opened, rate_limiter, quota, on_progress, on_event, own_clients))

    def __setstate__(self, state: _State) -> None:
        self._state = state
        self._provider, self._settings = state.provider, state.settings
        limit = self._provider.max_batch_size
        self._batch_size = min(self._settings.batch_size or limit, limit)
        self._ahead = STREAM_AHEAD * self._settings.max_concurrency
        self._meter = Meter()
        self._pace = Pace()
        self._http = HttpLayer(self._provider, self._settings, *state.own_clients)
        self._resources = Resources(self._http, state.rate_limiter, state.cache)

    def __getstate__(self) -> _State:
        if self._state.own_clients != (None, None):
            raise ConfigurationError(
                "an encoder with its own http_client cannot be pickled: build it in the other process"
            )
        return self._state

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copy = object.__new__(type(self))
        copy.__setstate__(self._state)
        return copy

    def __repr__(self) -> str:
        address = f", base_url={self._settings.base_url!r}" if self._settings.base_url else ""
        return f"{type(self).__name__}({self._provider.name!r}, model={self._provider.model!r}{address})"

    @classmethod
    def from_config(cls, config: str | Mapping[str, Any]) -> Self:
        """Build from ``"provider"``, ``"provider:model"``, or a mapping of this class's arguments.

        The mapping is what a YAML, TOML or JSON file gives; ``quota`` may be a mapping of the arguments of `Quota`.
        Keys come from the environment, and a file cannot send them to another host.

        Raises:
            ConfigurationError: An unknown provider or argument, or no provider.
        """
        return cls(**read_config(config))

    @abstractmethod
    def _decode(self, content: bytes) -> Answer[V]:
        """Read an answer."""

    def _blanks(self, texts: list[str]) -> dict[str, V]:
        """Vectors of the blank texts that `_check` let pass."""
        return {}

    @property
    def provider(self) -> str:
        """The provider's name: ``"chroma"`` or ``"pinecone"``."""
        return self._provider.name

    @property
    def model(self) -> str:
        """The model that answers for documents."""
        return self._provider.model

    @property
    def engine(self) -> str | None:
        """The engine that computed the last answer; None for the real providers, which do not name one."""
        return self._meter.engine

    @property
    def usage(self) -> Usage:
        """What this object has used so far, over all calls and threads."""
        return self._meter.usage

    def embed_documents(self, texts: Sequence[str]) -> list[V]:
        """Vectors of documents, one per text, in order.

        Args:
            texts: Any number of texts; they are split into requests, and repeated ones are sent once.

        Raises:
            ConfigurationError: Bad input or settings; no request was sent.
            SparseEmbedError: The vectors cannot be had; ``error.partial`` holds the ones received before.
        """
        return self._embed(list_texts(texts), "document")

    async def aembed_documents(self, texts: Sequence[str]) -> list[V]:
        """Like `embed_documents`, on the running event loop."""
        return await self._aembed(list_texts(texts), "document")

    def embed_query(self, text: str) -> V:
        """Vector of a query.

        Raises:
            ConfigurationError: Bad input or settings; no request was sent.
            SparseEmbedError: The vector cannot be had.
        """
        return self._embed([text], "query")[0]

    async def aembed_query(self, text: str) -> V:
        """Like `embed_query`, on the running event loop."""
        return (await self._aembed([text], "query"))[0]

    def stream_documents(self, texts: Iterable[str]) -> Iterator[V]:
        """Vectors of documents, one per text, in order, in bounded memory.

        Texts are read in the consumer's thread, a bounded number of requests ahead of it. Leaving the loop early
        stops all requests. When `texts` itself raises, or holds something that is not a text, the vectors of all texts
        before it are yielded first.

        Raises:
            ConfigurationError: Bad input or settings.
            SparseEmbedError: A vector cannot be had; ``error.partial`` holds the ones that were received and not
                yielded yet, by position.
        """
        refuse_bare_text(texts)
        return self._stream(texts)

    def _stream(self, texts: Iterable[str]) -> Iterator[V]:
        call = self._call("document", None)
        waiting: deque[Chunk[V]] = deque()

        def flows() -> Iterator[Flow[Chunk[V]]]:
            start = 0
            for part in chunks(texts, self._batch_size, self._check):
                waiting.append(self._chunk(call, part, start))
                start += len(part)
                yield embed_all(waiting[-1], self._batch_size)

        with track(call, waiting), closing(self._run(flows(), self._ahead, self._count_streamed())) as results:
            for chunk in results:
                waiting.popleft()
                yield from self._vectors(chunk)

    def astream_documents(self, texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[V]:
        """Like `stream_documents`, on the running event loop; `texts` may be an async iterable.

        No vector is yielded while `texts` is being awaited: a source that idles should end its stream.
        """
        refuse_bare_text(texts, asynchronous=True)
        return self._astream(texts)

    async def _astream(self, texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[V]:
        call = self._call("document", None)
        waiting: deque[Chunk[V]] = deque()

        async def flows() -> AsyncIterator[Flow[Chunk[V]]]:
            start = 0
            async for part in achunks(texts, self._batch_size, self._check):
                waiting.append(self._chunk(call, part, start))
                start += len(part)
                yield embed_all(waiting[-1], self._batch_size)

        with track(call, waiting):
            async with aclosing(self._arun(flows(), self._ahead, self._count_streamed())) as results:
                async for chunk in results:
                    waiting.popleft()
                    for vector in self._vectors(chunk):
                        yield vector

    def _embed(self, texts: list[str], role: Role) -> list[V]:
        chunk = self._checked_chunk(texts, role)
        with track(chunk.call, [chunk]):
            # Most calls need one request, and no threads.
            batches = drive(embed_or_split(chunk, self._batch_size), self._resources)
            report = self._count(chunk, batches)
            if batches:
                flows = (embed(chunk, batch) for batch in batches)
                with closing(self._run(flows, len(batches), report)) as results:
                    for _ in results:
                        pass
        return self._vectors(chunk)

    async def _aembed(self, texts: list[str], role: Role) -> list[V]:
        from sparse_embed.transport.arun import adrive

        chunk = self._checked_chunk(texts, role)
        with track(chunk.call, [chunk]):
            batches = await adrive(embed_or_split(chunk, self._batch_size), self._resources)
            report = self._count(chunk, batches)
            if batches:

                async def flows() -> AsyncIterator[Flow[Batch]]:
                    for batch in batches:
                        yield embed(chunk, batch)

                async with aclosing(self._arun(flows(), len(batches), report)) as results:
                    async for _ in results:
                        pass
        return self._vectors(chunk)

    def _run(self, flows: Iterator[Flow[T]], ahead: int, on_done: Callable[[T], None]) -> Generator[T]:
        return run_all(flows, self._resources, width=self._settings.max_concurrency, ahead=ahead, on_done=on_done)

    def _arun(self, flows: AsyncIterator[Flow[T]], ahead: int, on_done: Callable[[T], None]) -> AsyncGenerator[T]:
        from sparse_embed.transport.arun import arun_all

        return arun_all(flows, self._resources, width=self._settings.max_concurrency, ahead=ahead, on_done=on_done)

    def _call(self, role: Role, texts: int | None) -> Call[V]:
        provider, settings, cache_key = self._provider, self._settings, None
        if self._state.cache is not None:
            base_url = settings.base_url_for(provider.endpoint)
            cache_key = CacheKey(provider.name, base_url, role, provider.encode([], role))
        observer = Observer(partial(self._describe, role, texts), self._state.on_event)
        return Call(
            provider=provider,
            decode=self._decode,
            role=role,
            retry=retry_policy(role, settings.max_retries, settings.deadline),
            timeout=settings.timeout,
            pace=self._pace,
            meter=Meter(self._meter) if observer.active else self._meter,
            quota=self._state.quota,
            cache_key=cache_key,
            warn=observer.notify,
            notify=observer.notify if observer.active else None,
        )

    def _describe(self, role: Role, texts: int | None) -> CallInfo:
        provider = self._provider
        where = self._settings.host_and_port(provider.endpoint)
        return CallInfo(next_id(), provider.name, provider.model_for(role), provider.kind, role, texts, *where)

    def _checked_chunk(self, texts: list[str], role: Role) -> Chunk[V]:
        """All texts of a call; a stream checks each as it is read."""
        for position, text in enumerate(texts):
            self._check(text, None if role == "query" else position)
        return self._chunk(self._call(role, len(texts)), texts)

    def _chunk(self, call: Call[V], texts: list[str], start: int = 0) -> Chunk[V]:
        """Texts that were checked; blank ones have their vector without a request."""
        return Chunk(call, texts, start, self._blanks(texts))

    def _vectors(self, chunk: Chunk[V]) -> list[V]:
        return chunk.vectors()

    def _count(self, chunk: Chunk[V], batches: list[Batch]) -> Callable[[Batch], None]:
        """Report the progress of a list: what needed no request of its own now, the rest batch by batch."""
        tell = self._state.on_progress
        if tell is None or chunk.call.role == "query":
            return lambda batch: None
        total = len(chunk.texts)
        left = sum(len(batch.texts) for batch in batches)
        if left < total:
            tell(total - left, total)

        def report(batch: Batch) -> None:
            nonlocal left
            left -= len(batch.texts)
            tell(total - left, total)

        return report

    def _count_streamed(self) -> Callable[[Chunk[V]], None]:
        """Report the progress of a stream."""
        done = 0

        def report(chunk: Chunk[V]) -> None:
            nonlocal done
            done += len(chunk.texts)
            if self._state.on_progress is not None:
                self._state.on_progress(done, None)

        return report

    def close(self) -> None:
        """Close the connections, of threads and of event loops; a later call opens new ones."""
        self._http.close()

    async def aclose(self) -> None:
        """Like `close`, and waits until the running loop's connections are closed."""
        await self._http.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


class SparseEncoder(_Encoder[SparseVector]):
    """Turns texts into sparse vectors: term ids and weights.

    An empty or blank text has the empty vector, and costs no request.
    """

    _kind = "sparse"

    def _decode(self, content: bytes) -> Answer[SparseVector]:
        return self._provider.decode_sparse(content)

    def _blanks(self, texts: list[str]) -> dict[str, SparseVector]:
        return {text: SparseVector([], []) for text in texts if not has_content(text)}


class DenseEncoder(_Encoder[DenseVector]):
    """Turns texts into dense vectors: lists of floats, all of one length.

    An empty or blank text has no dense vector: `ConfigurationError` names its position.
    """

    _kind = "dense"

    def _decode(self, content: bytes) -> Answer[DenseVector]:
        return self._provider.decode_dense(content)

    @staticmethod
    def _check(text: str, position: int | None) -> None:
        check_text(text, position)
        if not has_content(text):
            raise ConfigurationError(
                f"{name_text(position)} is blank, and a blank text has no dense vector: leave it out"
            )

    def _vectors(self, chunk: Chunk[DenseVector]) -> list[DenseVector]:
        vectors = super()._vectors(chunk)
        if len(chunk.found) == len(vectors):
            return vectors
        return [vector.copy() for vector in vectors]  # a caller may change a list: repeated texts must not share one
