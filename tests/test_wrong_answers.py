"""A well-formed answer that does not hold what was asked is an error, and is not billed twice."""

import pytest

from sparse_embed import DenseEncoder, InvalidResponseError, SparseEncoder, SparseVector
from tests.faultserver import GOOD, Action, first
from tests.ways import both_ways, each_wire, meeting, right

TEXTS = ["first text", "second text", "third text", "fourth text"]


def _list(item, name):
    """The list of an item, on either wire."""
    return item if isinstance(item, list) else next(item[key] for key in item if key.endswith(name))


def _put(name, at, value):
    return lambda items: _list(items[0], name).__setitem__(at, value)


ANY_KIND = {
    "too few": lambda items: items.pop(),
    "too many": lambda items: items.append(items[0]),
    "none": lambda items: items.clear(),
    "null item": lambda items: items.__setitem__(0, None),
    "nan": _put("values", 0, float("nan")),
    "infinite": _put("values", 0, float("inf")),
    "string value": _put("values", 0, "1.0"),
    "null value": _put("values", 0, None),
    "bool value": _put("values", 0, True),
}
SPARSE = {
    "more values": lambda items: _list(items[0], "values").append(1.0),
    "fewer values": lambda items: _list(items[0], "values").pop(),
    "duplicate": lambda items: _list(items[0], "indices").__setitem__(0, _list(items[0], "indices")[1]),
    "negative": _put("indices", 0, -1),
    "over-large": _put("indices", 1, 2**32),
    "enormous": _put("indices", 1, 10**30),
    "bool": _put("indices", 0, True),
    "string": _put("indices", 0, "7"),
    "float": _put("indices", 0, 7.0),
    "null": _put("indices", 0, None),
}
DENSE = {
    "another dimension": lambda items: _list(items[0], "values").pop(),
    "empty vector": lambda items: _list(items[0], "values").clear(),
}


def refused(use, provider, kind, fault):
    """The second of two requests meets the fault: sent once, its texts named, the first one's vectors kept."""
    with meeting(first(GOOD, fault), provider, kind, batch_size=2, max_concurrency=1) as (server, encoder):
        with pytest.raises(InvalidResponseError) as caught:
            use(encoder, "embed_documents", TEXTS)
        error = caught.value
        assert (error.provider, error.status, error.attempts, error.texts) == (provider, 200, 1, range(2, 4))
        assert error.partial == dict(enumerate(right(encoder, TEXTS[:2])))
        assert server.texts == [TEXTS[:2], TEXTS[2:]]
        assert "text 2" not in str(error)
        assert encoder.usage.texts == 2


@both_ways
@each_wire
@pytest.mark.parametrize("change", ANY_KIND.values(), ids=ANY_KIND)
def test_an_answer_that_does_not_fit_is_never_passed_on(use, provider, kind, change):
    refused(use, provider, kind, Action(change=change))


@both_ways
@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
@pytest.mark.parametrize("change", SPARSE.values(), ids=SPARSE)
def test_what_is_no_sparse_vector_is_never_passed_on(use, provider, change):
    refused(use, provider, SparseEncoder, Action(change=change))


@both_ways
@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
@pytest.mark.parametrize("change", DENSE.values(), ids=DENSE)
def test_what_is_no_dense_vector_is_never_passed_on(use, provider, change):
    refused(use, provider, DenseEncoder, Action(change=change))


@both_ways
@each_wire
@pytest.mark.parametrize("body", ["[]", "null", "7", '"text"', "{}", '{"embeddings": 1, "data": 1}'])
def test_json_of_another_shape_is_never_passed_on(use, provider, kind, body):
    refused(use, provider, kind, Action(body=body))


@both_ways
@pytest.mark.parametrize(("kind", "other"), [(SparseEncoder, DenseEncoder), (DenseEncoder, SparseEncoder)])
def test_vectors_of_the_other_kind_are_never_passed_on(use, kind, other):
    model = {SparseEncoder: "pinecone-sparse-english-v0", DenseEncoder: "llama-text-embed-v2"}
    with meeting(first(), "pinecone", kind, model=model[other]) as (server, encoder):
        with pytest.raises(InvalidResponseError, match=f"use the {other.__name__.removesuffix('Encoder').lower()}"):
            use(encoder, "embed_documents", TEXTS)
        assert len(server.requests) == 1


@both_ways
@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
def test_indices_in_any_order_are_sorted_with_their_values(use, provider):
    def reverse(items):
        for item in items:
            _list(item, "indices").reverse()
            _list(item, "values").reverse()

    with meeting(first(Action(change=reverse)), provider) as (_, encoder):
        assert use(encoder, "embed_documents", TEXTS) == right(encoder, TEXTS)


@both_ways
@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
def test_exact_zeros_are_dropped_with_their_index(use, provider):
    with meeting(first(Action(change=_put("values", 0, 0))), provider) as (_, encoder):
        vector, *others = use(encoder, "embed_documents", TEXTS)
        whole, *rest = right(encoder, TEXTS)
        assert vector == SparseVector(whole.indices[1:], whole.values[1:])
        assert others == rest
