"""Milvus: the object from which ``MilvusVectorStore`` takes its sparse vectors.

Decides nothing about vectors; what Milvus would refuse, ``convert`` refuses. A blank text has the empty vector, which
Milvus keeps and never finds.
"""

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding

from sparse_embed.convert import from_dict, to_milvus
from sparse_embed.extras import requires

with requires("llama-index-vector-stores-milvus", "milvus"):
    from llama_index.vector_stores.milvus.utils import BaseSparseEmbeddingFunction


class MilvusSparseEmbeddingFunction(BaseSparseEmbeddingFunction):  # type: ignore[misc,unused-ignore]  # untyped where not installed
    """Any sparse embedding, as the type by which the store tells our vectors from Milvus' own BM25."""

    def __init__(self, embedding: BaseSparseEmbedding) -> None:
        self.embedding = embedding

    def encode_queries(self, queries: list[str]) -> list[dict[int, float]]:
        """Weights by term id, one dict a query."""
        return _checked([self.embedding.get_query_embedding(query) for query in queries])

    async def async_encode_queries(self, queries: list[str]) -> list[dict[int, float]]:
        """Like `encode_queries`, on the running event loop."""
        return _checked([await self.embedding.aget_query_embedding(query) for query in queries])

    def encode_documents(self, documents: list[str]) -> list[dict[int, float]]:
        """Weights by term id, one dict a document."""
        return _checked(self.embedding.get_text_embedding_batch(documents))

    async def async_encode_documents(self, documents: list[str]) -> list[dict[int, float]]:
        """Like `encode_documents`, on the running event loop."""
        return _checked(await self.embedding.aget_text_embedding_batch(documents))


def _checked(vectors: list[dict[int, float]]) -> list[dict[int, float]]:
    return [to_milvus(from_dict(vector)) for vector in vectors]
