"""Hybrid retrieval from a collection of Chroma Cloud: `ChromaHybridRetriever`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from pydantic import Field

from langchain_sparse_embed.retrievers._base import StoreRetriever
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.explanation import match_terms
from sparse_embed.stores.chroma_search import HybridSearch, Row, require_collection

if TYPE_CHECKING:
    from chromadb import Collection, Search
    from chromadb.api.models.AsyncCollection import AsyncCollection
    from chromadb.execution.expression.operator import Where
else:  # pydantic evaluates these when the class is created; that must not import chromadb
    Collection = AsyncCollection = Where = Any

DEFAULTS: Final = HybridSearch()


class ChromaHybridRetriever(StoreRetriever):
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

    collection: Collection | None = Field(
        default=None,
        repr=False,
        description="For ``invoke``; and for ``ainvoke``, in a thread, where there is no `async_collection`.",
    )
    async_collection: AsyncCollection | None = Field(
        default=None,
        repr=False,
        description="For ``ainvoke``: from chromadb's ``AsyncHttpClient``; it works in the event loop that created it.",
    )
    weights: tuple[float, float] = Field(
        default=DEFAULTS.weights,
        description="Of the dense and of the sparse ranking. A ranking of weight 0 is not computed.",
    )
    sparse_key: str = Field(
        default=DEFAULTS.sparse_key,
        description="The key of the collection's sparse index; it is left out of documents' metadata.",
    )
    candidates: int = Field(default=DEFAULTS.candidates, description="Best documents of each ranking that take part.")
    rrf_k: int = Field(
        default=DEFAULTS.rrf_k,
        description="A ranking contributes weight / (``rrf_k`` + rank): the smaller, the more the first ranks count.",
    )
    filter: Where | Mapping[str, Any] | None = Field(
        default=None, description="Chroma's ``where``. A filter given to ``invoke`` replaces it."
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # as in `Retriever`
        """Check the settings; nothing is sent.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        super().__init__(**fields)
        if self.collection is None and self.async_collection is None:
            raise ConfigurationError("ChromaHybridRetriever needs collection= or async_collection=")
        self._build([0.0], SparseVector([], []), self.k, self.filter)  # refuses settings that fail with any query

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Where | Mapping[str, Any] | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        collection = require_collection(self.collection)
        dense, sparse = self._embed(query)
        search = self._build(dense, sparse, self._choose_k(k), filter)
        return self._read(sparse, self._search.run(collection, search))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Where | Mapping[str, Any] | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        dense, sparse = await self._aembed(query)
        search = self._build(dense, sparse, self._choose_k(k), filter)
        return self._read(sparse, await self._search.arun(self.collection, self.async_collection, search))

    @property
    def _search(self) -> HybridSearch:
        return HybridSearch(
            weights=self.weights, sparse_key=self.sparse_key, candidates=self.candidates, rrf_k=self.rrf_k
        )

    def _build(self, dense: list[float], sparse: SparseVector, k: int, where: Any) -> "Search | None":  # noqa: ANN401
        return self._search.build(dense, sparse, k=k, where=self.filter if where is None else where)

    def _read(self, query: SparseVector, rows: list[Row]) -> list[Document]:
        return [
            self._make_document(row.id, row.document, row.metadata, row.score, match_terms(query, row.sparse))
            for row in rows
            if row.document is not None  # as in langchain-chroma: a record may have no text
        ]
