"""What a sparse encoder must do, as tests: subclass `SparseConformance` in your own test suite. Needs pytest.

The encoder under test sends requests to a provider in this process over a real loopback socket; nothing is mocked.
"""
# ruff: noqa: D102, S101, S301  # tests: their names describe them, they assert, and they unpickle their own objects

import asyncio
import copy
import json
import math
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import lt
from threading import Thread
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import pytest

from sparse_embed.errors import AuthenticationError, ConfigurationError
from sparse_embed.testing.fakes import made_up_answer, term_id
from sparse_embed.vectors import SparseVector

Encoder: TypeAlias = Any  # whatever `make_encoder` returns
KEY: Final = "conformance-key-4711"
LIMITS: Final = {"texts": 100, "inputs": 96}  # texts per request, by the field of the request body that holds them
ROLES: Final = {"documents": "document", "passage": "document", "query": "query"}
TEXTS: Final = ["quick brown fox", "", "lazy lazy dog", "quick brown fox", " \n"]


class Received(NamedTuple):
    """One request as the provider received it."""

    texts: list[str]
    limit: int
    role: str | None


class LoopbackProvider(ThreadingHTTPServer):
    """Answers both wire formats with made-up vectors and records the requests."""

    request_queue_size = 128  # with the default of 5, parallel connections wait for a second

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.received: list[Received] = []
        self.refuses_key = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LoopbackProvider

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        field = "texts" if "texts" in body else "inputs"
        texts = [text if isinstance(text, str) else text["text"] for text in body[field]]
        said = body.get("target") or body.get("parameters", {}).get("input_type")
        self.server.received.append(Received(texts, LIMITS[field], ROLES.get(said)))
        refusal = {"error": f"not allowed: {self.headers.items()}"}  # the worst case: it echoes the key
        content = json.dumps(refusal if self.server.refuses_key else made_up_answer(self.path, raw)).encode()
        self.send_response(401 if self.server.refuses_key else 200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Log nothing."""


class Calls(NamedTuple):
    """The two calls, in the mode of the running test."""

    documents: Callable[[Encoder, Any], list[SparseVector]]
    query: Callable[[Encoder, Any], SparseVector]


class SparseConformance:
    """Subclass as ``Test…`` and override `make_encoder`; for other method names or vector types, also the four calls.

    Example:
        >>> from sparse_embed import SparseEncoder
        >>> from sparse_embed.testing.conformance import SparseConformance
        >>> class TestMyEncoder(SparseConformance):
        ...     def make_encoder(self, **settings):
        ...         return SparseEncoder("pinecone", **settings)

    For assertion messages that show the compared values, put this into your ``conftest.py``:
    ``pytest.register_assert_rewrite("sparse_embed.testing.conformance")``.

    Attributes:
        takes_whole_lists: Whether the encoder receives the list as the caller passed it. Set it to False where a
            framework iterates over it first, so that the encoder cannot distinguish a bare text from a list.
    """

    takes_whole_lists = True

    def make_encoder(self, *, api_key: str, base_url: str) -> Encoder:
        """The encoder under test. Its requests must contain the role: for Chroma, give it a ``task``."""
        raise NotImplementedError

    def embed_documents(self, encoder: Encoder, texts: Any) -> list[SparseVector]:  # noqa: ANN401  # bad input too
        """Call the encoder. Convert vectors of another type to `SparseVector`, which checks them, without changes."""
        return encoder.embed_documents(texts)  # type: ignore[no-any-return]

    def embed_query(self, encoder: Encoder, text: Any) -> SparseVector:  # noqa: ANN401
        """Like `embed_documents`."""
        return encoder.embed_query(text)  # type: ignore[no-any-return]

    async def aembed_documents(self, encoder: Encoder, texts: Any) -> list[SparseVector]:  # noqa: ANN401
        """Like `embed_documents`."""
        return await encoder.aembed_documents(texts)  # type: ignore[no-any-return]

    async def aembed_query(self, encoder: Encoder, text: Any) -> SparseVector:  # noqa: ANN401
        """Like `embed_documents`."""
        return await encoder.aembed_query(text)  # type: ignore[no-any-return]

    @pytest.fixture
    def provider(self) -> Iterator[LoopbackProvider]:
        """The provider that receives the encoder's requests."""
        with LoopbackProvider() as provider:
            Thread(target=provider.serve_forever, args=(0.01,), daemon=True).start()
            yield provider
            provider.shutdown()

    @pytest.fixture
    def encoder(self, provider: LoopbackProvider) -> Encoder:
        """The encoder under test."""
        return self.make_encoder(api_key=KEY, base_url=provider.url)

    @pytest.fixture(params=["sync", "async"])
    def call(self, request: pytest.FixtureRequest) -> Calls:
        """Each test runs with both; every async call has its own event loop."""
        if request.param == "sync":
            return Calls(self.embed_documents, self.embed_query)
        return Calls(
            lambda encoder, texts: asyncio.run(self.aembed_documents(encoder, texts)),
            lambda encoder, text: asyncio.run(self.aembed_query(encoder, text)),
        )

    def test_vectors_are_in_the_order_of_their_texts(self, encoder: Encoder, call: Calls) -> None:
        texts = [f"word{number}" for number in range(20)]
        assert [vector.indices for vector in call.documents(encoder, texts)] == [(term_id(text),) for text in texts]

    def test_more_texts_than_fit_a_request_are_split(
        self, encoder: Encoder, call: Calls, provider: LoopbackProvider
    ) -> None:
        texts = [f"word{number}" for number in range(250)]
        assert [vector.indices for vector in call.documents(encoder, texts)] == [(term_id(text),) for text in texts]
        assert all(len(request.texts) <= request.limit for request in provider.received)

    def test_indices_are_ascending_ints_and_values_finite_non_zero_floats(self, encoder: Encoder, call: Calls) -> None:
        for vector in [*call.documents(encoder, TEXTS), call.query(encoder, "quick brown fox")]:
            assert len(vector.indices) == len(vector.values)
            assert all(type(index) is int for index in vector.indices)
            assert all(map(lt, vector.indices, vector.indices[1:]))
            assert all(type(value) is float and math.isfinite(value) and value for value in vector.values)

    def test_no_texts_have_no_vectors_and_cost_no_request(
        self, encoder: Encoder, call: Calls, provider: LoopbackProvider
    ) -> None:
        assert call.documents(encoder, []) == []
        assert not provider.received

    @pytest.mark.parametrize("blank", ["", " ", "\n\t"])
    def test_a_blank_text_has_the_empty_vector(self, encoder: Encoder, call: Calls, blank: str) -> None:
        for vector in [*call.documents(encoder, [blank, "fox"])[:1], call.query(encoder, blank)]:
            assert (vector.indices, vector.values) == ((), ())

    def test_a_query_has_one_vector(self, encoder: Encoder, call: Calls) -> None:
        vector = call.query(encoder, "lazy lazy dog")
        assert dict(zip(vector.indices, vector.values, strict=True)) == {term_id("lazy"): 2.0, term_id("dog"): 1.0}

    def test_the_same_text_has_the_same_vector(self, encoder: Encoder, call: Calls) -> None:
        first = call.documents(encoder, TEXTS)
        assert first == call.documents(encoder, TEXTS)
        assert first[0] == first[3]

    def test_sync_and_async_give_the_same(self, encoder: Encoder) -> None:
        assert self.embed_documents(encoder, TEXTS) == asyncio.run(self.aembed_documents(encoder, TEXTS))
        assert self.embed_query(encoder, "fox") == asyncio.run(self.aembed_query(encoder, "fox"))

    def test_the_role_is_part_of_the_request(self, encoder: Encoder, call: Calls, provider: LoopbackProvider) -> None:
        call.documents(encoder, ["fox"])
        call.query(encoder, "fox")
        call.documents(encoder, ["dog"])
        assert [request.role for request in provider.received] == ["document", "query", "document"]

    def test_concurrent_calls_keep_their_roles_and_vectors(
        self, encoder: Encoder, call: Calls, provider: LoopbackProvider
    ) -> None:
        numbers = range(12)
        with ThreadPoolExecutor(8) as threads:
            documents = [threads.submit(call.documents, encoder, [f"document{number}"]) for number in numbers]
            queries = [threads.submit(call.query, encoder, f"query{number}") for number in numbers]
        assert [job.result()[0].indices for job in documents] == [(term_id(f"document{number}"),) for number in numbers]
        assert [job.result().indices for job in queries] == [(term_id(f"query{number}"),) for number in numbers]
        assert all(text.startswith(str(request.role)) for request in provider.received for text in request.texts)

    @pytest.mark.parametrize("texts", ["a bare text", b"bytes", None, 3])
    def test_documents_that_are_no_list_are_refused_before_a_request(
        self, encoder: Encoder, call: Calls, provider: LoopbackProvider, texts: object
    ) -> None:
        if not self.takes_whole_lists:
            pytest.skip("the framework iterates over the list first")
        with pytest.raises(ConfigurationError):
            call.documents(encoder, texts)
        assert not provider.received

    @pytest.mark.parametrize(("texts", "position"), [(["fox", None], 1), ([3, "fox"], 0), (["fox", "dog", b"cat"], 2)])
    def test_a_document_that_is_no_text_is_refused_by_position_before_a_request(
        self, encoder: Encoder, call: Calls, provider: LoopbackProvider, texts: list[object], position: int
    ) -> None:
        with pytest.raises(ConfigurationError, match=rf"\b{position}\b"):
            call.documents(encoder, texts)
        assert not provider.received

    @pytest.mark.parametrize("text", [None, 3, b"bytes", ["a list"]])
    def test_a_query_that_is_no_text_is_refused_before_a_request(
        self, encoder: Encoder, call: Calls, provider: LoopbackProvider, text: object
    ) -> None:
        with pytest.raises(ConfigurationError):
            call.query(encoder, text)
        assert not provider.received

    def test_an_encoder_is_never_falsy(self, encoder: Encoder) -> None:
        # A store that tests `if encoder` would treat an encoder with a length of 0 as missing.
        assert not hasattr(type(encoder), "__len__")
        assert not hasattr(type(encoder), "__bool__")

    @pytest.mark.parametrize("how", ["pickle", "deepcopy"])
    def test_copies_work_beside_the_original(
        self, encoder: Encoder, call: Calls, how: Literal["pickle", "deepcopy"]
    ) -> None:
        before = call.documents(encoder, TEXTS)
        twin = pickle.loads(pickle.dumps(encoder)) if how == "pickle" else copy.deepcopy(encoder)
        assert call.documents(twin, TEXTS) == before
        assert call.documents(encoder, TEXTS) == before

    def test_the_key_is_in_no_repr_and_no_error(
        self, encoder: Encoder, call: Calls, provider: LoopbackProvider
    ) -> None:
        provider.refuses_key = True
        with pytest.raises(AuthenticationError) as caught:
            call.query(encoder, "fox")
        for text in (repr(encoder), str(encoder), f"{encoder}", str(caught.value), repr(caught.value)):
            assert KEY not in text
