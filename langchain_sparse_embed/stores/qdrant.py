"""Qdrant: for ``QdrantVectorStore(sparse_embedding=...)``, where a type checker wants the store's own type.

A blank text has the empty vector: Qdrant keeps the point, and sparse search does not find it.
"""

from langchain_sparse_embed._protocol import SparseEmbedder
from sparse_embed import vectors
from sparse_embed.convert import convert_all, to_qdrant
from sparse_embed.extras import requires

with requires("langchain-qdrant", "qdrant"):
    from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector


class QdrantSparseEmbeddings(SparseEmbeddings):
    """langchain-qdrant's `SparseEmbeddings`, answered by an encoder of this package."""

    def __init__(self, sparse: SparseEmbedder) -> None:
        self.sparse = sparse

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sparse!r})"

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Vectors of documents, one per text, in order."""
        return convert_all(_to_langchain, self.sparse.embed_documents(texts))

    async def aembed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Like `embed_documents`, on the running event loop."""
        return convert_all(_to_langchain, await self.sparse.aembed_documents(texts))

    def embed_query(self, text: str) -> SparseVector:
        """Vector of a query."""
        return _to_langchain(self.sparse.embed_query(text))

    async def aembed_query(self, text: str) -> SparseVector:
        """Like `embed_query`, on the running event loop."""
        return _to_langchain(await self.sparse.aembed_query(text))


def _to_langchain(vector: vectors.SparseVector) -> SparseVector:
    checked = to_qdrant(vector)  # qdrant-client's own class, which langchain-qdrant does not use here
    return SparseVector(indices=checked.indices, values=checked.values)
