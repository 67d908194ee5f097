"""How tests put an encoder before a misbehaving server, and call it with threads and with asyncio."""

import asyncio
import threading
from collections.abc import Callable, Iterator
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


both_ways = pytest.mark.parametrize("use", [sync, asynchronous], ids=["sync", "async"])
each_wire = pytest.mark.parametrize(
    ("provider", "kind"),
    [("chroma", SparseEncoder), ("chroma", DenseEncoder), ("pinecone", SparseEncoder), ("pinecone", DenseEncoder)],
    ids=["chroma sparse", "chroma dense", "pinecone sparse", "pinecone dense"],
)


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
