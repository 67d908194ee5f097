"""Running the local provider: in a thread for tests and notebooks, in the foreground for the command line.

Decides sockets, the life of the server and what it writes. Leaves answers to ``app``.
"""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread

import uvicorn
from fastapi import FastAPI

from sparse_embed.server.app import create_app

SHUTDOWN_GRACE = 2  # seconds that requests in flight get; connections a client keeps open would otherwise hold us


@contextmanager
def local_provider(*, api_key: str | None = None, stand_in: bool = False) -> Iterator[str]:
    """Run a local provider on a free loopback port; the value is its URL.

    Args:
        api_key: The only key accepted; None accepts every key that is not empty.
        stand_in: Whether to answer for the providers' own models.

    Example:
        >>> with local_provider() as url:
        ...     encoder = SparseEncoder("chroma", model="local/bm25", api_key="any", base_url=url)
    """
    with serve_in_thread(create_app(api_key=api_key, stand_in=stand_in)) as url:
        yield url


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
        server = uvicorn.Server(_config(app, log_level="warning"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="sparse-embed-server", daemon=True)
        thread.start()
        try:
            # No wait for the thread: the socket listens already, so the first request is queued by the kernel.
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def serve(app: FastAPI, listener: socket.socket, *, log_level: str) -> None:
    """Serve until Ctrl-C, then return.

    Args:
        app: What to serve.
        listener: A socket from `listen`; closed at the end.
        log_level: uvicorn's: critical, error, warning, info (a line for each request), debug or trace.
    """
    # uvicorn finishes its requests first, then raises the signal anew.
    with closing(listener), suppress(KeyboardInterrupt):
        uvicorn.Server(_config(app, log_level=log_level)).run(sockets=[listener])


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


def _config(app: FastAPI, *, log_level: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level=log_level,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE,
    )
