"""One ranking from several retrievers: `HybridRetriever`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle

from llama_index_sparse_embed.retrievers._base import copy_with
from sparse_embed.fusion import RRF_K, Fusion, Method, run_together
from sparse_embed.options import check_count


class HybridRetriever(BaseRetriever):
    """Runs any number of retrievers and fuses their rankings; needs no language model.

    Only what a retriever returns takes part: let each return more than ``similarity_top_k``. ``aretrieve`` runs them at
    the same time. The nodes are copies; metadata that only one retriever gives a node (such as `SparseRetriever`'s
    ``terms_key``) is kept.

    Example:
        >>> dense = index.as_retriever(similarity_top_k=50)  # doctest: +SKIP
        >>> sparse = SparseRetriever.from_nodes(nodes, embedding, similarity_top_k=50)  # doctest: +SKIP
        >>> HybridRetriever([dense, sparse], weights=[1.0, 0.5], similarity_top_k=10)  # doctest: +SKIP
    """

    def __init__(
        self,
        retrievers: Sequence[BaseRetriever],
        *,
        weights: Sequence[float] | None = None,
        fusion: Method = "reciprocal_rank",
        rrf_k: int = RRF_K,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        scores_key: str | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Check the settings.

        Args:
            retrievers: At least one. A node is recognized by its id.
            weights: One per retriever, greater than 0. None: 1 each.
            fusion: ``"reciprocal_rank"``: a node's score is the sum of weight / (``rrf_k`` + rank), with ranks from 1.
                ``"relative_score"``: the sum of weight times score, with the scores of each retriever scaled to 0 … 1;
                a node without a score counts as 0.
            rrf_k: The smaller, the more the first ranks count.
            similarity_top_k: Nodes to return.
            scores_key: Write each retriever's own score into the node's metadata under this name: a list in the order
                of retrievers, with None where it did not find the node or gave no score.
            callback_manager: LlamaIndex's.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        self._retrievers = list(retrievers)
        self._fusion = Fusion.of(len(self._retrievers), weights, fusion, rrf_k)
        self._top_k = check_count("similarity_top_k", similarity_top_k)
        self._scores_key = scores_key
        super().__init__(callback_manager=callback_manager)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._retrievers!r})"

    # Each retriever gets its own bundle: LlamaIndex's vector retriever stores its query vector in it (core 0.14), and
    # the next one, of another model, would search with that vector.
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._fuse([retriever.retrieve(replace(query_bundle)) for retriever in self._retrievers])

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        calls = (retriever.aretrieve(replace(query_bundle)) for retriever in self._retrievers)
        return self._fuse(await run_together(*calls))

    def _fuse(self, rankings: Sequence[Sequence[NodeWithScore]]) -> list[NodeWithScore]:
        fused = self._fusion.fuse(rankings, lambda hit: hit.node.node_id, lambda hit: hit.score)
        return [NodeWithScore(node=self._merge(hits), score=score) for score, hits in fused[: self._top_k]]

    def _merge(self, hits: list[NodeWithScore | None]) -> BaseNode:
        nodes = [hit.node for hit in hits if hit is not None]
        extra: dict[str | None, Any] = {key: value for node in reversed(nodes) for key, value in node.metadata.items()}
        missing = {key: value for key, value in extra.items() if key not in nodes[0].metadata}
        return copy_with(nodes[0], missing | {self._scores_key: [hit and hit.score for hit in hits]})
