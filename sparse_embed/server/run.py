"""Running the local provider: in a thread for tests and notebooks, in the foreground for the command line.

Decides sockets, the life of the server and what it writes. Leaves answers to ``app``.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from threading import Thread
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOGGING_CONFIG

from sparse_embed.server.access import LOGGER, logging_config
from sparse_embed.server.app import create_app
from sparse_embed.server.engines.weights import ModelError
from sparse_embed.server.models import check_offer, find_models
from sparse_embed.server.served import Served, Settings

SHUTDOWN_GRACE = 8  # seconds that requests in flight get; a container is killed after 10
REFUSAL_TIME = 1  # of these, seconds to tell those that cannot be answered in time


@contextmanager
def local_provider(
    *, api_key: str | None = None, stand_in: bool = False, models: Sequence[str] = (), settings: Settings | None = None
) -> Iterator[str]:
    """Run a local provider on a free loopback port; the value is its URL.

    Args:
        api_key: The only key accepted; None accepts every key that is not empty.
        stand_in: Whether to answer for the providers' own models.
        models: Models with weights, ``NAME`` for a downloaded one of the Hugging Face hub, ``NAME=PATH`` for a folder.
            Needs the extra `models`.
        settings: How these run.

    Raises:
        ModelError: A model cannot be served.

    Example:
        >>> with local_provider() as url:
        ...     encoder = SparseEncoder("chroma", model="local/bm25", api_key="any", base_url=url)
    """
    found = find_models(models)
    load_models(found, settings or Settings())
    with serve_in_thread(create_app(api_key=api_key, stand_in=stand_in, models=found)) as url:
        yield url


def load_models(models: Sequence[Served], settings: Settings) -> None:
    """Load models, one after the other.

    Raises:
        ModelError: One cannot be served.
    """
    for model in models:
        model.load(settings)
        check_offer(model)


@contextmanager
def serve_in_thread(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve an application from a daemon thread; the value is its URL. Works inside a running event loop too.

    Args:
        app: What to serve.
        host: Address to bind.
        port: Port to bind; 0 for a free one.

    Raises:
        OSError: The address cannot be bound.
    """
    with closing(listen(host, port)) as listener:
        server = _Server(_config(app, log_level="warning"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="sparse-embed-server", daemon=True)
        thread.start()
        try:
            # No wait for the thread: the socket listens already, so the first request is queued by the kernel.
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def serve(
    app: FastAPI, listener: socket.socket, *, log_level: str, log_format: str = "text", load: Callable[[], None]
) -> None:
    """Serve until Ctrl-C, then return.

    Args:
        app: What to serve.
        listener: A socket from `listen`; closed at the end.
        log_level: critical, error, warning, info (a line for each request) or debug.
        log_format: text or json.
        load: Loads the models while ``/health`` is answered already.

    Raises:
        ModelError: What ``load`` raised; the server has stopped.
    """
    server = _Server(_config(app, log_level=log_level, log_config=logging_config(log_level, log_format)))
    failures: list[ModelError] = []

    def prepare() -> None:
        try:
            load()
        except ModelError as error:
            failures.append(error)
            server.should_exit = True

    # uvicorn finishes its requests first, then raises the signal anew.
    with closing(listener), suppress(KeyboardInterrupt):
        Thread(target=prepare, name="sparse-embed-loading", daemon=True).start()
        server.run(sockets=[listener])
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """uvicorn, which tells the models' queues first that it stops: what they refuse is answered before it is cut."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        application: Any = self.config.app
        models = getattr(application.state, "models", ())  # `serve_in_thread` takes any application
        stopped = asyncio.create_task(asyncio.to_thread(_stop, models))
        await super().shutdown(sockets)
        await stopped


def _stop(models: Sequence[Served]) -> None:
    deadline = time.monotonic() + SHUTDOWN_GRACE - REFUSAL_TIME
    for model in models:
        if model.ready:
            finished, refused = model.batcher.stop(max(0.0, deadline - time.monotonic()))
            if finished or refused:
                LOGGER.warning("stopping: %s finished %d requests and refused %d", model.name, finished, refused)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; from this moment on no client is refused.

    Raises:
        OSError: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def url_of(listener: socket.socket) -> str:
    """Return the URL under which clients on this machine reach a listening socket."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than localhost counts as reachable by others."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _config(app: FastAPI, *, log_level: str, log_config: dict[str, Any] | None = LOGGING_CONFIG) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level=log_level,
        log_config=log_config,
        access_log=False,  # ours says more
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE,
    )
