"""What a sparse vector is, and what it refuses to be."""

import copy
import math
import pickle
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError, create_model

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
    assert vector.indices == tuple(sorted(index for index, value in entries.items() if value))
    assert vector.values == tuple(entries[index] for index in vector.indices)
    assert vector.tokens == tuple(f"t{index}" for index in vector.indices)
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
        (None, [1.0], None, "indices must be a list or tuple, not NoneType"),
        ([1], None, None, "values must be a list or tuple, not NoneType"),
        (np.array([1, 2]), np.array([1.0, 1.0]), None, "indices must be a list or tuple, not ndarray"),
        ({1: 2.0}, [2.0], None, "indices must be a list or tuple, not dict"),
        (b"ab", [1.0, 1.0], None, "indices must be a list or tuple, not bytes"),
        ([1, 2], [1.0, 1.0], "ab", "tokens must be a list or tuple, not str"),
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
    assert vector.pruned(min_value=1.0).values == tuple(value for value in vector.values if abs(value) >= 1.0)


def test_scaled_by_zero_is_the_empty_vector() -> None:
    vector = SparseVector([1, 5], [1.0, -2.0], ["a", "b"])
    assert vector.scaled(0.5) == SparseVector([1, 5], [0.5, -1.0], ["a", "b"])
    assert vector.scaled(0) == SparseVector([], [], [])
    assert SparseVector([7], [1.0]).top(1) == [(7, 1.0)]


@pytest.mark.parametrize("make", [SparseVector, SparseVector.from_pairs])
def test_any_sequence_becomes_a_tuple_and_a_tuple_is_kept_as_it_is(make: Callable[..., SparseVector]) -> None:
    indices, values, tokens = (1, 2), (1.0, 2.0), ("a", "b")
    vector = make(indices, values, tokens)
    assert vector.indices is indices
    assert vector.values is values
    assert vector.tokens is tokens
    lists: tuple[list[int], list[float], list[str]] = ([1, 2], [1.0, 2.0], ["a", "b"])
    copied = make(*lists)
    for given_list in lists:
        given_list.clear()
    assert copied == vector == make(range(1, 3), array("d", values), tokens)


def test_a_vector_is_immutable_hashable_truthy_and_can_be_copied() -> None:
    vector = SparseVector([1], [1.0], ["a"])
    with pytest.raises(AttributeError):
        vector.indices = (2,)  # type: ignore[misc]
    assert {vector, SparseVector((1,), (1,), ("a",))} == {vector}
    assert len({vector, SparseVector([1], [1.0]), SparseVector([1], [2.0], ["a"])}) == 3
    assert SparseVector([], []), "an empty vector must not look like a missing one"
    for copied in (pickle.loads(pickle.dumps(vector)), copy.deepcopy(vector), copy.copy(vector), replace(vector)):
        assert copied == vector
        assert hash(copied) == hash(vector)
    assert repr(vector) == "SparseVector(indices=(1,), values=(1.0,), tokens=('a',))"


def test_a_pickle_of_the_first_release_holds_lists_and_is_read_as_tuples_and_checked() -> None:
    raw = b"\x80\x02csparse_embed.vectors\nSparseVector\n)\x81](]K\x01a]G?\xf0\0\0\0\0\0\0a]X\x01\0\0\0aaeb."
    assert pickle.loads(raw) == SparseVector((1,), (1.0,), ("a",))
    with pytest.raises(ConfigurationError, match="0 indices but 1 values"):
        pickle.loads(raw.replace(b"]K\x01a", b"]"))


def test_as_a_field_of_a_pydantic_model_it_is_read_from_json_and_checked() -> None:
    model = create_model("Model", vector=SparseVector)
    read = model.model_validate_json('{"vector": {"indices": [1, 2], "values": [1.0, 2.0]}}')
    assert read == model(vector=SparseVector([1, 2], [1.0, 2.0]))
    assert model.model_validate_json(read.model_dump_json()) == read
    with pytest.raises(ValidationError, match="not ascending"):
        model.model_validate_json('{"vector": {"indices": [2, 1], "values": [1.0, 2.0]}}')


def test_the_notebook_view_escapes_tokens_and_counts_what_it_leaves_out() -> None:
    many = SparseVector(list(range(25)), [1.0] * 25, ["<script>"] * 25)
    view = many._repr_html_()
    assert "<script>" not in view
    assert "&lt;script&gt;" in view
    assert "nnz 25" in view
    assert "and 5 more" in view
    assert "nnz 0" in SparseVector([], [])._repr_html_()
