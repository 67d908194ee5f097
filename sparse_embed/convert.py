"""`SparseVector` to the types of stores and libraries, and back. Each library is imported when its function is called.

What a store would refuse, or accept and change, is refused here before a request is sent, with `ConfigurationError` and
the position:

- an index that the store cannot hold, or more terms than it takes (`SparseVector.pruned` keeps the heaviest),
- a weight that float32 would turn into zero or infinity: all stores keep float32 (Milvus stored 1e39 as infinity),
- the empty vector, where the store refuses it: Pinecone. The others store it and never find it. See `convert_all`.

Leaves sending to the stores' own clients. Lists in the results are new: a store may change them.
"""

import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict, TypeVar, overload

from pydantic import TypeAdapter, ValidationError

from sparse_embed.arrow import from_arrow as from_arrow  # noqa: PLC0414  # public here: mypy wants it written so
from sparse_embed.arrow import to_arrow as to_arrow  # noqa: PLC0414  # likewise
from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.vectors import FLOAT32_MAX, FLOAT32_MIN, MAX_INDEX, SparseVector

if TYPE_CHECKING:
    import numpy as np
    from chromadb import SparseVector as ChromaVector
    from numpy.typing import NDArray
    from pinecone import SparseValues
    from qdrant_client.models import SparseVector as QdrantVector
    from scipy.sparse import csr_array

T = TypeVar("T")


class PineconeDict(TypedDict):
    """What Pinecone's client takes as ``sparse_values`` and ``sparse_vector``."""

    indices: list[int]
    values: list[float]


class _Limits(NamedTuple):
    store: str
    largest_index: int = MAX_INDEX
    most_terms: int | None = None
    takes_empty: bool = True
    takes_negative: bool = True


NUMPY: Final = _Limits("the array")
QDRANT: Final = _Limits("Qdrant")
# 1,000 in Pinecone's documentation of 2024, 2,048 since sparse indexes: the larger, since Pinecone itself refuses more.
PINECONE: Final = _Limits("Pinecone", most_terms=2048, takes_empty=False)
CHROMA: Final = _Limits("Chroma", most_terms=4096)  # its quota of 2026-11
MILVUS: Final = _Limits("Milvus", largest_index=2**32 - 2)  # accepts the empty vector since 2.4.12
PGVECTOR: Final = _Limits("pgvector", most_terms=16_000)
PGVECTOR_HNSW: Final = PGVECTOR._replace(store="an HNSW index of pgvector", most_terms=1000)
PGVECTOR_WIDEST: Final = 1_000_000_000
LUCENE: Final = _Limits("Elasticsearch or OpenSearch", takes_negative=False)


@overload
def convert_all(
    convert: Callable[[SparseVector], T],
    vectors: Iterable[SparseVector],
    *,
    on_empty: Literal["raise"] | SparseVector = "raise",
) -> list[T]: ...
@overload
def convert_all(
    convert: Callable[[SparseVector], T], vectors: Iterable[SparseVector], *, on_empty: Literal["skip"]
) -> list[T | None]: ...
def convert_all(
    convert: Callable[[SparseVector], T],
    vectors: Iterable[SparseVector],
    *,
    on_empty: Literal["raise", "skip"] | SparseVector = "raise",
) -> list[T] | list[T | None]:
    """Convert many vectors; the result has one item per vector, in order.

    Example:
        >>> convert_all(to_pinecone, [SparseVector([7], [0.5]), SparseVector([], [])], on_empty="skip")
        [{'indices': [7], 'values': [0.5]}, None]

    Args:
        convert: One of this module's functions; `functools.partial` adds its further arguments.
        vectors: The vectors.
        on_empty: How to treat a vector without terms. ``"raise"``: it is converted like any other, which is an error
            where the store refuses it. ``"skip"``: None takes its place, so that positions stay. A vector: a
            placeholder that is converted instead; for instance a tiny weight at an index that no text has.

    Raises:
        ConfigurationError: The store would refuse a vector; the message names which one.
    """
    converted: list[T | None] = []
    for at, vector in enumerate(vectors):
        try:
            if vector.indices or on_empty == "raise":
                converted.append(convert(vector))
            else:
                converted.append(None if on_empty == "skip" else convert(on_empty))
        except ConfigurationError as error:
            raise ConfigurationError(f"vector {at}: {error.message}") from None
    return converted


def to_dict(vector: SparseVector) -> dict[int, float]:
    """Weights by index, as LlamaIndex's ``SparseEmbedding``; tokens are left out."""
    return dict(zip(vector.indices, vector.values, strict=True))


def from_dict(weights: Mapping[int, float]) -> SparseVector:
    """The inverse of `to_dict` and `to_milvus`."""
    return _vector(weights, weights.values())


def to_json(vector: SparseVector) -> str:
    """An object with ``indices``, ``values`` and, where there are any, ``tokens``; nothing is rounded."""
    fields: dict[str, Any] = {"indices": vector.indices, "values": vector.values}
    return json.dumps(fields if vector.tokens is None else fields | {"tokens": vector.tokens}, ensure_ascii=False)


def from_json(text: str | bytes) -> SparseVector:
    """The inverse of `to_json`."""
    try:
        return TypeAdapter(SparseVector).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise ConfigurationError(f"not a sparse vector in JSON: {where}{first['msg']}") from None


def to_numpy(vector: SparseVector) -> "tuple[NDArray[np.uint32], NDArray[np.float32]]":
    """Indices (uint32) and values (float32), both of shape ``(nnz,)``."""
    with requires("numpy", "retrievers"):
        import numpy as np

    indices, values = _check_limits(vector, NUMPY)
    return np.array(indices, np.uint32), np.array(values, np.float32)


def from_numpy(indices: "NDArray[np.integer[Any]]", values: "NDArray[np.floating[Any]]") -> SparseVector:
    """The inverse of `to_numpy`; order does not matter, and zeros are dropped."""
    return _vector(indices.tolist(), values.tolist())


def to_scipy(vectors: Iterable[SparseVector], width: int | None = None) -> "csr_array[np.float32, tuple[int, int]]":
    """All vectors as rows of one CSR array (float32) of shape ``(n, width)``.

    Args:
        vectors: The rows; an empty vector is an empty row.
        width: Number of columns, the same for arrays that will be multiplied. None: as many as needed.
    """
    with requires("scipy"):
        from scipy.sparse import csr_array
    import numpy as np  # scipy depends on it

    limits = NUMPY if width is None else _Limits(f"an array of width {width}", largest_index=width - 1)
    rows = convert_all(lambda vector: _check_limits(vector, limits), vectors)
    ends = np.cumsum([0, *(len(indices) for indices, _ in rows)])
    columns = np.fromiter((index for indices, _ in rows for index in indices), np.int64, ends[-1])
    data = np.fromiter((value for _, values in rows for value in values), np.float32, ends[-1])
    needed = int(columns.max(initial=-1)) + 1
    return csr_array((data, columns, ends), shape=(len(rows), needed if width is None else width))


def from_scipy(matrix: Any) -> list[SparseVector]:  # noqa: ANN401  # any of scipy's fourteen classes
    """A vector for each row of a scipy sparse array or matrix: the inverse of `to_scipy`."""
    csr = matrix.tocsr()
    rows = pairwise(csr.indptr.tolist())
    return [from_numpy(csr.indices[start:end], csr.data[start:end]) for start, end in rows]


def to_qdrant(vector: SparseVector) -> "QdrantVector":
    """For a point's named vector, and for ``query_points``."""
    with requires("qdrant-client", "qdrant"):
        from qdrant_client.models import SparseVector as QdrantVector

    indices, values = _check_limits(vector, QDRANT)
    return QdrantVector(indices=indices, values=values)


def from_qdrant(stored: "QdrantVector") -> SparseVector:
    """The inverse of `to_qdrant`."""
    return _vector(stored.indices, stored.values)


def to_pinecone(vector: SparseVector) -> PineconeDict:
    """For ``sparse_values`` of ``upsert`` and ``sparse_vector`` of ``query``.

    Where ``pinecone.SparseValues`` is required, as by langchain-pinecone: ``SparseValues(**to_pinecone(vector))``.
    """
    indices, values = _check_limits(vector, PINECONE)
    return {"indices": indices, "values": values}


def from_pinecone(stored: "PineconeDict | SparseValues") -> SparseVector:
    """The inverse of `to_pinecone`, also for what ``fetch`` returns."""
    if isinstance(stored, Mapping):
        return _vector(stored["indices"], stored["values"])
    return _vector(stored.indices, stored.values)


def to_chroma(vector: SparseVector) -> "ChromaVector":
    """For a collection's metadata and for ``Knn``; tokens become labels."""
    with requires("chromadb", "chroma"):
        from chromadb import SparseVector as ChromaVector

    indices, values = _check_limits(vector, CHROMA)
    return ChromaVector(indices, values, None if vector.tokens is None else list(vector.tokens))


def from_chroma(stored: "ChromaVector") -> SparseVector:
    """The inverse of `to_chroma`."""
    return _vector(stored.indices, stored.values, stored.labels)


def to_milvus(vector: SparseVector) -> dict[int, float]:
    """For a ``SPARSE_FLOAT_VECTOR`` field; `from_dict` is the inverse."""
    return dict(zip(*_check_limits(vector, MILVUS), strict=True))


def to_pgvector(vector: SparseVector, dimension: int, *, hnsw: bool = False) -> str:
    """The text form of a ``sparsevec``: indices from 1, as in ``{1:0.5,8:2.0}/30522``.

    Args:
        vector: The vector. Ids of hashing models reach 2³² and do not fit a ``sparsevec``, whose widest is 10⁹.
        dimension: The declared one of the column.
        hnsw: The column has, or will have, an HNSW index, which accepts 1,000 terms instead of 16,000.
    """
    if not 1 <= dimension <= PGVECTOR_WIDEST:
        raise ConfigurationError(f"dimension must be from 1 to {PGVECTOR_WIDEST:,}, not {dimension}")
    limits = (PGVECTOR_HNSW if hnsw else PGVECTOR)._replace(largest_index=dimension - 1)
    pairs = zip(*_check_limits(vector, limits), strict=True)
    return "{" + ",".join(f"{index + 1}:{value!r}" for index, value in pairs) + f"}}/{dimension}"


def from_pgvector(text: str) -> SparseVector:
    """The inverse of `to_pgvector`; the dimension is left out."""
    pairs, closed, _ = text.strip().removeprefix("{").partition("}/")
    try:
        entries = [entry.split(":") for entry in pairs.split(",")] if pairs.strip() else []
        indices, values = [int(index) - 1 for index, _ in entries], [float(value) for _, value in entries]
    except ValueError:
        closed = ""
    if not closed:
        raise ConfigurationError("not a sparsevec in its text form, {index:value,…}/dimension")
    return _vector(indices, values)


def to_token_weights(vector: SparseVector, *, by: Literal["token", "index"] = "token") -> dict[str, float]:
    """For ``sparse_vector`` and ``rank_features`` fields of Elasticsearch and OpenSearch: positive weights by name.

    A dot in a name would address a sub-field: it becomes ``__``, as in Elastic's own ELSER. Documents and queries must
    use the same names, so missing tokens are not replaced by indices automatically.

    Args:
        vector: The vector; from an encoder with ``return_tokens=True`` to name terms by token.
        by: ``"token"`` is readable; ``"index"`` works for every vector.

    Raises:
        ConfigurationError: A weight is not positive, there are no tokens, one is empty, or two have the same name.
    """
    indices, values = _check_limits(vector, LUCENE)
    if by == "index":
        return dict(zip(map(str, indices), values, strict=True))
    if vector.tokens is None:
        raise ConfigurationError("the vector has no tokens: ask for them with return_tokens=True, or pass by='index'")
    weights: dict[str, float] = {}
    for at, (token, value) in enumerate(zip(vector.tokens, values, strict=True)):
        name = token.replace(".", "__")
        if not name.strip() or name in weights:
            fault = "is used twice" if name.strip() else "is empty"
            raise ConfigurationError(f"the name {name!r} of the token at position {at} {fault}: pass by='index'")
        weights[name] = value
    return weights


def _check_limits(vector: SparseVector, limits: _Limits) -> tuple[list[int], list[float]]:
    """New lists of plain ints and floats (Pinecone 7 and pymilvus refuse an int as a weight), within the limits."""
    indices, values = list(map(int, vector.indices)), list(map(float, vector.values))
    if not indices:
        if not limits.takes_empty:
            raise ConfigurationError(
                f"the vector is empty, which {limits.store} refuses: leave it out, or see convert_all(on_empty=)"
            )
        return indices, values
    if limits.most_terms is not None and len(indices) > limits.most_terms:
        raise ConfigurationError(
            f"{len(indices)} terms, and {limits.store} accepts {limits.most_terms}: "
            f"prune with vector.pruned(max_nnz={limits.most_terms})"
        )
    if indices[-1] > limits.largest_index:
        at, index = next((at, index) for at, index in enumerate(indices) if index > limits.largest_index)
        raise ConfigurationError(
            f"index {index} at position {at} does not fit {limits.store}, which goes up to {limits.largest_index}"
        )
    for at, value in enumerate(values):
        if not FLOAT32_MIN <= abs(value) <= FLOAT32_MAX:
            raise ConfigurationError(
                f"value {value!r} at position {at} does not fit {limits.store}, which stores float32"
            )
        if value < 0 and not limits.takes_negative:
            raise ConfigurationError(f"value {value!r} at position {at} is negative, which {limits.store} refuses")
    return indices, values


def _vector(indices: Iterable[int], values: Iterable[float], tokens: Sequence[str] | None = None) -> SparseVector:
    try:
        pairs = tuple(map(operator.index, indices)), tuple(map(float, values))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"not a sparse vector: {error}") from None
    return SparseVector.from_pairs(*pairs, tokens)
