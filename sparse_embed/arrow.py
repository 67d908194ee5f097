"""Sparse vectors as a column of Apache Arrow, and back: `to_arrow` and `from_arrow`, which ``convert`` exports.

A column is a ``struct<indices: list<uint32>, values: list<float32>>``, as Pinecone's import and Milvus' Parquet import
read it. Parquet, Ray, Polars and DuckDB keep it as it is.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from struct import pack
from typing import TYPE_CHECKING, Any, Final

from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.vectors import FLOAT32_MAX, FLOAT32_MIN, SparseVector

if TYPE_CHECKING:
    import pyarrow as pa

MOST_NUMBERS: Final = 2**31 - 1  # of all lists together: a column's offsets are int32


def to_arrow(vectors: Iterable[SparseVector | None]) -> "pa.StructArray":
    """All vectors as one column of ``struct<indices: list<uint32>, values: list<float32>>``.

    Tokens are left out. A vector without terms has two empty lists.

    Args:
        vectors: The rows; None becomes a null row.

    Raises:
        ConfigurationError: A weight does not fit float32, or there are more than 2³¹-1 terms in all.
        ImportError: pyarrow is not installed.
    """
    with requires("pyarrow", "bulk"):
        import pyarrow as pa
        import pyarrow.compute as pc

    rows = list(vectors)
    try:
        indices = list_column(pa.uint32(), [None if row is None else row.indices for row in rows])
        values = list_column(pa.float32(), [None if row is None else row.values for row in rows])
        sizes = pc.min_max(pc.abs(values.values)).as_py()
        fits = not values.values or (sizes["min"] >= FLOAT32_MIN and sizes["max"] <= FLOAT32_MAX)
    except OverflowError:
        fits = False
    if not fits:
        _refuse_value(rows)
    missing = pa.array([row is None for row in rows], pa.bool_())
    return pa.StructArray.from_arrays([indices, values], names=["indices", "values"], mask=missing)


def list_column(kind: "pa.DataType", rows: "Sequence[Sequence[float] | None]") -> "pa.ListArray":
    """A column of lists of uint32 or float32; a null row where there is None.

    Raises:
        ConfigurationError: There are more than 2³¹-1 numbers in all.
        OverflowError: A number does not fit.
    """
    import pyarrow as pa

    ends = list(accumulate((len(row or ()) for row in rows), initial=0))
    if ends[-1] > MOST_NUMBERS:
        raise ConfigurationError(
            f"{ends[-1]:,} terms, and a column holds {MOST_NUMBERS:,}: convert fewer vectors at once"
        )
    letter = "f" if kind == pa.float32() else "I"  # packing is four times as fast as `pa.array` of lists
    packed = b"".join(pack(f"{len(row)}{letter}", *row) for row in rows if row is not None)
    numbers = pa.Array.from_buffers(kind, ends[-1], [None, pa.py_buffer(packed)])
    missing = pa.array([row is None for row in rows], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), numbers, mask=missing)


def from_arrow(column: "pa.Array | pa.ChunkedArray") -> list[SparseVector | None]:
    """The inverse of `to_arrow`: one vector per row, None for a null row.

    Lists of other integers and floats are read too, such as those of int64 and double that Spark writes.

    Raises:
        ConfigurationError: The column has another type, or a row is not a sparse vector; the message names which one.
        ImportError: pyarrow is not installed.
    """
    with requires("pyarrow", "bulk"):
        import pyarrow as pa

    if not pa.types.is_struct(column.type) or not {"indices", "values"} <= {field.name for field in column.type}:
        raise ConfigurationError(f"a column of structs with indices and values is needed, not of {column.type}")
    vectors: list[SparseVector | None] = []
    for rows in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        pairs = zip(_lists(rows, "indices"), _lists(rows, "values"), rows.is_valid().to_pylist(), strict=True)
        for indices, values, present in pairs:
            try:
                vectors.append(SparseVector(indices, values) if present else None)
            except ConfigurationError as error:
                raise ConfigurationError(f"vector {len(vectors)}: {error.message}") from None
    return vectors


def _lists(rows: "pa.StructArray", name: str) -> list[Any]:
    """The lists of a field, as tuples; None where one is null."""
    import pyarrow as pa

    types, lists = pa.types, rows.field(name)
    if not (types.is_list(lists.type) or types.is_large_list(lists.type)):
        raise ConfigurationError(f"{name} must be lists, not {lists.type}")
    items = lists.flatten()  # without what is behind null rows
    expected, fits = ("integers", types.is_integer) if name == "indices" else ("floats", types.is_floating)
    if not fits(items.type) or items.null_count:
        raise ConfigurationError(f"{name} must be lists of {expected} without nulls, not {lists.type}")
    flat = items.to_pylist()
    lengths = lists.value_lengths().to_pylist()
    ends = pairwise(accumulate((length or 0 for length in lengths), initial=0))
    return [None if length is None else tuple(flat[slice(*end)]) for length, end in zip(lengths, ends, strict=True)]


def _refuse_value(rows: list[SparseVector | None]) -> None:
    for number, row in enumerate(rows):
        for at, value in enumerate(row.values if row is not None else ()):
            if not FLOAT32_MIN <= abs(value) <= FLOAT32_MAX:
                raise ConfigurationError(
                    f"vector {number}: value {value!r} at position {at} does not fit the column, which stores float32"
                )
