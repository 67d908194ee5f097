"""Milvus: for ``Milvus(embedding_function=...)``, alone or in a list beside a dense one.

A blank text has the empty vector, which Milvus stores and never finds.
"""

from langchain_sparse_embed._protocol import SparseEmbedder
from sparse_embed.convert import convert_all, to_milvus
from sparse_embed.extras import requires

with requires("langchain-milvus", "milvus"):
    from langchain_milvus.utils.sparse import BaseSparseEmbedding


class MilvusSparseEmbeddings(BaseSparseEmbedding):  # type: ignore[misc,unused-ignore]  # untyped where not installed
    """langchain-milvus' `BaseSparseEmbedding`, from which the store derives field type, index and metric."""

    def __init__(self, sparse: SparseEmbedder) -> None:
        self.sparse = sparse

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sparse!r})"

    def embed_documents(self, texts: list[str]) -> list[dict[int, float]]:
        """Weights by index of documents, one dict per text, in order."""
        return convert_all(to_milvus, self.sparse.embed_documents(texts))

    async def aembed_documents(self, texts: list[str]) -> list[dict[int, float]]:
        """Like `embed_documents`, on the running event loop."""
        return convert_all(to_milvus, await self.sparse.aembed_documents(texts))

    def embed_query(self, query: str) -> dict[int, float]:
        """Weights by index of a query."""
        return to_milvus(self.sparse.embed_query(query))

    async def aembed_query(self, query: str) -> dict[int, float]:
        """Like `embed_query`, on the running event loop."""
        return to_milvus(await self.sparse.aembed_query(query))
