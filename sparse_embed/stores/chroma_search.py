"""Chroma's hybrid search: the `Search` of two vectors, and the rows of its result.

Decides how the two rankings are fused. Leaves embedding and sending to the caller. Chroma Cloud only.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sparse_embed.convert import from_chroma, to_chroma
from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.vectors import SparseVector

with requires("chromadb", "chroma"):
    from chromadb import K, Knn, Rrf, Search
    from chromadb import SparseVector as ChromaVector
    from chromadb.errors import ChromaError

if TYPE_CHECKING:
    from chromadb.api.types import SearchResult
    from chromadb.execution.expression.operator import Where

SPARSE_KEY: Final = "sparse_embedding"  # the name in all of Chroma's examples
CANDIDATES: Final = 128  # that each ranking contributes: the server's default; chromadb 1.5's `Knn` says 16
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


def hybrid_search(
    dense: Sequence[float],
    sparse: SparseVector,
    *,
    k: int,
    weights: tuple[float, float] = (1.0, 1.0),
    sparse_key: str = SPARSE_KEY,
    candidates: int = CANDIDATES,
    rrf_k: int = 60,
    where: "Where | Mapping[str, Any] | None" = None,
) -> Search | None:
    """The search for a query's two vectors, fused by reciprocal rank: the sum of weight / (``rrf_k`` + rank).

    Vectors, never the text: for a text, chromadb would ask the collection's own embedding function, which on the dense
    key is Chroma's default model unless the collection was opened with another.

    Args:
        dense: The query's dense vector.
        sparse: The query's sparse vector.
        k: Records to return.
        weights: Of the dense and of the sparse ranking. A ranking of weight 0 is not asked for.
        sparse_key: The key of the collection's sparse index.
        candidates: Best records of each ranking that take part; at least ``k`` are asked for.
        rrf_k: The smaller, the more the first ranks count.
        where: Chroma's filter.

    Returns:
        None when nothing can be found: only the sparse ranking counts, and the query has no terms.

    Raises:
        ConfigurationError: A number that cannot work.
    """
    if min(weights) < 0 or not max(weights) > 0:
        raise ConfigurationError(f"weights must be two numbers of at least 0, and not both 0, but are {weights}")
    if rrf_k < 1 or candidates < 1:
        raise ConfigurationError(f"rrf_k and candidates must be at least 1, but are {rrf_k} and {candidates}")
    # `return_rank` on both: without it the formula is fed with distances.
    common: dict[str, Any] = {"limit": max(candidates, k), "default": ABSENT, "return_rank": True}
    legs = [(weights[0], Knn(query=list(dense), **common))] if weights[0] else []
    if weights[1] and sparse.indices:
        legs.append((weights[1], Knn(query=to_chroma(sparse), key=sparse_key, **common)))
    if not legs:
        return None
    rank = Rrf([knn for _, knn in legs], weights=[weight for weight, _ in legs], k=rrf_k)
    if isinstance(where, Mapping):
        where = dict(where) or None  # chromadb refuses an empty filter
    chosen = Search(where=where, rank=rank, limit=k)
    return chosen.select(K.DOCUMENT, K.METADATA, K.SCORE)


def read_rows(result: "SearchResult", *, sparse_key: str = SPARSE_KEY) -> list[Row]:
    """The records that one `hybrid_search` found, best first."""
    rows = []
    for found in result.rows()[0]:
        metadata = dict(found.get("metadata") or {})
        stored = metadata.pop(sparse_key, None)
        sparse = from_chroma(stored) if isinstance(stored, ChromaVector) else None
        rows.append(Row(found["id"], found.get("document"), metadata, -(found.get("score") or 0.0), sparse))
    return rows


@contextmanager
def clear_refusal() -> Iterator[None]:
    """Around a search: the refusal of a Chroma that is not Chroma Cloud says what is missing.

    Raises:
        ConfigurationError: The collection is not in Chroma Cloud.
    """
    refused = False
    try:
        yield
    except NotImplementedError:  # a client in this process, chromadb 1.5
        refused = True
    except ChromaError as error:  # a server of one's own: no class or code of its own, only these words
        refused = "not implemented for local" in str(error)
        if not refused:
            raise
    if refused:
        raise ConfigurationError(
            "hybrid search exists in Chroma Cloud only, and this collection is in a Chroma of your own: open it with "
            "chromadb.CloudClient, or search sparse vectors in this process with SparseRetriever"
        )
