"""The only module that uses httpx.

Decides which thread, event loop and process uses which connections, writes the key into its header, and tells one kind
of connection error from another. Leaves retries to ``flow`` and waiting to ``run``.
"""

import socket
import ssl
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import httpx

from sparse_embed.errors import ConfigurationError
from sparse_embed.locks import ForkAware, ForkSafeLock
from sparse_embed.providers.base import Provider, Reply
from sparse_embed.settings import LOOPBACK, Address, Settings
from sparse_embed.transport.classify import Fault, FaultKind, Outcome
from sparse_embed.transport.flow import Send
from sparse_embed.transport.masking import Hide, Masked, hide_secrets
from sparse_embed.transport.permits import TaskPermits, ThreadPermits

if TYPE_CHECKING:
    import asyncio  # where it is used, it is loaded with the first async call, as is anyio

# Named here so that the rest of the package, and users' type hints, need no import of httpx.
SyncClient = httpx.Client
AsyncClient = httpx.AsyncClient


class Exchange(NamedTuple):
    """A request as a mock transport sees it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def mock_clients(answer: Callable[[Exchange], tuple[int, bytes]]) -> tuple[httpx.Client, httpx.AsyncClient]:
    """Clients that ask a function instead of the network; it may raise `TimeoutError` or `ConnectionError`."""

    def handle(request: httpx.Request) -> httpx.Response:
        try:
            status, content = answer(Exchange(request.url.path, request.headers, request.content))
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error)) from None
        except ConnectionError as error:
            raise httpx.ConnectError(str(error)) from None
        return httpx.Response(status, content=content)

    transport = httpx.MockTransport(handle)
    return httpx.Client(transport=transport), httpx.AsyncClient(transport=transport)


ClientT = TypeVar("ClientT", httpx.Client, httpx.AsyncClient)

# Our permits bound the requests in flight; the pool only keeps connections warm.
UNBOUNDED: Final = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0)
LINGER: Final = 1.0  # seconds
# OpenSSL's words for a peer that speaks something else, in its versions 1.1 to 3.5.
NOT_TLS: Final = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
)
# asyncio's words (Python 3.11 to 3.13) for what belongs to another event loop.
OTHER_LOOP: Final = ("loop is closed", "different loop", "different event loop")
# Loopback may have plain http because no proxy is used for it: these names win over the environment's (httpx 0.28).
DIRECT: Final = {f"all://{f'[{host}]' if ':' in host else host}": None for host in (*LOOPBACK, "*.localhost")}


@cache
def _tls() -> ssl.SSLContext:
    """One context per process: building it takes 17 ms, sharing it 0.06 ms."""
    return httpx.create_ssl_context()


@cache
def _user_agent() -> str:
    from importlib.metadata import version  # takes 4 ms: not before a request is sent

    return f"sparse-embed/{version('sparse-embed')}"


@lru_cache(maxsize=64)
def _url(base_url: str, path: str) -> httpx.URL:
    return httpx.URL(base_url + path)


def _new(kind: type[ClientT]) -> ClientT:
    """A client with the proxies and certificates of the environment."""
    try:
        return kind(verify=_tls(), limits=UNBOUNDED, follow_redirects=False, mounts=DIRECT)
    except (ValueError, ImportError, OSError) as error:  # no such scheme, SOCKS without its package, no such file
        said = str(error)
    except httpx.InvalidURL:
        said = "a proxy's address is not a URL"  # the error may quote a password in it
    raise ConfigurationError(f"wrong HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE or SSL_CERT_DIR: {said}")


@dataclass(slots=True)
class LoopSide:
    """What belongs to one event loop."""

    client: httpx.AsyncClient
    permits: TaskPermits
    lifetime: AsyncGenerator[httpx.AsyncClient]
    keeper: "weakref.finalize[..., HttpLayer]"


class ThreadSide:
    """A client that threads share, reference-counted: the last user closes it.

    Closing the pool during a request (httpcore 1.0.9) would leave that thread in a read, and its socket open.
    """

    closer: "weakref.finalize[[], HttpLayer] | None" = None  # none for a caller's own client

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self._users = 1  # the encoder, until it is closed or collected; each request counts too
        self._lock = ForkSafeLock()

    def enter(self) -> None:
        """Count a request that begins."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Count the end of a request, or of the encoder."""
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:
            self.client.close()


@dataclass(slots=True)
class ProcessSide:
    """What belongs to one process: created again after a fork, locks included."""

    permits: ThreadPermits
    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: ThreadSide | None = None
    loops: "dict[asyncio.AbstractEventLoop, LoopSide]" = field(default_factory=dict)


class HttpLayer(ForkAware):
    """Sends requests, synchronously from any thread and asynchronously from any event loop."""

    def __init__(
        self,
        provider: Provider,
        settings: Settings,
        client: httpx.Client | None = None,
        async_client: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__()
        self._provider = provider
        self._settings = settings
        self._own_client = client
        self._own_async_client = async_client
        self._process = self._new_process()

    def _new_process(self) -> ProcessSide:
        return ProcessSide(ThreadPermits(self._settings.max_concurrency))

    def _forked(self) -> ProcessSide:
        before, self._process = self._process, self._new_process()
        if before.threads is not None and before.threads.closer is not None:
            before.threads.closer.detach()
        return before

    @property
    def permits(self) -> ThreadPermits:
        """The permits of this process's threads."""
        return self._process.permits

    def loop_side(self) -> LoopSide:
        """The client and permits of the running loop, made on first use."""
        import asyncio

        loop = asyncio.get_running_loop()
        here = self._process
        with here.lock:
            side = here.loops.get(loop)
            if side is None:
                for other in [other for other in here.loops if other.is_closed()]:
                    here.loops.pop(other).keeper.detach()
                client = self._own_async_client or _new(httpx.AsyncClient)
                lifetime = _lifetime(client, close=self._own_async_client is None)
                # Referenced here too: when the garbage collector takes an encoder in a cycle (an error's traceback is
                # one), it would otherwise take the open sockets at the same time, and they would warn.
                keeper = weakref.finalize(self, _let_go, loop, lifetime)
                keeper.atexit = False
                permits = TaskPermits(self._settings.max_concurrency)
                side = here.loops[loop] = LoopSide(client, permits, lifetime, keeper)
                _start(lifetime)
        return side

    def _thread_side(self) -> ThreadSide:
        if self._own_client is not None:
            return ThreadSide(self._own_client)
        side = ThreadSide(_new(httpx.Client))
        side.closer = weakref.finalize(self, side.leave)
        return side

    def open(self) -> None:
        """Create the threads' client, if there is none, so that the next `send` does not wait for it."""
        here = self._process
        with here.lock:
            here.threads = here.threads or self._thread_side()

    def send(self, send: Send) -> Outcome:
        """Send and read the whole answer.

        Raises:
            ConfigurationError: There is no key for this host, the environment's proxies or certificates are wrong, or
                the caller's own client is closed.
        """
        address = self._settings.address(self._provider.endpoint)
        url, headers, hide = self._prepare(send, address)
        here = self._process
        with here.lock:
            side = here.threads = here.threads or self._thread_side()
            side.enter()
        handled = sys.exception()
        try:
            response = side.client.post(url, content=send.request.body, headers=headers, timeout=send.timeout)
        except httpx.RequestError as error:
            return _fault(error, handled, hide, address)
        except RuntimeError as error:
            if self._own_client is None or not self._own_client.is_closed:
                raise
            raise ConfigurationError(f"http_client cannot be used: {hide(str(error))}") from None
        finally:
            side.leave()
        return _reply(response, hide, address)

    async def asend(self, send: Send) -> Outcome:
        """Like `send`."""
        address = self._settings.address(self._provider.endpoint)
        url, headers, hide = self._prepare(send, address)
        side = self.loop_side()  # this reference keeps the client open during the request
        # httpcore 1.0.9 shields its clean-up from anyio's cancellation, not from asyncio's own: a cancellation while a
        # response is being closed leaves a connection in the pool, open and unusable, until the client is closed.
        import asyncio

        from anyio import CancelScope

        scope = CancelScope()

        async def post() -> Outcome:
            handled = sys.exception()  # in this task, it is that of the code that runs the loop
            with scope:
                try:
                    response = await side.client.post(
                        url, content=send.request.body, headers=headers, timeout=send.timeout
                    )
                except httpx.RequestError as error:
                    return _fault(error, handled, hide, address)
                return _reply(response, hide, address)
            raise asyncio.CancelledError

        posting = asyncio.create_task(post(), name="sparse-embed")
        try:
            return await asyncio.shield(posting)
        except RuntimeError as error:
            other_loop = any(words in str(error) for words in OTHER_LOOP)
            if self._own_async_client is None or not (self._own_async_client.is_closed or other_loop):
                raise
            raise ConfigurationError(
                f"http_async_client cannot be used: {hide(str(error))} (it must be open, and belongs to one event loop)"
            ) from None
        except asyncio.CancelledError:
            # Retrieve an error that comes now, so that asyncio does not log it.
            posting.add_done_callback(lambda done: done.cancelled() or done.exception())
            scope.cancel()
            await asyncio.wait({posting})
            raise

    def _prepare(self, send: Send, address: Address) -> tuple[httpx.URL, dict[str, str], Hide]:
        key = Masked(address.api_key.get_secret_value())
        own = {name: Masked(value) for name, value in self._settings.default_headers.items()}
        headers = {
            "user-agent": _user_agent(),
            **own,
            "content-type": "application/json",
            **send.request.headers,
            self._provider.key_header: key,
        }
        return _url(address.base_url, send.request.path), headers, partial(hide_secrets, [key, *own.values()])

    def close(self) -> None:
        """Close every connection; the next request opens new ones. A caller's own clients stay open.

        A connection that another thread or task is using is closed when its request ends.
        """
        here = self._process
        with here.lock:
            threads, here.threads = here.threads, None
            for side in here.loops.values():
                side.keeper.detach()
            here.loops.clear()  # each open loop closes its own client when the started generator is dropped
        if threads is not None and threads.closer is not None:
            threads.closer()

    async def aclose(self) -> None:
        """Like `close`, and waits for the running loop's client."""
        import asyncio

        side = self._process.loops.pop(asyncio.get_running_loop(), None)
        if side is not None:
            side.keeper.detach()
            await side.lifetime.aclose()
        self.close()


def _reply(response: httpx.Response, hide: Hide, address: Address) -> Reply:
    content = response.content
    # httpx 0.28: a response and its stream reference each other, so every body would wait for the garbage collector.
    del response.stream
    return Reply(response.status_code, response.headers, content, hide, address.route)


def _fault(error: httpx.RequestError, handled: BaseException | None, hide: Hide, address: Address) -> Fault:
    kind: FaultKind = "timeout" if isinstance(error, httpx.TimeoutException) else "connection"
    name = type(error).__name__
    message = f"{name}: {error}" if str(error) else name
    for cause in _causes(error, handled):
        if isinstance(cause, ssl.SSLCertVerificationError):
            kind, message = "untrusted", cause.verify_message
        elif isinstance(cause, ssl.SSLError) and cause.reason in NOT_TLS:
            kind = "not tls"
        elif isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
            kind = "unknown host"
        elif isinstance(cause, ConnectionRefusedError):
            kind = "refused"
    return Fault(kind, hide(message), address.route)


def _causes(error: BaseException | None, handled: BaseException | None) -> Iterator[BaseException]:
    """What an error came from: asyncio tries every address of a host, and groups their errors.

    Python counts as one also the exception that the caller was handling when the request began: it is left out.
    """
    while error is not None and error is not handled:
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one, handled)
        yield error
        error = error.__cause__ or error.__context__


async def _lifetime(client: httpx.AsyncClient, *, close: bool) -> AsyncGenerator[httpx.AsyncClient]:
    """A started generator: the loop's own ``shutdown_asyncgens`` closes the client when the loop ends."""
    try:
        yield client
    finally:
        if close:
            await client.aclose()


def _let_go(loop: "asyncio.AbstractEventLoop", lifetime: AsyncGenerator[httpx.AsyncClient]) -> None:
    """Close the client of an encoder that was not closed, after a moment.

    An encoder is most often dropped as its loop ends. The loop then closes the client itself, and would cancel a
    closing that has begun.
    """
    with suppress(RuntimeError):  # the loop is closed, and has closed the client
        loop.call_soon_threadsafe(loop.call_later, LINGER, _release, lifetime)


def _release(lifetime: AsyncGenerator[httpx.AsyncClient]) -> None:
    """Drop the last reference: the loop closes a started generator that is dropped."""


def _start(lifetime: AsyncGenerator[httpx.AsyncClient]) -> None:
    """Run to the first yield. Nothing is awaited before it, so no other task comes in between."""
    try:
        lifetime.__anext__().send(None)
    except StopIteration:
        return
