"""Uses of the LlamaIndex plugin as a type checker sees them; never executed."""

from typing import assert_type

import httpx
from llama_index.core import Settings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.vector_stores.qdrant import QdrantVectorStore  # pyright: ignore[reportMissingTypeStubs]  # no py.typed
from pydantic import SecretStr
from qdrant_client import QdrantClient

from llama_index_sparse_embed import (
    ChromaCloudEmbedding,
    ChromaCloudSparseEmbedding,
    PineconeInferenceEmbedding,
    PineconeInferenceSparseEmbedding,
)
from sparse_embed import Usage

ChromaCloudEmbedding()
dense: BaseEmbedding = ChromaCloudEmbedding(model_name="BAAI/bge-m3", api_key="a plain key", task="search")
dense = PineconeInferenceEmbedding(
    api_key=SecretStr("key"),
    dimension=512,
    truncate="START",
    parameters={"extra": 1},
    embed_batch_size=512,
    num_workers=2,
    http_client=httpx.Client(proxy="http://proxy:8080"),
    http_async_client=httpx.AsyncClient(),
)
sparse: BaseSparseEmbedding = PineconeInferenceSparseEmbedding(max_tokens_per_sequence=2048, cache="vectors.sqlite")
ChromaCloudSparseEmbedding(
    instructions="for search",
    query_instructions="a question",
    batch_size=50,
    max_concurrency=8,
    max_retries=3,
    deadline=60,
    timeout=None,
    default_headers={"x-team": "search"},
    base_url="https://gateway.example",
    cache=10_000,
)

# A warning of an unused "ignore" tells when a mistake is no longer seen.
ChromaCloudEmbedding(dimension=512)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
ChromaCloudEmbedding(modelname="BAAI/bge-m3")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

Settings.embed_model = ChromaCloudEmbedding()

chroma = ChromaCloudSparseEmbedding()
assert_type(chroma.get_query_embedding("text"), dict[int, float])
assert_type(chroma.get_text_embedding_batch(["text"], show_progress=True), list[dict[int, float]])
assert_type(chroma.usage, Usage)
assert_type(chroma.model_copy(update={"max_concurrency": 2}), ChromaCloudSparseEmbedding)
QdrantVectorStore("docs", client=QdrantClient(":memory:"), **chroma.qdrant_kwargs())


async def use() -> None:
    pinecone = PineconeInferenceEmbedding()
    assert_type(await pinecone.aget_query_embedding("text"), list[float])
    assert_type(await pinecone.aget_text_embedding_batch(["text"]), list[list[float]])
    assert_type(PineconeInferenceEmbedding.from_dict(pinecone.to_dict()), PineconeInferenceEmbedding)
    await pinecone.aclose()
