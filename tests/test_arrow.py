"""Sparse vectors as a column of Arrow, in memory and in Parquet."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.convert import from_arrow, to_arrow

COLUMN = pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))])
LARGEST = 2**32 - 1
weights = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False).filter(bool)
vectors = st.dictionaries(st.integers(0, LARGEST), weights, max_size=30).map(
    lambda pairs: SparseVector.from_pairs(list(pairs), list(pairs.values()))
)
SOME = [SparseVector([0, LARGEST], [0.5, -2.0]), None, SparseVector([], []), SparseVector([7], [1.5])]


@given(st.lists(st.none() | vectors, max_size=6), st.integers(0, 6))
def test_a_column_keeps_every_vector_and_every_missing_one_also_in_slices(
    rows: list[SparseVector | None], cut: int
) -> None:
    column = to_arrow(rows)
    column.validate(full=True)
    assert column.type == COLUMN
    assert from_arrow(column) == rows
    assert from_arrow(column[cut:]) == rows[cut:]
    assert from_arrow(pa.chunked_array([column[:cut], column[cut:]])) == rows


def test_parquet_keeps_type_and_vectors(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sparse": to_arrow(SOME)}), tmp_path / "vectors.parquet")
    column = pq.read_table(tmp_path / "vectors.parquet")["sparse"]
    assert column.type == COLUMN
    assert from_arrow(column) == SOME


def test_it_is_what_pyarrow_makes_of_dictionaries() -> None:
    rows = [row and {"indices": list(row.indices), "values": list(row.values)} for row in SOME]
    assert to_arrow(SOME).equals(pa.array(rows, COLUMN))


@pytest.mark.parametrize("lists", [pa.list_, pa.large_list])
def test_wider_types_that_other_engines_write_are_read(lists: Any) -> None:
    wide = pa.struct([("indices", lists(pa.int64())), ("values", lists(pa.float64()))])
    assert from_arrow(pa.array(to_arrow(SOME).to_pylist(), wide)) == SOME


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"indices": [5, 1], "values": [1.0, 1.0]}, "vector 1: index 1 at position 1 is not ascending"),
        ({"indices": [1, 5], "values": [1.0]}, "vector 1: 2 indices but 1 values"),
        ({"indices": [1], "values": [0.0]}, "vector 1: value at position 0 is zero"),
        ({"indices": [1], "values": [float("nan")]}, "vector 1: value nan at position 0 is not finite"),
        ({"indices": None, "values": [1.0]}, "vector 1: indices must be a list"),
    ],
)
def test_a_row_that_is_no_vector_is_refused_with_its_position(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        from_arrow(pa.array([None, row], COLUMN))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1]), "a column of structs with indices and values is needed, not of int64"),
        (pa.array([{"indices": [1]}]), "a column of structs with indices and values is needed"),
        (pa.array([{"indices": 1, "values": [1.0]}]), "indices must be lists, not int64"),
        (pa.array([{"indices": [1.5], "values": [1.0]}]), "indices must be lists of integers without nulls"),
        (pa.array([{"indices": [1, None], "values": [1.0, 2.0]}]), "indices must be lists of integers without nulls"),
        (pa.array([{"indices": [1], "values": ["a"]}]), "values must be lists of floats without nulls"),
    ],
)
def test_another_column_is_refused(column: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        from_arrow(column)


@pytest.mark.parametrize("value", [1e39, -1e39, 1e-60, 1e-40])
def test_a_weight_that_float32_would_change_beyond_rounding_is_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"vector 2: value {value!r} at position 1 does not fit")):
        to_arrow([None, SOME[0], SparseVector([1, 2], [1.0, value])])
