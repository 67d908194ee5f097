"""One ranking from several, and how to compute several at the same time: what hybrid retrievers share.

Decides scores and order. Leaves searching to the retrievers, and merging the copies of a document to their frameworks.
"""

import math
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar, get_args, overload

from sparse_embed.errors import ConfigurationError
from sparse_embed.options import check_count

T = TypeVar("T")
U = TypeVar("U")
Method = Literal["reciprocal_rank", "relative_score"]
RRF_K: Final = 60  # of Cormack et al. 2009, and the default everywhere since


class Fused(NamedTuple, Generic[T]):
    """One document of the fused ranking.

    Attributes:
        score: The fused score; greater is better.
        hits: What each ranking holds of it, in the order of the rankings; None where it is missing.
    """

    score: float
    hits: list[T | None]


@dataclass(frozen=True, slots=True)
class Fusion:
    """How several rankings become one.

    Attributes:
        weights: One per ranking, greater than 0.
        method: ``"reciprocal_rank"``: a document's score is the sum of weight / (``rrf_k`` + rank), with ranks from 1.
            ``"relative_score"``: the sum of weight times score, with the scores of each ranking scaled to 0 … 1; a hit
            without a score counts as 0.
        rrf_k: The smaller, the more the first ranks count.

    Raises:
        ConfigurationError: A weight is not positive, or a setting is unknown.
    """

    weights: Sequence[float]
    method: Method = "reciprocal_rank"
    rrf_k: int = RRF_K

    def __post_init__(self) -> None:
        if not self.weights:
            raise ConfigurationError("a hybrid retriever needs at least one retriever")
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ConfigurationError(f"weights must be greater than 0, but are {list(self.weights)}")
        if self.method not in get_args(Method):
            raise ConfigurationError(f"fusion must be one of {', '.join(get_args(Method))}, not {self.method!r}")
        check_count("rrf_k", self.rrf_k)

    @classmethod
    def of(
        cls,
        rankings: int,
        weights: Sequence[float] | None,
        method: Method = "reciprocal_rank",
        rrf_k: int = RRF_K,
    ) -> "Fusion":
        """A fusion of this number of rankings; without weights, each has weight 1."""
        chosen = [1.0] * rankings if weights is None else list(weights)
        if len(chosen) != rankings:
            raise ConfigurationError(f"{rankings} retrievers and {len(chosen)} weights")
        return cls(chosen, method, rrf_k)

    def fuse(
        self,
        rankings: Sequence[Sequence[T]],
        key: Callable[[T], Hashable],
        score: Callable[[T], float | None] = lambda hit: None,
    ) -> list[Fused[T]]:
        """All documents, best first; of equal scores, the one found first.

        Args:
            rankings: One per weight, each best first.
            key: What tells documents apart. Where one ranking holds a document twice, its better rank counts.
            score: The score of a hit in its own ranking.
        """
        totals: dict[Hashable, float] = {}
        hits: dict[Hashable, list[T | None]] = {}
        for at, (weight, ranking) in enumerate(zip(self.weights, rankings, strict=True)):
            first = {key(hit): hit for hit in reversed(ranking)}
            ranked = list(reversed(first.items()))
            shares = self._shares([score(hit) for _, hit in ranked])
            for (name, hit), share in zip(ranked, shares, strict=True):
                totals[name] = totals.get(name, 0.0) + weight * share
                hits.setdefault(name, [None] * len(rankings))[at] = hit
        return [Fused(totals[name], hits[name]) for name in sorted(totals, key=totals.__getitem__, reverse=True)]

    def _shares(self, scores: list[float | None]) -> list[float]:
        """What each hit of one ranking contributes, before its weight."""
        if self.method == "reciprocal_rank":
            return [1 / (self.rrf_k + rank) for rank in range(1, len(scores) + 1)]
        known = [score for score in scores if score is not None and math.isfinite(score)]
        low, high = min(known, default=0.0), max(known, default=0.0)
        width = high - low
        return [
            0.0 if score is None or not math.isfinite(score) else (score - low) / width if width else 1.0
            for score in scores
        ]


@overload
async def run_together(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U], /) -> tuple[T, U]: ...
@overload
async def run_together(*calls: Coroutine[Any, Any, T]) -> Sequence[T]: ...
async def run_together(*calls: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    """The results of all calls, which run at the same time; when one fails, the others are cancelled.

    The error is raised as it is; a task group would wrap it.
    """
    import asyncio  # a sync program need not load it

    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
