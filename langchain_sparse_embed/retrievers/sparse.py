"""Sparse retrieval in this process, without a store: `SparseRetriever`.

Decides how documents are kept in an `InvertedIndex`. Leaves vectors to the encoder, and the search to the index.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from pydantic import Field

from langchain_sparse_embed.retrievers._base import Retriever, SparseEmbedder, checked_texts
from sparse_embed import ConfigurationError, SparseVector

if TYPE_CHECKING:
    from sparse_embed.index import InvertedIndex
else:  # pydantic asks when the class is made, and numpy is not to be imported for that
    InvertedIndex = Any

Filter = Callable[[Mapping[str, Any]], object] | Mapping[str, Any]
TEXT, METADATA = "page_content", "metadata"


class SparseRetriever(Retriever):
    """Documents with the greatest inner product of sparse vectors: exact, incremental, in memory. Needs numpy.

    May be used from any number of threads and event loops, while documents are added and deleted.

    Example:
        >>> from langchain_sparse_embed import ChromaCloudSparseEmbeddings
        >>> from langchain_sparse_embed.retrievers import SparseRetriever
        >>> retriever = SparseRetriever.from_texts(["a red fox", "a blue dog"], ChromaCloudSparseEmbeddings(), k=1)
        ...     # doctest: +SKIP
        >>> retriever.invoke("fox")  # doctest: +SKIP
    """

    idf: bool = False
    """Weigh the query's terms by their rarity, for models whose vectors leave that to the store, as BM25."""
    filter: Filter | None = None
    """Only documents whose metadata this accepts: a predicate, or a mapping of fields to the values that they must
    equal. One given to ``invoke`` takes its place."""
    index: InvertedIndex | None = Field(default=None, exclude=True, repr=False)
    """The documents: a new index, or another retriever's, to share its documents. A field, since
    ``configurable_fields`` builds a new retriever from the fields for every call (langchain-core 1.7)."""

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # as in `Retriever`
        """Start without documents, or with those of ``index``.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        from sparse_embed.index import InvertedIndex

        super().__init__(**fields)
        if self.index is None:
            self.index = InvertedIndex(idf=self.idf)
        elif not isinstance(self.index, InvertedIndex) or self.index.idf is not self.idf:
            raise ConfigurationError(f"index must be an InvertedIndex with idf={self.idf}, like the retriever")

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        sparse_encoder: SparseEmbedder,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str] | None = None,
        **fields: Any,  # noqa: ANN401  # of several types
    ) -> Self:
        """A retriever over these texts.

        Args:
            texts: The texts.
            sparse_encoder: What embeds them and the queries.
            metadatas: One mapping a text.
            ids: One a text; else random ones.
            **fields: ``k``, ``idf``, ``filter`` and the other fields of this class.

        Raises:
            ConfigurationError: Bad input.
            SparseEmbedError: The vectors cannot be had.
        """
        kept = zip(*checked_texts(texts, metadatas), strict=True)
        documents = [Document(page_content=text, metadata=metadata) for text, metadata in kept]
        return cls.from_documents(documents, sparse_encoder, ids=ids, **fields)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        sparse_encoder: SparseEmbedder,
        *,
        ids: Iterable[str] | None = None,
        **fields: Any,  # noqa: ANN401  # of several types
    ) -> Self:
        """A retriever over these documents; see `from_texts` and `add_documents`."""
        retriever = cls(sparse_encoder=sparse_encoder, **fields)
        retriever.add_documents(documents, ids=ids)
        return retriever

    def add_documents(self, documents: Iterable[Document], *, ids: Iterable[str] | None = None) -> list[str]:
        """Embed and add documents, or replace those whose id is there already.

        Args:
            documents: They are copied.
            ids: One a document; else each document's own id, else a random one.

        Returns:
            The ids.

        Raises:
            ConfigurationError: Bad input; nothing is added.
            SparseEmbedError: The vectors cannot be had; nothing is added.
        """
        texts, keys, kept = _prepared(documents, ids)
        self._documents.add(keys, self.sparse_encoder.embed_documents(texts), kept)
        return keys

    async def aadd_documents(self, documents: Iterable[Document], *, ids: Iterable[str] | None = None) -> list[str]:
        """Like `add_documents`, on the running event loop."""
        texts, keys, kept = _prepared(documents, ids)
        vectors = await self.sparse_encoder.aembed_documents(texts)
        await asyncio.to_thread(self._documents.add, keys, vectors, kept)
        return keys

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents; ids that are not there are passed over.

        Returns:
            How many were deleted.
        """
        return self._documents.delete(ids)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write documents and vectors to one file, which is replaced as a whole or not at all. It holds no pickle.

        Raises:
            ConfigurationError: Some metadata is not JSON; the message names the document.
        """
        self._documents.save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], sparse_encoder: SparseEmbedder, **fields: Any) -> Self:  # noqa: ANN401
        """A retriever over what `save` wrote; ``idf`` is as it was.

        Args:
            path: The file.
            sparse_encoder: What embeds queries: the model that embedded the documents.
            **fields: ``k``, ``filter`` and the other fields of this class.

        Raises:
            ConfigurationError: The file is damaged, or something else.
        """
        from sparse_embed.index import InvertedIndex

        index = InvertedIndex.load(path)
        return cls(sparse_encoder=sparse_encoder, index=index, **{"idf": index.idf} | fields)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        return self._found(self.sparse_encoder.embed_query(query), self._wanted(k), filter)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        vector = await self.sparse_encoder.aembed_query(query)
        return await asyncio.to_thread(self._found, vector, self._wanted(k), filter)  # a predicate may take its time

    @property
    def _documents(self) -> InvertedIndex:
        return cast(InvertedIndex, self.index)  # set by the constructor

    def _found(self, vector: SparseVector, k: int, given: Filter | None) -> list[Document]:
        accepts = _on_documents(self.filter if given is None else given)
        hits = self._documents.search(vector, k, filter=accepts, terms=self.terms_key is not None)
        documents = []
        for hit in hits:
            terms = {} if hit.terms is None else dict(hit.terms.top(hit.terms.nnz))
            text, metadata = hit.metadata[TEXT], deepcopy(hit.metadata[METADATA])
            documents.append(self._document(hit.id, text, metadata, hit.score, terms))
        return documents


def _prepared(
    documents: Iterable[Document], ids: Iterable[str] | None
) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Texts, ids, and what the index is to keep of each document."""
    documents = list(documents)
    keys = [document.id or str(uuid4()) for document in documents] if ids is None else list(ids)
    if len(keys) != len(documents):
        raise ConfigurationError(f"{len(documents)} documents and {len(keys)} ids")
    texts = [document.page_content for document in documents]
    kept = [{TEXT: document.page_content, METADATA: deepcopy(document.metadata)} for document in documents]
    return texts, keys, kept


def _on_documents(accepts: Filter | None) -> Callable[[Mapping[str, Any]], object] | None:
    """The filter for what the index keeps."""
    if accepts is None:
        return None
    if isinstance(accepts, Mapping):
        wanted = accepts.items()
        return lambda kept: all(name in kept[METADATA] and kept[METADATA][name] == value for name, value in wanted)
    return lambda kept: accepts(kept[METADATA])
