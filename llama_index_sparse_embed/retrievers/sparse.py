"""Sparse retrieval in this process, without a store: `SparseRetriever`.

Decides how nodes are stored in an `InvertedIndex`: as in LlamaIndex's stores, so that filters see the same metadata.
Leaves vectors to the encoder, and the search to the index.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, cast

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import FilterCondition, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn, metadata_dict_to_node, node_to_metadata_dict

from llama_index_sparse_embed.retrievers._base import (
    AnySparse,
    aembed_documents,
    aembed_query,
    check_sparse,
    copy_with,
    embed_documents,
    embed_query,
)
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.filters import Predicate
from sparse_embed.index import InvertedIndex, Origin
from sparse_embed.options import check_count


class SparseRetriever(BaseRetriever):
    """Nodes with the greatest inner product of sparse vectors: exact, incremental, in memory.

    May be used from any number of threads and event loops, while nodes are added and deleted.

    Example:
        >>> retriever = SparseRetriever.from_nodes(nodes, ChromaCloudSparseEmbedding(), similarity_top_k=5)
        ...     # doctest: +SKIP
        >>> retriever.retrieve("quick fox")  # doctest: +SKIP
    """

    def __init__(
        self,
        sparse: AnySparse,
        *,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        filters: MetadataFilters | None = None,
        idf: bool = False,
        terms_key: str | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
    ) -> None:
        """Start without nodes.

        Args:
            sparse: Embeds nodes and queries: a sparse embedding of LlamaIndex, or a `SparseEncoder` (which knows
                the terms behind the indices, with ``return_tokens=True``).
            similarity_top_k: Nodes to return.
            filters: Only nodes whose metadata they accept; groups may be nested. The result is still exact.
            idf: Weigh the query's terms by their rarity, for models whose vectors leave that to the store, as BM25.
            terms_key: Write what each matched term contributed into the node's metadata under this name, the greatest
                first: a dict by token, or by index where tokens are not known. It is hidden from language models.
            callback_manager: LlamaIndex's.
            object_map: LlamaIndex's, for index nodes.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        self._sparse = check_sparse(sparse)
        self._top_k = check_count("similarity_top_k", similarity_top_k)
        self._filter = None if filters is None else _build_filter(filters)
        self._terms_key = terms_key
        self._index = InvertedIndex(idf=idf)
        super().__init__(callback_manager=callback_manager, object_map=object_map)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._sparse!r}, {len(self)} nodes)"

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self._index)

    def __bool__(self) -> bool:
        """True, also without nodes: LlamaIndex tests ``if retriever`` to see whether there is one."""
        return True

    @classmethod
    def from_nodes(
        cls,
        nodes: Iterable[BaseNode],
        sparse: AnySparse,
        *,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        filters: MetadataFilters | None = None,
        idf: bool = False,
        terms_key: str | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
    ) -> Self:
        """A retriever over these nodes; see `add`. The settings are those of this class."""
        retriever = cls(
            sparse,
            similarity_top_k=similarity_top_k,
            filters=filters,
            idf=idf,
            terms_key=terms_key,
            callback_manager=callback_manager,
            object_map=object_map,
        )
        retriever.add(nodes)
        return retriever

    def add(self, nodes: Iterable[BaseNode]) -> list[str]:
        """Embed and add nodes, or replace those whose id is there already.

        Args:
            nodes: They are copied. Their text is embedded with the metadata that is meant for embedding.

        Returns:
            Their ids.

        Raises:
            ConfigurationError: Bad input; nothing is added.
            SparseEmbedError: The vectors could not be obtained; nothing is added.
        """
        nodes = _check_nodes(nodes)
        return self._keep(nodes, embed_documents(self._sparse, _texts(nodes)))

    async def aadd(self, nodes: Iterable[BaseNode]) -> list[str]:
        """Like `add`, on the running event loop."""
        nodes = _check_nodes(nodes)
        vectors = await aembed_documents(self._sparse, _texts(nodes))
        return await asyncio.to_thread(self._keep, nodes, vectors)

    def delete(self, node_ids: Iterable[str]) -> int:
        """Delete nodes; unknown ids are ignored.

        Returns:
            How many were deleted.
        """
        return self._index.delete(node_ids)

    def persist(self, persist_path: str | os.PathLike[str]) -> None:
        """Write nodes and vectors to one file, which is replaced as a whole or not at all. It holds no pickle."""
        self._index.save(persist_path)

    @classmethod
    def from_persist_path(
        cls,
        persist_path: str | os.PathLike[str],
        sparse: AnySparse,
        *,
        check_model: bool = True,
        **settings: Any,  # noqa: ANN401  # of several types
    ) -> Self:
        """A retriever over what `persist` wrote.

        Args:
            persist_path: The file.
            sparse: Embeds the queries, with the model that embedded the nodes.
            check_model: Refuse an encoder of another provider or model than the file records.
            **settings: Those of this class; ``idf`` is as it was.

        Raises:
            ConfigurationError: The file is damaged, was saved by something else, or holds vectors of another model.
        """
        expected = Origin.of(check_sparse(sparse)) if check_model else None
        index = InvertedIndex.load_for("LlamaIndex", persist_path, expected=expected)
        retriever = cls(sparse, **settings, idf=index.idf)
        retriever._index = index
        return retriever

    def _keep(self, nodes: Sequence[BaseNode], vectors: list[SparseVector]) -> list[str]:
        ids = [node.node_id for node in nodes]
        self._index.add(ids, vectors, map(node_to_metadata_dict, nodes))
        self._index.origin = self._index.origin or Origin.of(self._sparse)
        return ids

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._search(embed_query(self._sparse, query_bundle.query_str))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = await aembed_query(self._sparse, query_bundle.query_str)
        return await asyncio.to_thread(self._search, vector)

    def _search(self, query: SparseVector) -> list[NodeWithScore]:
        hits = self._index.search(query, self._top_k, filter=self._filter, terms=self._terms_key is not None)
        found = []
        for hit in hits:
            node = metadata_dict_to_node(dict(hit.metadata))
            if hit.terms is not None:
                node = copy_with(node, {self._terms_key: dict(hit.terms.top(hit.terms.nnz))})
            found.append(NodeWithScore(node=node, score=hit.score))
        return found


def _check_nodes(nodes: Iterable[BaseNode]) -> list[BaseNode]:
    nodes = list(nodes)
    for at, node in enumerate(nodes):
        if not isinstance(node, BaseNode):
            hint = ": wrap it in a TextNode" if isinstance(node, str) else ""
            raise ConfigurationError(f"node {at} is {type(node).__name__}, not a node{hint}")
    return nodes


def _texts(nodes: Sequence[BaseNode]) -> list[str]:
    return [node.get_content(MetadataMode.EMBED) for node in nodes]


def _build_filter(filters: MetadataFilters) -> Predicate:
    """LlamaIndex's own filter function, extended to nested groups, which it refuses (core 0.14)."""
    if not isinstance(filters, MetadataFilters):
        raise ConfigurationError(f"filters must be LlamaIndex's MetadataFilters, not {type(filters).__name__}")
    parts = []
    for one in filters.filters:
        if isinstance(one, MetadataFilters):
            parts.append(_build_filter(one))
        else:
            alone = build_metadata_filter_fn(cast(Any, _get_metadata), MetadataFilters(filters=[one]))
            parts.append(cast(Predicate, alone))
    if filters.condition == FilterCondition.OR:
        return lambda fields: not parts or any(part(fields) for part in parts)
    if filters.condition == FilterCondition.NOT:
        return lambda fields: not any(part(fields) for part in parts)
    return lambda fields: all(part(fields) for part in parts)


def _get_metadata(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """LlamaIndex looks metadata up by a node's id; here the metadata is passed in place of the id."""
    return fields
