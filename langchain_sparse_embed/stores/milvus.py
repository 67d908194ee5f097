"""Milvus: for ``Milvus(embedding_function=...)``, alone or in a list beside a dense one.

A blank text has the empty vector, which Milvus keeps and never finds.
"""

from typing import TYPE_CHECKING

from sparse_embed.convert import convert_all, to_milvus
from sparse_embed.extras import requires

with requires("langchain-milvus", "milvus"):
    from langchain_milvus.utils.sparse import BaseSparseEmbedding

if TYPE_CHECKING:
    from langchain_sparse_embed.sparse import _Sparse


class MilvusSparseEmbeddings(BaseSparseEmbedding):  # type: ignore[misc,unused-ignore]  # untyped where not installed
    """langchain-milvus' `BaseSparseEmbedding`: by this class the store decides field type, index and metric."""

    def __init__(self, sparse: "_Sparse") -> None:
        self.sparse = sparse

    def embed_documents(self, texts: list[str]) -> list[dict[int, float]]:
        """Weights by index of documents, one dict a text, in order."""
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
