"""Hybrid retrieval from a collection of Chroma Cloud: `ChromaHybridRetriever`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from llama_index_sparse_embed.retrievers._base import (
    AnySparse,
    aembed_query,
    check_sparse,
    copy_with,
    embed_query,
)
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.explanation import match_terms
from sparse_embed.fusion import run_together
from sparse_embed.options import check_count
from sparse_embed.settings import check_kind
from sparse_embed.stores.chroma_search import HybridSearch, Row, require_collection

if TYPE_CHECKING:
    from chromadb import Collection, Search
    from chromadb.api.models.AsyncCollection import AsyncCollection

DEFAULTS: Final = HybridSearch()


class ChromaHybridRetriever(BaseRetriever):
    """Nodes by the fused ranks of dense and sparse vectors, from one search of Chroma Cloud.

    (``ChromaVectorStore`` 0.6 has no such search: its mode "sparse" returns any nodes unscored, its "hybrid" is dense.)
    The collection needs a sparse index; `sparse_embed.stores.chroma.open_collection` makes one.

    Example:
        >>> import chromadb
        >>> from sparse_embed.stores.chroma import open_collection
        >>> sparse = ChromaCloudSparseEmbedding()
        >>> collection = open_collection(chromadb.CloudClient(), "docs", sparse.as_chroma())  # doctest: +SKIP
        >>> ChromaVectorStore(collection).add(nodes)  # doctest: +SKIP
        >>> ChromaHybridRetriever(collection, dense=ChromaCloudEmbedding(), sparse=sparse)  # doctest: +SKIP
    """

    def __init__(
        self,
        collection: "Collection | None" = None,
        *,
        dense: BaseEmbedding,
        sparse: AnySparse,
        async_collection: "AsyncCollection | None" = None,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        weights: tuple[float, float] = DEFAULTS.weights,
        sparse_key: str = DEFAULTS.sparse_key,
        candidates: int = DEFAULTS.candidates,
        rrf_k: int = DEFAULTS.rrf_k,
        where: Mapping[str, Any] | None = None,
        terms_key: str | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
    ) -> None:
        """Check the settings; nothing is sent.

        Args:
            collection: For ``retrieve``; and for ``aretrieve``, in a thread, where there is no `async_collection`.
            dense: The dense model of the collection.
            sparse: The sparse model of the collection; tokens are known from a `SparseEncoder` with
                ``return_tokens=True``.
            async_collection: For ``aretrieve``: from chromadb's ``AsyncHttpClient``; it works in the event loop that
                created it.
            similarity_top_k: Nodes to return.
            weights: Of the dense and of the sparse ranking. A ranking of weight 0 is not computed.
            sparse_key: The key of the collection's sparse index.
            candidates: Best nodes of each ranking that take part.
            rrf_k: A ranking contributes weight / (``rrf_k`` + rank): the smaller, the more the first ranks count.
            where: Chroma's filter.
            terms_key: Write what each matched term contributed to the sparse score into the node's metadata under this
                name, the greatest first: a dict by token, or by index. It is hidden from language models.
            callback_manager: LlamaIndex's.
            object_map: LlamaIndex's, for index nodes.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        if collection is None and async_collection is None:
            raise ConfigurationError("ChromaHybridRetriever needs a collection or async_collection")
        self._collection = collection
        self._async_collection = async_collection
        check_kind("dense", dense, BaseEmbedding)
        self._dense = dense
        self._sparse = check_sparse(sparse)
        self._top_k = check_count("similarity_top_k", similarity_top_k)
        self._where = where
        self._search = HybridSearch(weights=weights, sparse_key=sparse_key, candidates=candidates, rrf_k=rrf_k)
        self._terms_key = terms_key
        self._build([0.0], SparseVector([], []))  # refuses settings that fail with any query
        super().__init__(callback_manager=callback_manager, object_map=object_map)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dense={self._dense!r}, sparse={self._sparse!r})"

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        collection = require_collection(self._collection)
        dense = query_bundle.embedding or self._dense.get_agg_embedding_from_queries(query_bundle.embedding_strs)
        sparse = embed_query(self._sparse, query_bundle.query_str)
        return self._read(sparse, self._search.run(collection, self._build(dense, sparse)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        dense, sparse = await run_together(
            self._aembed_dense(query_bundle), aembed_query(self._sparse, query_bundle.query_str)
        )
        search = self._build(dense, sparse)
        return self._read(sparse, await self._search.arun(self._collection, self._async_collection, search))

    async def _aembed_dense(self, query_bundle: QueryBundle) -> list[float]:
        strings = query_bundle.embedding_strs
        return query_bundle.embedding or await self._dense.aget_agg_embedding_from_queries(strings)

    def _build(self, dense: list[float], sparse: SparseVector) -> "Search | None":
        return self._search.build(dense, sparse, k=self._top_k, where=self._where)

    def _read(self, query: SparseVector, rows: list[Row]) -> list[NodeWithScore]:
        found = []
        for row in rows:
            node = _make_node(row)
            if self._terms_key is not None:
                node = copy_with(node, {self._terms_key: match_terms(query, row.sparse)})
            found.append(NodeWithScore(node=node, score=row.score))
        return found


def _make_node(row: Row) -> BaseNode:
    if "_node_content" in row.metadata:  # written by LlamaIndex's store
        return metadata_dict_to_node(row.metadata, text=row.document)
    return TextNode(id_=row.id, text=row.document or "", metadata=row.metadata)
