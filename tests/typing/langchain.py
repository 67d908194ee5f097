"""Uses of the LangChain plugin that type checkers must accept. Never executed."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from langchain_core.embeddings import Embeddings
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.stores import InMemoryByteStore
from pydantic import SecretStr

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
)
from sparse_embed import SparseVector, Usage
from sparse_embed.testing import fake_clients

chroma: Embeddings = ChromaCloudEmbeddings()
pinecone: Embeddings = PineconeInferenceEmbeddings(model="llama-text-embed-v2", dimension=512, api_key="key")
clients = fake_clients()
sparse = ChromaCloudSparseEmbeddings(
    model="prithivida/Splade_PP_en_v1",
    api_key=SecretStr("key"),
    base_url="https://gateway.example",
    batch_size=50,
    max_concurrency=4,
    max_retries=3,
    deadline=60,
    timeout=None,
    cache=InMemoryByteStore(),
    show_progress_bar=True,
    rate_limiter=InMemoryRateLimiter(requests_per_second=5),
    default_headers={"x-team": "search"},
    allow_insecure_http=False,
    http_client=clients["http_client"],
    http_async_client=clients["http_async_client"],
    return_tokens=True,
    task="search",
    query_model="a-query-model",
)
learned = PineconeInferenceSparseEmbeddings(
    truncate="NONE", max_tokens_per_sequence=2048, parameters={"new": 1}, api_version="2026-04", cache="vectors.sqlite"
)

assert_type(ChromaCloudEmbeddings().embed_documents(["a"]), list[list[float]])
assert_type(PineconeInferenceEmbeddings().embed_query("a"), list[float])
assert_type(sparse.embed_documents(["a"]), list[SparseVector])
assert_type(learned.embed_query("a"), SparseVector)
assert_type(sparse.stream_documents(line for line in ("a", "b")), Iterator[SparseVector])
assert_type(sparse.astream_documents(["a"]), AsyncIterator[SparseVector])
assert_type(sparse.usage, Usage)
assert_type(sparse.model_copy(update={"batch_size": 2}), ChromaCloudSparseEmbeddings)
sparse.close()


async def asynchronous() -> None:
    assert_type(await PineconeInferenceEmbeddings().aembed_documents(["a"]), list[list[float]])
    assert_type(await ChromaCloudEmbeddings().aembed_query("a"), list[float])
    assert_type(await sparse.aembed_documents(["a"]), list[SparseVector])
    assert_type(await learned.aembed_query("a"), SparseVector)
    await sparse.aclose()
