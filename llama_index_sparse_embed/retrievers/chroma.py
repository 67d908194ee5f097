"""Hybrid retrieval from a collection of Chroma Cloud: `ChromaHybridRetriever`."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from llama_index_sparse_embed.retrievers._base import (
    AnySparse,
    aembed_query,
    checked_encoder,
    checked_top_k,
    copy_with,
    embed_query,
    side_by_side,
)
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.explain import explain

if TYPE_CHECKING:
    from chromadb import Collection, Search
    from chromadb.api.models.AsyncCollection import AsyncCollection
    from chromadb.api.types import SearchResult

    from sparse_embed.stores.chroma_search import Row


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
        weights: tuple[float, float] = (1.0, 1.0),
        sparse_key: str = "sparse_embedding",
        candidates: int = 128,
        rrf_k: int = 60,
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
            async_collection: For ``aretrieve``: from chromadb's ``AsyncHttpClient``, and of use in its event loop.
            similarity_top_k: Nodes to return.
            weights: Of the dense and of the sparse ranking. A ranking of weight 0 is not asked for.
            sparse_key: The key of the collection's sparse index.
            candidates: Best nodes of each ranking that take part.
            rrf_k: A ranking contributes weight / (``rrf_k`` + rank): the smaller, the more the first ranks count.
            where: Chroma's filter.
            terms_key: Write what each matched term contributed to the sparse score into the node's metadata under this
                name, the greatest first: a dict by token, or by index. No language model gets to read it.
            callback_manager: LlamaIndex's.
            object_map: LlamaIndex's, for index nodes.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        if collection is None and async_collection is None:
            raise ConfigurationError("ChromaHybridRetriever needs a collection or async_collection")
        self._collection = collection
        self._async_collection = async_collection
        self._dense = dense
        self._sparse = checked_encoder(sparse)
        self._settings: dict[str, Any] = {
            "k": checked_top_k(similarity_top_k),
            "weights": weights,
            "sparse_key": sparse_key,
            "candidates": candidates,
            "rrf_k": rrf_k,
            "where": where,
        }
        self._terms_key = terms_key
        self._search([0.0], SparseVector([], []))  # refuses what no query could do with
        super().__init__(callback_manager=callback_manager, object_map=object_map)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        collection = self._blocking()
        dense = query_bundle.embedding or self._dense.get_agg_embedding_from_queries(query_bundle.embedding_strs)
        sparse = embed_query(self._sparse, query_bundle.query_str)
        search = self._search(dense, sparse)
        return [] if search is None else self._nodes(sparse, _ask(collection, search))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        dense, sparse = await side_by_side(
            self._aembed_dense(query_bundle), aembed_query(self._sparse, query_bundle.query_str)
        )
        search = self._search(dense, sparse)
        if search is None:
            return []
        if self._async_collection is not None:
            return self._nodes(sparse, await _aask(self._async_collection, search))
        return self._nodes(sparse, await asyncio.to_thread(_ask, self._blocking(), search))

    def _blocking(self) -> "Collection":
        if self._collection is None:
            raise ConfigurationError("this retriever has an async_collection only: use aretrieve, or give a collection")
        return self._collection

    async def _aembed_dense(self, query_bundle: QueryBundle) -> list[float]:
        strings = query_bundle.embedding_strs
        return query_bundle.embedding or await self._dense.aget_agg_embedding_from_queries(strings)

    def _search(self, dense: list[float], sparse: SparseVector) -> "Search | None":
        from sparse_embed.stores.chroma_search import hybrid_search

        return hybrid_search(dense, sparse, **self._settings)

    def _nodes(self, query: SparseVector, result: "SearchResult") -> list[NodeWithScore]:
        from sparse_embed.stores.chroma_search import read_rows

        found = []
        for row in read_rows(result, sparse_key=self._settings["sparse_key"]):
            node = _node(row)
            if self._terms_key is not None:
                shared = [] if row.sparse is None else explain(query, row.sparse).contributions
                node = copy_with(node, {self._terms_key: {part.term: part.product for part in shared}})
            found.append(NodeWithScore(node=node, score=row.score))
        return found


def _ask(collection: "Collection", search: "Search") -> "SearchResult":
    from sparse_embed.stores.chroma_search import clear_refusal

    with clear_refusal():
        return collection.search(search)


async def _aask(collection: "AsyncCollection", search: "Search") -> "SearchResult":
    from sparse_embed.stores.chroma_search import clear_refusal

    with clear_refusal():
        return await collection.search(search)


def _node(row: "Row") -> BaseNode:
    if "_node_content" in row.metadata:  # what LlamaIndex's store writes
        return metadata_dict_to_node(row.metadata, text=row.document)
    return TextNode(id_=row.id, text=row.document or "", metadata=row.metadata)
