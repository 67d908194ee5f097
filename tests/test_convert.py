"""Vectors reach the types of stores and come back; what a store would refuse or damage is refused first."""

import doctest
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from chromadb import SparseVector as ChromaVector
from hypothesis import given
from hypothesis import strategies as st
from pinecone import SparseValues
from pinecone.db_data.sparse_values_factory import SparseValuesFactory
from qdrant_client import QdrantClient, models

import sparse_embed.convert
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.convert import (
    convert_all,
    from_chroma,
    from_dict,
    from_json,
    from_numpy,
    from_pgvector,
    from_pinecone,
    from_qdrant,
    from_scipy,
    to_chroma,
    to_dict,
    to_json,
    to_milvus,
    to_numpy,
    to_pgvector,
    to_pinecone,
    to_qdrant,
    to_scipy,
    to_token_weights,
)

EMPTY = SparseVector([], [])
SMALL = SparseVector([1, 5], [0.5, -2.0])
float32 = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False).filter(bool)
float64 = st.floats(allow_nan=False, allow_infinity=False).filter(bool)


@st.composite
def vectors(
    draw: st.DrawFn, values: st.SearchStrategy[float] = float32, largest: int = 2**32 - 1, tokens: bool = False
) -> SparseVector:
    pairs = draw(st.dictionaries(st.integers(0, largest), values, max_size=30))
    texts = st.lists(st.text(), min_size=len(pairs), max_size=len(pairs))
    return SparseVector.from_pairs(list(pairs), list(pairs.values()), draw(texts) if tokens else None)


@given(st.one_of(vectors(float64), vectors(float64, tokens=True)))
def test_json_keeps_everything(vector: SparseVector) -> None:
    assert from_json(to_json(vector)) == vector


@given(vectors(float64))
def test_a_dict_keeps_the_weights(vector: SparseVector) -> None:
    assert from_dict(to_dict(vector)) == vector


@given(vectors())
def test_numpy_and_qdrant_keep_what_float32_can_hold(vector: SparseVector) -> None:
    indices, values = to_numpy(vector)
    assert indices.dtype == np.uint32
    assert values.dtype == np.float32
    assert from_numpy(indices, values) == vector
    assert from_numpy(indices[::-1], values[::-1]) == vector, "order does not matter on the way back"
    assert from_qdrant(to_qdrant(vector)) == vector


@given(st.one_of(vectors(), vectors(tokens=True)))
def test_chroma_keeps_tokens_as_labels_through_its_wire_format(vector: SparseVector) -> None:
    assert from_chroma(ChromaVector.from_dict(to_chroma(vector).to_dict())) == vector


@given(vectors().filter(lambda vector: vector.nnz > 0))
def test_pinecone_keeps_the_weights_as_a_dict_and_as_its_own_type(vector: SparseVector) -> None:
    given_out = to_pinecone(vector)
    assert from_pinecone(given_out) == from_pinecone(SparseValues(**given_out)) == vector
    sent = SparseValuesFactory.build(given_out)
    assert sent is not None
    assert (sent.indices, sent.values) == (list(vector.indices), list(vector.values))
    given_out["values"][0] = 0.0  # as community retrievers do
    assert vector.values[0] != 0.0


@given(vectors(largest=2**32 - 2))
def test_milvus_keeps_the_weights(vector: SparseVector) -> None:
    assert from_dict(to_milvus(vector)) == vector


@given(vectors(largest=999))
def test_pgvector_keeps_the_weights_in_its_text_form(vector: SparseVector) -> None:
    assert from_pgvector(to_pgvector(vector, 1000)) == vector


@given(st.lists(vectors(), max_size=5))
def test_scipy_keeps_many_vectors_as_rows(rows: list[SparseVector]) -> None:
    array = to_scipy(rows)
    assert array.shape == (len(rows), max((row.indices[-1] + 1 for row in rows if row.indices), default=0))
    assert from_scipy(array) == rows
    assert to_scipy(rows, 2**32).shape == (len(rows), 2**32)


def test_scipy_multiplies_to_the_scores_of_dot() -> None:
    documents, query = [SMALL, EMPTY, SparseVector([5], [3.0])], SparseVector([1, 5], [2.0, 1.0])
    scores = to_scipy(documents, 6) @ to_scipy([query], 6).T
    assert scores.toarray()[:, 0].tolist() == [document.dot(query) for document in documents]
    assert from_scipy(to_scipy(documents).tocoo()) == documents, "any of scipy's forms"


def test_pgvector_counts_from_one_and_names_the_dimension() -> None:
    assert to_pgvector(SMALL, 30522) == "{2:0.5,6:-2.0}/30522"
    assert to_pgvector(EMPTY, 3) == "{}/3"
    assert from_pgvector(" {2:0.5, 6:-2}/30522\n") == SMALL, "as PostgreSQL prints it, or a person writes it"


def test_qdrant_stores_and_returns_a_vector_even_an_empty_one() -> None:
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config={}, sparse_vectors_config={"s": models.SparseVectorParams()})
    stored = [SparseVector([0, 2**32 - 1], [1.5, -0.25]), EMPTY]
    points = [models.PointStruct(id=at, vector={"s": to_qdrant(vector)}) for at, vector in enumerate(stored)]
    client.upsert("c", points)
    records = client.retrieve("c", [0, 1], with_vectors=True)
    found: list[Any] = [record.vector for record in records]
    assert [from_qdrant(vectors["s"]) for vectors in found] == stored
    client.close()


def test_weights_that_are_ints_become_floats_for_clients_that_insist() -> None:
    counts = SparseVector([1], [2])
    assert isinstance(to_pinecone(counts)["values"][0], float)
    assert isinstance(to_milvus(counts)[1], float)


def test_token_weights_have_names_that_elasticsearch_takes() -> None:
    vector = SparseVector([1, 2, 3], [0.5, 1.0, 2.0], ["u.s.", "tax", "."])
    assert to_token_weights(vector) == {"u__s__": 0.5, "tax": 1.0, "__": 2.0}
    assert to_token_weights(vector, by="index") == {"1": 0.5, "2": 1.0, "3": 2.0}
    assert to_token_weights(SparseVector([7], [0.5]), by="index") == {"7": 0.5}
    assert to_token_weights(SparseVector([], [], [])) == {}


many = SparseVector(list(range(20_000)), [1.0] * 20_000)


@pytest.mark.parametrize(
    ("convert", "vector", "message"),
    [
        (to_pinecone, EMPTY, "the vector is empty, which Pinecone refuses"),
        (to_pinecone, many, r"20000 terms, and Pinecone accepts 2048: prune with vector.pruned\(max_nnz=2048\)"),
        (to_chroma, many, "Chroma accepts 4096"),
        (partial(to_pgvector, dimension=30522), many, "pgvector accepts 16000"),
        (partial(to_pgvector, dimension=30522, hnsw=True), many, "an HNSW index of pgvector accepts 1000"),
        (partial(to_pgvector, dimension=5), SMALL, "index 5 at position 1 does not fit pgvector, which goes up to 4"),
        (partial(to_pgvector, dimension=0), SMALL, "dimension must be from 1 to 1,000,000,000, not 0"),
        (to_milvus, SparseVector([2**32 - 1], [1.0]), "index 4294967295 at position 0 does not fit Milvus"),
        (to_qdrant, SparseVector([1, 2], [1.0, 1e39]), r"value 1e\+39 at position 1 does not fit Qdrant"),
        (to_milvus, SparseVector([1], [1e-50]), "value 1e-50 at position 0 does not fit Milvus, which stores float32"),
        (to_numpy, SparseVector([1], [-1e39]), "does not fit the array, which stores float32"),
        (to_token_weights, SMALL, "value -2.0 at position 1 is negative, which Elasticsearch or OpenSearch refuses"),
        (to_token_weights, SparseVector([1], [1.0]), "no tokens: ask for them with return_tokens=True"),
        (to_token_weights, SparseVector([1], [1.0], [" "]), "the token at position 0 is empty"),
        (to_token_weights, SparseVector([1, 2], [1.0, 1.0], [".", "__"]), "at position 1 is used twice"),
        (lambda vector: to_scipy([EMPTY, vector], 5), SMALL, "vector 1: index 5 at position 1 does not fit an array"),
    ],
)
def test_what_a_store_refuses_or_damages_is_refused_with_the_position(
    convert: Callable[[SparseVector], object], vector: SparseVector, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        convert(vector)


def test_each_keeps_one_item_a_vector_whatever_is_empty() -> None:
    vectors, tiny = [SMALL, EMPTY, SMALL], SparseVector([0], [1e-6])
    with pytest.raises(ConfigurationError, match="vector 1: the vector is empty, which Pinecone refuses"):
        convert_all(to_pinecone, vectors)
    assert convert_all(to_pinecone, vectors, on_empty="skip") == [to_pinecone(SMALL), None, to_pinecone(SMALL)]
    assert convert_all(to_pinecone, vectors, on_empty=tiny) == [
        to_pinecone(SMALL),
        to_pinecone(tiny),
        to_pinecone(SMALL),
    ]
    assert convert_all(partial(to_pgvector, dimension=6), [EMPTY]) == ["{}/6"], "kept where the store keeps it"
    assert convert_all(to_dict, []) == []


@pytest.mark.parametrize(
    ("convert", "stored"),
    [
        (from_dict, {"1": 1.0}),
        (from_dict, {1: None}),
        (from_dict, {1: float("nan")}),
        (from_pinecone, {"indices": [1, 1], "values": [1.0, 2.0]}),
        (from_pgvector, "1:1"),
        (from_pgvector, "{1:1"),
        (from_pgvector, "{1}/3"),
        (from_pgvector, "{0:1}/3"),
        (from_json, "[]"),
        (from_json, "{"),
        (from_json, '{"indices": [true], "values": [1.0]}'),
        (from_json, '{"indices": [1], "values": [NaN]}'),
        (from_json, '{"indices": [2, 1], "values": [1.0, 1.0]}'),
    ],
)
def test_what_is_no_vector_is_refused_on_the_way_back(convert: Callable[[Any], SparseVector], stored: object) -> None:
    with pytest.raises(ConfigurationError):
        convert(stored)


def test_importing_the_module_imports_no_library() -> None:
    code = (
        "import sys, sparse_embed.convert; "
        "assert not {'numpy', 'scipy', 'qdrant_client', 'chromadb', 'pinecone'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_in_the_docstring_is_true() -> None:
    assert doctest.testmod(sparse_embed.convert) == (0, 1)
