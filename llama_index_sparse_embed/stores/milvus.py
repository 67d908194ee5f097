"""Milvus: the object from which ``MilvusVectorStore`` takes its sparse vectors.

What Milvus would refuse, ``convert`` refuses. A blank text has the empty vector, which Milvus stores and never finds.
"""

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding

from sparse_embed.convert import from_dict, to_milvus
from sparse_embed.extras import requires

with requires("llama-index-vector-stores-milvus", "milvus"):
    from llama_index.vector_stores.milvus.utils import BaseSparseEmbeddingFunction


class MilvusSparseEmbeddingFunction(BaseSparseEmbeddingFunction):  # type: ignore[misc,unused-ignore]  # untyped where not installed
    """Any sparse embedding, as the type by which the store distinguishes given vectors from Milvus' own BM25."""

    def __init__(self, embedding: BaseSparseEmbedding) -> None:
        self.embedding = embedding

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.embedding!r})"

    def encode_queries(self, queries: list[str]) -> list[dict[int, float]]:
        """Weights by term id, one dict per query."""
        return _to_milvus([self.embedding.get_query_embedding(query) for query in queries])

    async def async_encode_queries(self, queries: list[str]) -> list[dict[int, float]]:
        """Like `encode_queries`, on the running event loop."""
        return _to_milvus([await self.embedding.aget_query_embedding(query) for query in queries])

    def encode_documents(self, documents: list[str]) -> list[dict[int, float]]:
        """Weights by term id, one dict per document."""
        return _to_milvus(self.embedding.get_text_embedding_batch(documents))

    async def async_encode_documents(self, documents: list[str]) -> list[dict[int, float]]:
        """Like `encode_documents`, on the running event loop."""
        return _to_milvus(await self.embedding.aget_text_embedding_batch(documents))


def _to_milvus(vectors: list[dict[int, float]]) -> list[dict[int, float]]:
    return [to_milvus(from_dict(vector)) for vector in vectors]
