"""Chroma's hybrid search: `HybridSearch`. Chroma Cloud only.

Decides how the dense and the sparse ranking are fused, and how a result is read. Leaves embedding to the caller.
chromadb is imported with the first search, so that the defaults can be read without it.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sparse_embed.convert import from_chroma, to_chroma
from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.fusion import RRF_K
from sparse_embed.options import check_count
from sparse_embed.vectors import SparseVector

if TYPE_CHECKING:
    from chromadb import Collection, Search
    from chromadb.api.models.AsyncCollection import AsyncCollection
    from chromadb.api.types import SearchResult
    from chromadb.execution.expression.operator import Where

SPARSE_KEY: Final = "sparse_embedding"  # the name in all of Chroma's examples
# Without a default, a record that one of the two rankings lacks is left out of the result. With this rank it is kept,
# and that ranking adds nothing to its score.
ABSENT: Final = 1e9


class Row(NamedTuple):
    """A record that was found.

    Attributes:
        id: As it was added.
        document: Its text, if it was stored.
        metadata: Its own fresh dict, without the sparse vector, which Chroma keeps there.
        score: The fused score; greater is better. (Chroma's own is negative, and smaller is better.)
        sparse: Its sparse vector, if it has one.
    """

    id: str
    document: str | None
    metadata: dict[str, Any]
    score: float
    sparse: SparseVector | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridSearch:
    """How a collection is searched for a query's dense and sparse vector.

    The two rankings are fused by reciprocal rank: the sum of weight / (``rrf_k`` + rank).

    Attributes:
        weights: Of the dense and of the sparse ranking. A ranking of weight 0 is not computed.
        sparse_key: The key of the collection's sparse index.
        candidates: Best records of each ranking that take part; never fewer than are to be returned. The default is
            the server's; chromadb 1.5's own ``Knn`` says 16.
        rrf_k: The smaller, the more the first ranks count.

    Raises:
        ConfigurationError: A setting that cannot work.
    """

    weights: tuple[float, float] = (1.0, 1.0)
    sparse_key: str = SPARSE_KEY
    candidates: int = 128
    rrf_k: int = RRF_K

    def __post_init__(self) -> None:
        if len(self.weights) != 2 or min(self.weights) < 0 or not max(self.weights) > 0:
            raise ConfigurationError(
                f"weights must be two numbers of at least 0, and not both 0, but are {self.weights}"
            )
        check_count("candidates", self.candidates)
        check_count("rrf_k", self.rrf_k)

    def build(
        self,
        dense: Sequence[float],
        sparse: SparseVector,
        *,
        k: int,
        where: "Where | Mapping[str, Any] | None" = None,
    ) -> "Search | None":
        """The search for ``k`` records; None when only the sparse ranking counts and the query has no terms.

        It holds vectors and never the text: for a text, chromadb would call the collection's own embedding function,
        which on the dense key is Chroma's default model unless the collection was opened with another.
        """
        with requires("chromadb", "chroma"):
            from chromadb import K, Knn, Rrf, Search
        # `return_rank` on both: without it the formula is computed from distances.
        common: dict[str, Any] = {"limit": max(self.candidates, k), "default": ABSENT, "return_rank": True}
        legs = [(self.weights[0], Knn(query=list(dense), **common))] if self.weights[0] else []
        if self.weights[1] and sparse.indices:
            legs.append((self.weights[1], Knn(query=to_chroma(sparse), key=self.sparse_key, **common)))
        if not legs:
            return None
        rank = Rrf([knn for _, knn in legs], weights=[weight for weight, _ in legs], k=self.rrf_k)
        if isinstance(where, Mapping):
            where = dict(where) or None  # chromadb refuses an empty filter
        return Search(where=where, rank=rank, limit=k).select(K.DOCUMENT, K.METADATA, K.SCORE)

    def run(self, collection: "Collection", search: "Search | None") -> list[Row]:
        """The records that were found, best first.

        Raises:
            ConfigurationError: The collection is not in Chroma Cloud.
        """
        if search is None:
            return []
        with explain_refusal():
            return self.read(collection.search(search))

    async def arun(
        self, collection: "Collection | None", async_collection: "AsyncCollection | None", search: "Search | None"
    ) -> list[Row]:
        """Like `run`, on the running event loop; without an async collection, in a thread."""
        if search is None:
            return []
        if async_collection is None:
            return await asyncio.to_thread(self.run, require_collection(collection), search)
        with explain_refusal():
            return self.read(await async_collection.search(search))

    def read(self, result: "SearchResult") -> list[Row]:
        """The rows of the result of one search."""
        from chromadb import SparseVector as ChromaVector

        rows = []
        for found in result.rows()[0]:
            metadata = dict(found.get("metadata") or {})
            stored = metadata.pop(self.sparse_key, None)
            sparse = from_chroma(stored) if isinstance(stored, ChromaVector) else None
            rows.append(Row(found["id"], found.get("document"), metadata, -(found.get("score") or 0.0), sparse))
        return rows


def require_collection(collection: "Collection | None") -> "Collection":
    """The collection, or an error if the retriever was given only an async one."""
    if collection is None:
        raise ConfigurationError("there is an async_collection only: use the async methods, or pass collection= too")
    return collection


@contextmanager
def explain_refusal() -> Iterator[None]:
    """Around a search: the refusal of a Chroma that is not Chroma Cloud says what is missing.

    Raises:
        ConfigurationError: The collection is not in Chroma Cloud.
    """
    from chromadb.errors import ChromaError

    try:
        yield
        return
    except NotImplementedError:  # a client in this process, chromadb 1.5
        pass
    except ChromaError as error:  # a self-hosted server: no class or code of its own, only these words
        if "not implemented for local" not in str(error):
            raise
    raise ConfigurationError(
        "hybrid search exists in Chroma Cloud only, and this collection is in a self-hosted Chroma: open it with "
        "chromadb.CloudClient, or search sparse vectors in this process with SparseRetriever"
    )
