"""One ranking from several retrievers: `HybridRetriever`.

Decides how rankings are fused. Leaves finding nodes to the retrievers.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle

from llama_index_sparse_embed.retrievers._base import checked_top_k, copy_with, side_by_side
from sparse_embed import ConfigurationError

Fusion = Literal["reciprocal_rank", "relative_score"]
FUSIONS: Final = ("reciprocal_rank", "relative_score")


class HybridRetriever(BaseRetriever):
    """Asks any number of retrievers and fuses their rankings; needs no language model.

    Each retriever has a say in the nodes that it found: ask each for more than you want in the end. ``aretrieve`` asks
    them at the same time. What comes back are copies of the nodes; metadata that only one retriever's copy has (such as
    `SparseRetriever`'s ``terms_key``) is kept.

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
        fusion: Fusion = "reciprocal_rank",
        rrf_k: int = 60,
        similarity_top_k: int = DEFAULT_SIMILARITY_TOP_K,
        scores_key: str | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Check the settings.

        Args:
            retrievers: At least one. A node is recognized by its id.
            weights: One a retriever, greater than 0. None: 1 each.
            fusion: ``"reciprocal_rank"``: a node's score is the sum of weight / (``rrf_k`` + rank), with ranks from 1.
                ``"relative_score"``: the sum of weight times score, with the scores of each retriever stretched to 0 …
                1; a node without a score counts as 0.
            rrf_k: The smaller, the more the first ranks count.
            similarity_top_k: Nodes to return.
            scores_key: Write each retriever's own score into the node's metadata under this name: a list in the order
                of retrievers, with None where it did not find the node or gave no score.
            callback_manager: LlamaIndex's.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        self._retrievers = list(retrievers)
        self._weights = [1.0] * len(self._retrievers) if weights is None else list(weights)
        if not self._retrievers:
            raise ConfigurationError("HybridRetriever needs at least one retriever")
        if len(self._weights) != len(self._retrievers):
            raise ConfigurationError(f"{len(self._retrievers)} retrievers and {len(self._weights)} weights")
        if not all(0 < weight < math.inf for weight in self._weights):
            raise ConfigurationError(f"weights must be greater than 0, but are {self._weights}")
        if fusion not in FUSIONS:
            raise ConfigurationError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion!r}")
        if rrf_k < 1:
            raise ConfigurationError(f"rrf_k must be at least 1, not {rrf_k}")
        self._fusion = fusion
        self._rrf_k = rrf_k
        self._top_k = checked_top_k(similarity_top_k)
        self._scores_key = scores_key
        super().__init__(callback_manager=callback_manager)

    # Each retriever gets a bundle of its own: LlamaIndex's vector retriever leaves its query vector in it (core 0.14),
    # and the next one, of another model, would search with that.
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._fused([retriever.retrieve(replace(query_bundle)) for retriever in self._retrievers])

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        calls = (retriever.aretrieve(replace(query_bundle)) for retriever in self._retrievers)
        return self._fused(await side_by_side(*calls))

    def _fused(self, rankings: list[list[NodeWithScore]]) -> list[NodeWithScore]:
        totals: dict[str, float] = {}
        found: dict[str, list[NodeWithScore | None]] = {}
        for at, (weight, hits) in enumerate(zip(self._weights, rankings, strict=True)):
            for hit, share in zip(hits, self._shares(hits), strict=True):  # a node comes once: LlamaIndex sees to it
                name = hit.node.node_id
                totals[name] = totals.get(name, 0.0) + weight * share
                found.setdefault(name, [None] * len(rankings))[at] = hit
        best = sorted(totals, key=totals.__getitem__, reverse=True)[: self._top_k]
        return [NodeWithScore(node=self._merged(found[name]), score=totals[name]) for name in best]

    def _shares(self, hits: list[NodeWithScore]) -> list[float]:
        """What each hit of one ranking is worth, before its weight."""
        if self._fusion == "reciprocal_rank":
            return [1 / (self._rrf_k + rank) for rank in range(1, len(hits) + 1)]
        scores = [_finite(hit.score) for hit in hits]
        known = [score for score in scores if score is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        if low == high:  # all are the best
            return [0.0 if score is None else 1.0 for score in scores]
        return [0.0 if score is None else (score - low) / (high - low) for score in scores]

    def _merged(self, hits: list[NodeWithScore | None]) -> BaseNode:
        nodes = [hit.node for hit in hits if hit is not None]
        extra: dict[str | None, Any] = {key: value for node in reversed(nodes) for key, value in node.metadata.items()}
        missing = {key: value for key, value in extra.items() if key not in nodes[0].metadata}
        return copy_with(nodes[0], missing | {self._scores_key: [hit and hit.score for hit in hits]})


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
