"""Answers of both wires made in this process, and a switch that lets waiting take no time."""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

from sparse_embed.transport.client import AsyncClient, Exchange, SyncClient, mock_clients
from sparse_embed.transport.run import WAITING


class FakeClients(TypedDict):
    """Keyword arguments for `SparseEncoder` and `DenseEncoder`."""

    http_client: SyncClient
    http_async_client: AsyncClient


def fake_clients(*faults: int | type[Exception]) -> FakeClients:
    """Clients that answer both wires in this process, after the given faults.

    The vectors are deterministic and say nothing about meaning: a sparse one has a term for each distinct word,
    weighted by how often it occurs, a dense one has 8 values.

    Example:
        >>> from sparse_embed import SparseEncoder
        >>> from sparse_embed.testing import fake_clients
        >>> encoder = SparseEncoder("pinecone", api_key="test", **fake_clients(429, 503))
        >>> encoder.embed_query("hello hello world").values
        (2.0, 1.0)

    Args:
        *faults: What the first requests meet, in order: an HTTP status, or ``TimeoutError`` or ``ConnectionError``.
    """
    script = iter(faults)

    def answer(exchange: Exchange) -> tuple[int, bytes]:
        fault = next(script, 200)
        if not isinstance(fault, int):
            raise fault("scripted by fake_clients")
        if fault != 200:
            return fault, b'{"error": "scripted by fake_clients"}'
        return 200, json.dumps(made_up_answer(exchange.path, exchange.body)).encode()

    client, async_client = mock_clients(answer)
    return {"http_client": client, "http_async_client": async_client}


def made_up_answer(path: str, request_body: bytes) -> dict[str, object]:
    """What a provider could say to a request, as `fake_clients` describes it."""
    body = json.loads(request_body)
    texts: list[str] = body["texts"] if "texts" in body else [item["text"] for item in body["inputs"]]
    tokens = sum(len(text.split()) for text in texts)
    if path.endswith("/embed_sparse"):
        items = [dict(zip(("indices", "values", "labels"), _terms(text), strict=True)) for text in texts]
        return {"embeddings": items, "num_tokens": tokens}
    if "texts" in body:
        return {"embeddings": [_dense(text) for text in texts], "num_tokens": tokens}
    if "sparse" in body["model"]:
        names = ("sparse_indices", "sparse_values", "sparse_tokens")
        data: Sequence[dict[str, object]] = [dict(zip(names, _terms(text), strict=True)) for text in texts]
    else:
        data = [{"values": _dense(text)} for text in texts]
    return {"model": body["model"], "data": data, "usage": {"total_tokens": tokens}}


def term_id(word: str) -> int:
    """Index of a word in the made-up sparse vectors."""
    return zlib.crc32(word.encode())


def _terms(text: str) -> tuple[list[int], list[int], list[str]]:
    """In order of appearance, with whole numbers as weights: both wires allow that, and the client must see to it."""
    words = text.lower().split()
    by_index = {term_id(word): word for word in words}
    return list(by_index), [words.count(word) for word in by_index.values()], list(by_index.values())


def _dense(text: str) -> list[float]:
    return [zlib.crc32(f"{at} {text}".encode()) / 2**32 for at in range(8)]


@contextmanager
def no_wait() -> Iterator[None]:
    """Let retries and rate-limit pauses take no time, in every encoder of this process; deadlines see them pass.

    Example:
        >>> from sparse_embed.testing import no_wait
        >>> with no_wait():
        ...     pass  # call the code that meets the faults
    """
    before, WAITING.scale = WAITING.scale, 0.0
    try:
        yield
    finally:
        WAITING.scale = before
