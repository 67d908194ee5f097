"""Whatever a server answers: vectors that fit the question, or an error of our tree."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparse_embed import DenseEncoder, SparseEmbedError, SparseEncoder, SparseVector
from sparse_embed.providers import make_provider
from sparse_embed.providers.base import MAX_ERROR_TEXT, Reply, read_error
from sparse_embed.testing import no_wait
from sparse_embed.transport.client import mock_clients

TEXTS = ["zero", "one", "two"]
WIRES = [(provider, kind) for provider in ("chroma", "pinecone") for kind in (SparseEncoder, DenseEncoder)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _good(provider: str, kind: Any) -> Any:
    sparse = kind is SparseEncoder
    if provider == "chroma":
        items: list[Any] = [{"indices": [3, 1], "values": [0.5, 1], "labels": ["c", "a"]} if sparse else [1.0, 2.0]] * 3
        return {"embeddings": items, "num_tokens": 3}
    item = {"sparse_indices": [3, 1], "sparse_values": [0.5, 1], "sparse_tokens": ["c", "a"]}
    return {
        "model": "m",
        "vector_type": "sparse" if sparse else "dense",
        "data": [item if sparse else {"values": [1.0, 2.0], "vector_type": "dense"}] * 3,
        "usage": {"total_tokens": 3},
    }


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn, good: Any) -> bytes:
    """A good answer with some of its places replaced, removed, or doubled, and perhaps cut."""
    answer = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(_places(answer)[1:] or [("none",)]))
        parent = answer
        for key in path:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "remove", "double"])):
            case "replace" if last != "none":
                parent[last] = draw(json_values)
            case "remove" if last != "none":
                del parent[last]
            case "double" if isinstance(parent, list):
                parent.append(parent[last])
    raw = json.dumps(answer).encode()
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw


def _ask(provider: Any, kind: Any, status: int, content: bytes) -> None:
    client, async_client = mock_clients(lambda exchange: (status, content))
    encoder = kind(provider, api_key="k", max_retries=1, http_client=client, http_async_client=async_client)
    with no_wait():
        try:
            vectors = encoder.embed_documents(TEXTS)
        except SparseEmbedError as error:
            assert str(error)
            assert error.partial == {}
            return
    assert len(vectors) == len(TEXTS)
    for vector in vectors:
        if isinstance(vector, SparseVector):
            SparseVector(vector.indices, vector.values, vector.tokens)  # checks everything again
            assert all(type(index) is int for index in vector.indices)
            vector = vector.values  # noqa: PLW2901
        assert all(type(value) is float and math.isfinite(value) for value in vector)


@pytest.mark.parametrize(("provider", "kind"), WIRES)
@given(content=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@example(content=b"[" * 100_000)
@example(content=b'{"data":' * 1000)
@example(content=b"\xff\xfe")
@settings(max_examples=150)
def test_any_body_ends_well_or_in_our_error(provider: str, kind: Any, content: bytes) -> None:
    _ask(provider, kind, 200, content)


@pytest.mark.parametrize(("provider", "kind"), WIRES)
@given(data=st.data())
@settings(max_examples=300)
def test_any_change_to_a_good_answer_ends_well_or_in_our_error(provider: str, kind: Any, data: st.DataObject) -> None:
    _ask(provider, kind, 200, data.draw(mutated(_good(provider, kind))))


@given(status=st.integers(300, 599), content=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@example(status=500, content=b'{"error": {"code": {"a": [1]}, "message": 5}}')
@example(status=422, content=b'{"detail": [1, {"loc": 3, "msg": null}, {"loc": ["body", 0], "msg": "no"}]}')
@example(status=429, content=b"[" * 100_000)
def test_any_error_body_can_be_read(status: int, content: bytes) -> None:
    message, code = read_error(Reply(status, {}, content))
    assert len(message) <= MAX_ERROR_TEXT
    assert code is None or len(code) <= 100
    _ask("chroma", SparseEncoder, status, content)


@pytest.mark.parametrize(
    ("content", "message", "code"),
    [
        (b'{"error": "no key"}', "no key", None),
        (b'{"error": {"code": "NOT_FOUND", "message": "no such model"}}', "no such model", "NOT_FOUND"),
        (b'{"detail": "Not Found"}', "Not Found", None),
        (b'{"detail": [{"loc": ["body", "texts"], "msg": "missing", "input": "SECRET"}]}', "body.texts: missing", None),
        (b'{"message": "from a gateway"}', "from a gateway", None),
        (b"plain words", "plain words", None),
        (b"<html><style>x{}</style><h1>502</h1>Bad <b>Gateway</b></html>", "502 Bad Gateway", None),
        (b"", "", None),
        (b"null", "", None),
    ],
)
def test_messages_are_read_from_every_known_form(content: bytes, message: str, code: str | None) -> None:
    assert read_error(Reply(500, {}, content)) == (message, code)


def test_tokens_that_do_not_fit_are_dropped_and_pairs_are_kept() -> None:
    chroma = make_provider("chroma", "sparse", None, True, {})
    for labels in (["only one"], [1, 2], "ab", {"a": 1}):
        body = {"embeddings": [{"indices": [2, 1], "values": [1.0, 2.0], "labels": labels}]}
        assert chroma.decode_sparse(json.dumps(body).encode()).vectors == [SparseVector([1, 2], [2.0, 1.0])]
    body = {"embeddings": [{"indices": [2, 1], "values": [1.0, 2.0], "tokens": ["b", "a"]}]}
    assert chroma.decode_sparse(json.dumps(body).encode()).vectors == [SparseVector([1, 2], [2.0, 1.0], ["a", "b"])]


def test_the_specifications_own_examples_are_understood() -> None:
    pinecone = make_provider("pinecone", "sparse", None, False, {})
    item = {
        "sparse_values": [0.1, 0.2, 0.3],
        "sparse_indices": [10, 3, 156],
        "sparse_tokens": ["quick", "brown", "fox"],
    }
    [vector] = pinecone.decode_sparse(json.dumps({"data": [item]}).encode()).vectors
    assert vector == SparseVector([3, 10, 156], [0.2, 0.1, 0.3], ["brown", "quick", "fox"])
    dense = make_provider("pinecone", "dense", "multilingual-e5-large", False, {})
    example_of_the_page = {
        "data": [{"values": [0.1, 0.2, 0.3], "vector_type": "<string>"}],
        "usage": {"total_tokens": 205},
    }
    answer = dense.decode_dense(json.dumps(example_of_the_page).encode())
    assert (answer.vectors, answer.total_tokens) == ([[0.1, 0.2, 0.3]], 205)
