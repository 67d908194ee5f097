"""pinecone-text's shape of an encoder, for ``PineconeHybridSearchRetriever(sparse_encoder=...)`` and code like it."""

from typing import TYPE_CHECKING, overload

from sparse_embed.convert import PineconeDict, convert_all, to_pinecone
from sparse_embed.texts import list_texts
from sparse_embed.vectors import SparseVector

if TYPE_CHECKING:
    from langchain_sparse_embed.sparse import _Sparse


class PineconeTextEncoder:
    """Has the two methods of pinecone-text's encoders. Every dict is a fresh one: the retriever changes it."""

    def __init__(self, sparse: "_Sparse", placeholder: SparseVector | None = None) -> None:
        self.sparse = sparse
        self.placeholder = placeholder

    @overload
    def encode_documents(self, texts: str) -> PineconeDict: ...
    @overload
    def encode_documents(self, texts: list[str]) -> list[PineconeDict]: ...
    def encode_documents(self, texts: str | list[str]) -> PineconeDict | list[PineconeDict]:
        """A dict for one document, or one a document for a list of them."""
        if isinstance(texts, str):
            return self._typed(self.sparse.embed_documents([texts]))[0]
        return self._typed(self.sparse.embed_documents(texts))

    @overload
    def encode_queries(self, texts: str) -> PineconeDict: ...
    @overload
    def encode_queries(self, texts: list[str]) -> list[PineconeDict]: ...
    def encode_queries(self, texts: str | list[str]) -> PineconeDict | list[PineconeDict]:
        """Like `encode_documents`, with one request a query."""
        if isinstance(texts, str):
            return self._typed([self.sparse.embed_query(texts)])[0]
        return self._typed([self.sparse.embed_query(text) for text in list_texts(texts)])

    def _typed(self, vectors: list[SparseVector]) -> list[PineconeDict]:
        return convert_all(to_pinecone, vectors, on_empty="raise" if self.placeholder is None else self.placeholder)
