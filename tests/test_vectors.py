"""What a sparse vector is, and what it refuses to be."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_embed import ConfigurationError, SparseVector

weights = st.floats(-1e6, 1e6).filter(bool)
pairs = st.dictionaries(st.integers(0, 2**32 - 1), weights, max_size=40)


@st.composite
def vectors(draw: st.DrawFn) -> SparseVector:
    entries = draw(pairs)
    return SparseVector.from_pairs(list(entries), list(entries.values()), [f"t{index}" for index in entries])


@given(entries=st.dictionaries(st.integers(0, 2**32 - 1), st.one_of(weights, st.just(0.0)), max_size=40))
def test_from_pairs_sorts_keeps_tokens_beside_their_indices_and_drops_zeros(entries: dict[int, float]) -> None:
    vector = SparseVector.from_pairs(list(entries), list(entries.values()), [f"t{index}" for index in entries])
    assert vector.indices == sorted(index for index, value in entries.items() if value)
    assert vector.values == [entries[index] for index in vector.indices]
    assert vector.tokens == [f"t{index}" for index in vector.indices]
    assert vector.nnz == len(vector.indices)


@pytest.mark.parametrize(
    ("indices", "values", "tokens", "message"),
    [
        ([1, 2], [1.0], None, "2 indices but 1 values"),
        ([1], [1.0], ["a", "b"], "1 indices but 2 tokens"),
        ([1, 1], [1.0, 2.0], None, "index 1 at position 1 is repeated"),
        ([2, 1], [1.0, 2.0], None, "index 1 at position 1 is not ascending"),
        ([-1], [1.0], None, "index -1 at position 0 is outside"),
        ([2**32], [1.0], None, "at position 0 is outside"),
        ([1, 2], [1.0, math.nan], None, "nan at position 1 is not finite"),
        ([1, 2], [math.inf, 1.0], None, "inf at position 0 is not finite"),
        ([1, 2], [math.inf, -math.inf], None, "not finite"),
        ([1, 2], [1.0, 0.0], None, "value at position 1 is zero"),
        ([math.nan], [1.0], None, "index nan at position 0 is outside"),
        ([1, math.nan], [1.0, 1.0], None, "index nan at position 1 is outside"),
        (None, [1.0], None, "indices and values must be lists, not NoneType and list"),
        ([1], None, None, "must be lists, not list and NoneType"),
        ((1, 2), (1.0, 1.0), None, "must be lists, not tuple and tuple"),
        (np.array([1, 2]), np.array([1.0, 1.0]), None, "must be lists, not ndarray and ndarray"),
    ],
)
@pytest.mark.parametrize("make", [SparseVector, SparseVector.from_pairs])
def test_a_wrong_vector_is_refused_with_the_position(
    make: Callable[..., SparseVector], indices: Any, values: Any, tokens: list[str] | None, message: str
) -> None:
    if make == SparseVector.from_pairs and ("ascending" in message or "zero" in message):
        assert make(indices, values, tokens).nnz > 0
        return
    with pytest.raises(ConfigurationError, match=message):
        make(indices, values, tokens)


def test_finite_values_whose_sum_overflows_are_fine() -> None:
    assert SparseVector([1, 2], [1e308, 1e308]).nnz == 2


@given(vectors(), vectors())
def test_dot_is_symmetric_and_equals_the_sum_over_common_indices(a: SparseVector, b: SparseVector) -> None:
    left, right = dict(zip(a.indices, a.values, strict=True)), dict(zip(b.indices, b.values, strict=True))
    expected = math.fsum(left[index] * right[index] for index in left.keys() & right.keys())
    assert a.dot(b) == b.dot(a) == pytest.approx(expected)


@given(vectors(), st.integers(0, 10))
def test_pruned_keeps_the_heaviest_and_top_lists_them_first(vector: SparseVector, n: int) -> None:
    pruned = vector.pruned(max_nnz=n)
    assert pruned.nnz == min(n, vector.nnz)
    assert sorted(map(abs, pruned.values)) == sorted(map(abs, vector.values))[max(0, vector.nnz - n) :]
    assert [weight for _, weight in vector.top(n)] == sorted(vector.values, reverse=True)[:n]
    assert vector.pruned(min_value=1.0).values == [value for value in vector.values if abs(value) >= 1.0]


def test_scaled_by_zero_is_the_empty_vector() -> None:
    vector = SparseVector([1, 5], [1.0, -2.0], ["a", "b"])
    assert vector.scaled(0.5) == SparseVector([1, 5], [0.5, -1.0], ["a", "b"])
    assert vector.scaled(0) == SparseVector([], [], [])
    assert SparseVector([7], [1.0]).top(1) == [(7, 1.0)]


def test_a_vector_is_frozen_unhashable_truthy_and_can_be_copied() -> None:
    vector = SparseVector([1], [1.0], ["a"])
    with pytest.raises(AttributeError):
        vector.indices = [2]  # type: ignore[misc]
    with pytest.raises(TypeError, match="unhashable"):
        hash(vector)
    assert SparseVector([], []), "an empty vector must not look like a missing one"
    assert pickle.loads(pickle.dumps(vector)) == copy.deepcopy(vector) == vector


def test_the_notebook_view_escapes_tokens_and_counts_what_it_leaves_out() -> None:
    many = SparseVector(list(range(25)), [1.0] * 25, ["<script>"] * 25)
    view = many._repr_html_()
    assert "<script>" not in view
    assert "&lt;script&gt;" in view
    assert "nnz 25" in view
    assert "and 5 more" in view
    assert "nnz 0" in SparseVector([], [])._repr_html_()
