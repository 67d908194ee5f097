"""How tests put an encoder before a misbehaving server, and call it with threads and with asyncio."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from sparse_embed import DenseEncoder, SparseEncoder
from tests.faultserver import PATIENCE, FaultServer, Script, dense_of, sparse_of

KEY = "sk-Xaphod-4711"
Way = Callable[[Any, str, Any], Any]


def sync(encoder: Any, method: str, given: Any) -> Any:
    result = getattr(encoder, method)(given)
    return list(result) if method.startswith("stream") else result


def asynchronous(encoder: Any, method: str, given: Any) -> Any:
    async def call() -> Any:
        called = getattr(encoder, f"a{method}")(given)
        return [vector async for vector in called] if method.startswith("stream") else await called

    return asyncio.run(call())


def together(use: Way, calls: Sequence[tuple[Any, str, Any]]) -> list[Any]:
    """Several calls of encoders at once: each in a thread of its own, or all on one loop."""
    if use is sync:
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(lambda call: sync(*call), calls))

    async def on_one_loop() -> list[Any]:
        return await asyncio.gather(*(getattr(encoder, f"a{method}")(given) for encoder, method, given in calls))

    return asyncio.run(on_one_loop())


both_ways = pytest.mark.parametrize("use", [sync, asynchronous], ids=["sync", "async"])
each_wire = pytest.mark.parametrize(
    ("provider", "kind"),
    [("chroma", SparseEncoder), ("chroma", DenseEncoder), ("pinecone", SparseEncoder), ("pinecone", DenseEncoder)],
    ids=["chroma sparse", "chroma dense", "pinecone sparse", "pinecone dense"],
)


@contextmanager
def deaf_port() -> Iterator[int]:
    """Where nothing listens: bound, so that no other process can listen there in the meantime."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield int(deaf.getsockname()[1])


@contextmanager
def meeting(
    script: Script, provider: Any = "pinecone", kind: Any = SparseEncoder, **settings: Any
) -> Iterator[tuple[FaultServer, Any]]:
    """A server that follows the script, and an encoder that sends to it."""
    with (
        FaultServer(script) as server,
        kind(provider, **{"api_key": KEY, "base_url": server.url, "timeout": 10.0} | settings) as encoder,
    ):
        yield server, encoder


def right(encoder: Any, texts: list[str]) -> list[Any]:
    """The vectors that belong to the texts."""
    return [(sparse_of if isinstance(encoder, SparseEncoder) else dense_of)(text) for text in texts]


def workers() -> list[threading.Thread]:
    """The encoders' threads that are still there."""
    return [thread for thread in threading.enumerate() if thread.name == "sparse-embed"]


def workers_end() -> None:
    """Wait until the last of them is gone."""
    for thread in workers():
        thread.join(PATIENCE)
    assert workers() == []
