"""Uses of LlamaIndex' stores and retrievers as a type checker sees them; never executed."""

from typing import assert_type

import chromadb
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from llama_index_sparse_embed.ingestion import SparsePrefetch
from llama_index_sparse_embed.retrievers import ChromaHybridRetriever, HybridRetriever, SparseRetriever
from sparse_embed import SparseEncoder
from sparse_embed.stores.chroma import EncoderFunction, open_collection

nodes = [TextNode(text="text")]
dense = ChromaCloudEmbedding()
sparse = PineconeInferenceSparseEmbedding(cache="vectors.sqlite")

IngestionPipeline(transformations=[dense, SparsePrefetch(sparse), SparsePrefetch(sparse, text="text")])
SparsePrefetch(sparse, "everything")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SparsePrefetch(dense)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

retriever: BaseRetriever = SparseRetriever(
    SparseEncoder("chroma", return_tokens=True),
    similarity_top_k=5,
    filters=MetadataFilters(filters=[MetadataFilter(key="page", value=7)]),
    idf=True,
    terms_key="terms",
)
memory = SparseRetriever.from_nodes(nodes, sparse, similarity_top_k=5)
assert_type(memory, SparseRetriever)
assert_type(memory.add(nodes), list[str])
assert_type(memory.delete(["id"]), int)
memory.persist("nodes.npz")
assert_type(SparseRetriever.from_persist_path("nodes.npz", sparse, terms_key="terms"), SparseRetriever)
SparseRetriever.from_persist_path("nodes.npz", sparse, check_model=False)
SparseRetriever(dense)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

hybrid = HybridRetriever([memory, retriever], weights=[1, 0.5], fusion="relative_score", scores_key="scores")
assert_type(hybrid.retrieve("text"), list[NodeWithScore])
HybridRetriever([memory], fusion="simple")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(ChromaCloudSparseEmbedding().as_chroma(), EncoderFunction)
collection = open_collection(chromadb.EphemeralClient(), "docs", sparse.as_chroma())
ChromaHybridRetriever(collection, dense=dense, sparse=sparse, weights=(1.0, 0.5), where={"page": 7})


async def use() -> None:
    client = await chromadb.AsyncHttpClient()
    awaited = ChromaHybridRetriever(
        async_collection=await client.get_collection("docs"), dense=dense, sparse=sparse, terms_key="terms"
    )
    assert_type(await awaited.aretrieve("text"), list[NodeWithScore])
    assert_type(await memory.aadd(nodes), list[str])
