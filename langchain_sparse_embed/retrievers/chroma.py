"""Hybrid retrieval from a collection of Chroma Cloud: `ChromaHybridRetriever`."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from pydantic import Field

from langchain_sparse_embed.retrievers._base import HybridRetriever, matched
from sparse_embed import ConfigurationError, SparseVector

if TYPE_CHECKING:
    from chromadb import Collection, Search
    from chromadb.api.models.AsyncCollection import AsyncCollection
    from chromadb.api.types import SearchResult
    from chromadb.execution.expression.operator import Where
else:  # pydantic asks when the class is made, and chromadb is not to be imported for that
    Collection = AsyncCollection = Where = Any


class ChromaHybridRetriever(HybridRetriever):
    """Documents by the fused ranks of dense and sparse vectors, from one search of Chroma Cloud.

    The collection needs a sparse index; `sparse_embed.stores.chroma.open_collection` makes one.

    Example:
        >>> import chromadb
        >>> from langchain_sparse_embed import ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings
        >>> from langchain_sparse_embed.retrievers import ChromaHybridRetriever
        >>> retriever = ChromaHybridRetriever(
        ...     collection=chromadb.CloudClient().get_collection("docs"),
        ...     embeddings=ChromaCloudEmbeddings(),
        ...     sparse_encoder=ChromaCloudSparseEmbeddings(),
        ... )  # doctest: +SKIP
        >>> retriever.invoke("quick fox")  # doctest: +SKIP
    """

    collection: Collection | None = Field(default=None, repr=False)
    """For ``invoke``; and for ``ainvoke``, in a thread, where there is no `async_collection`."""
    async_collection: AsyncCollection | None = Field(default=None, repr=False)
    """For ``ainvoke``: from chromadb's ``AsyncHttpClient``, and of use in its event loop."""
    weights: tuple[float, float] = (1.0, 1.0)
    """Of the dense and of the sparse ranking. A ranking of weight 0 is not asked for."""
    sparse_key: str = "sparse_embedding"
    """The key of the collection's sparse index; it is left out of documents' metadata."""
    candidates: int = Field(default=128, ge=1)
    """Best documents of each ranking that take part."""
    rrf_k: int = Field(default=60, ge=1)
    """A ranking contributes weight / (``rrf_k`` + rank): the smaller, the more the first ranks count."""
    filter: Where | Mapping[str, Any] | None = None
    """Chroma's ``where``. One given to ``invoke`` takes its place."""

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # as in `Retriever`
        """Check the settings; nothing is sent.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        super().__init__(**fields)
        if self.collection is None and self.async_collection is None:
            raise ConfigurationError("ChromaHybridRetriever needs collection= or async_collection=")
        self._search([0.0], SparseVector([], []), self.k, self.filter)  # refuses what no query could do with

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Where | Mapping[str, Any] | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        from sparse_embed.stores.chroma_search import clear_refusal

        collection = self._sync_collection()
        dense, sparse = self._embedded(query)
        search = self._search(dense, sparse, self._wanted(k), filter)
        if search is None:
            return []
        with clear_refusal():
            result = collection.search(search)
        return self._documents(sparse, result)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Where | Mapping[str, Any] | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        from sparse_embed.stores.chroma_search import clear_refusal

        dense, sparse = await self._aembedded(query)
        search = self._search(dense, sparse, self._wanted(k), filter)
        if search is None:
            return []
        with clear_refusal():
            if self.async_collection is not None:
                result = await self.async_collection.search(search)
            else:
                result = await asyncio.to_thread(self._sync_collection().search, search)
        return self._documents(sparse, result)

    def _sync_collection(self) -> Collection:
        if self.collection is None:
            raise ConfigurationError("this retriever has an async_collection only: use ainvoke, or give it collection=")
        return self.collection

    def _search(self, dense: list[float], sparse: SparseVector, k: int, where: Any) -> "Search | None":  # noqa: ANN401
        from sparse_embed.stores.chroma_search import hybrid_search

        return hybrid_search(
            dense,
            sparse,
            k=k,
            weights=self.weights,
            sparse_key=self.sparse_key,
            candidates=self.candidates,
            rrf_k=self.rrf_k,
            where=self.filter if where is None else where,
        )

    def _documents(self, query: SparseVector, result: "SearchResult") -> list[Document]:
        from sparse_embed.stores.chroma_search import read_rows

        return [
            self._document(row.id, row.document, row.metadata, row.score, matched(query, row.sparse))
            for row in read_rows(result, sparse_key=self.sparse_key)
            if row.document is not None  # as in langchain-chroma: a record may have no text
        ]
