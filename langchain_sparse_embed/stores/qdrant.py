"""Qdrant: for ``QdrantVectorStore(sparse_embedding=...)``, where the type is asked for.

A blank text has the empty vector: Qdrant keeps the point, and sparse search does not find it.
"""

from typing import TYPE_CHECKING

from sparse_embed import vectors
from sparse_embed.convert import convert_all, to_qdrant
from sparse_embed.extras import requires

with requires("langchain-qdrant", "qdrant"):
    from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector

if TYPE_CHECKING:
    from langchain_sparse_embed.sparse import _Sparse


class QdrantSparseEmbeddings(SparseEmbeddings):
    """langchain-qdrant's `SparseEmbeddings`, answered by an encoder of this package."""

    def __init__(self, sparse: "_Sparse") -> None:
        self.sparse = sparse

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Vectors of documents, one a text, in order."""
        return convert_all(_typed, self.sparse.embed_documents(texts))

    async def aembed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Like `embed_documents`, on the running event loop."""
        return convert_all(_typed, await self.sparse.aembed_documents(texts))

    def embed_query(self, text: str) -> SparseVector:
        """Vector of a query."""
        return _typed(self.sparse.embed_query(text))

    async def aembed_query(self, text: str) -> SparseVector:
        """Like `embed_query`, on the running event loop."""
        return _typed(await self.sparse.aembed_query(text))


def _typed(vector: vectors.SparseVector) -> SparseVector:
    checked = to_qdrant(vector)  # qdrant-client's own class, which langchain-qdrant does not use here
    return SparseVector(indices=checked.indices, values=checked.values)
