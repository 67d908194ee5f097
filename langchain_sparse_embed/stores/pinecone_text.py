"""The interface of pinecone-text's encoders, for ``PineconeHybridSearchRetriever(sparse_encoder=...)``."""

from typing import overload

from langchain_sparse_embed._protocol import SparseEmbedder
from sparse_embed.convert import PineconeDict, convert_all, to_pinecone
from sparse_embed.texts import list_texts
from sparse_embed.vectors import SparseVector


class PineconeTextEncoder:
    """Has the two methods of pinecone-text's encoders. Every dict is new, since the retriever changes it."""

    def __init__(self, sparse: SparseEmbedder, placeholder: SparseVector | None = None) -> None:
        self.sparse = sparse
        self.placeholder = placeholder

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sparse!r})"

    @overload
    def encode_documents(self, texts: str) -> PineconeDict: ...
    @overload
    def encode_documents(self, texts: list[str]) -> list[PineconeDict]: ...
    def encode_documents(self, texts: str | list[str]) -> PineconeDict | list[PineconeDict]:
        """A dict for one document, or a list of them for a list of documents."""
        if isinstance(texts, str):
            return self._to_dicts(self.sparse.embed_documents([texts]))[0]
        return self._to_dicts(self.sparse.embed_documents(texts))

    @overload
    def encode_queries(self, texts: str) -> PineconeDict: ...
    @overload
    def encode_queries(self, texts: list[str]) -> list[PineconeDict]: ...
    def encode_queries(self, texts: str | list[str]) -> PineconeDict | list[PineconeDict]:
        """Like `encode_documents`, with one request per query."""
        if isinstance(texts, str):
            return self._to_dicts([self.sparse.embed_query(texts)])[0]
        return self._to_dicts([self.sparse.embed_query(text) for text in list_texts(texts)])

    def _to_dicts(self, vectors: list[SparseVector]) -> list[PineconeDict]:
        return convert_all(to_pinecone, vectors, on_empty="raise" if self.placeholder is None else self.placeholder)
