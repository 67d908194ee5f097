"""Uses of the core's public API: never executed, checked by mypy and pyright."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from sparse_embed import DenseEncoder, Quota, SparseEmbedError, SparseEncoder, SparseVector, Usage
from sparse_embed.testing import fake_clients, no_wait


def sparse() -> None:
    with SparseEncoder("pinecone", api_key="k", max_tokens_per_sequence=2048, cache=1000) as encoder:
        assert_type(encoder.embed_documents(["a"]), list[SparseVector])
        assert_type(encoder.embed_query("a"), SparseVector)
        assert_type(encoder.stream_documents(text for text in ["a"]), Iterator[SparseVector])
        assert_type(encoder.usage, Usage)
        assert_type(encoder.embed_query("a").top(3), list[tuple[str | int, float]])
    assert_type(SparseEncoder.from_config("chroma:model"), SparseEncoder)


def vectors() -> None:
    vector = SparseVector([1], (1.0,), tokens=["a"])
    assert_type(vector.indices, tuple[int, ...])
    assert_type(vector.values, tuple[float, ...])
    assert_type(vector.tokens, tuple[str, ...] | None)
    assert_type({vector: "hashable"}, dict[SparseVector, str])


def dense() -> None:
    encoder = DenseEncoder("chroma", instructions="i", on_progress=lambda done, total: None)
    assert_type(encoder.embed_documents(("a", "b")), list[list[float]])
    assert_type(encoder.embed_query("a"), list[float])


def quotas() -> None:
    quota = Quota(requests_per_minute=2000, tokens_per_minute=250_000)
    SparseEncoder("pinecone", quota=quota)
    DenseEncoder("pinecone", quota=Quota(tokens_per_minute=250_000))
    Quota(250_000)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SparseEncoder("pinecone", quota=250_000)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def asynchronous() -> None:
    async with SparseEncoder("chroma", task="t", **fake_clients(429, TimeoutError)) as encoder:
        assert_type(await encoder.aembed_documents(["a"]), list[SparseVector])
        assert_type(await encoder.aembed_query("a"), SparseVector)
        assert_type(encoder.astream_documents(["a"]), AsyncIterator[SparseVector])


def errors() -> None:
    try:
        with no_wait():
            SparseEncoder("chroma").embed_query("a")
    except SparseEmbedError as error:
        assert_type(error.status, int | None)
        assert_type(error.texts, range | None)


def mistakes() -> None:
    SparseEncoder("cohere")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SparseEncoder("chroma", dimensions=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SparseVector([1], [1.0]).indices.append(2)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    SparseVector([1], ["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
