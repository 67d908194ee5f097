"""A key is in nothing that is shown, written or sent but the header it belongs in: both encoders and all classes.

A class joins with one line in `SUBJECTS`.
"""

import asyncio
import copy
import io
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import cloudpickle
import httpx
import pytest
from langchain_core.load import dumpd, dumps
from llama_index.core.base.embeddings.base import BaseEmbedding

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
)
from llama_index_sparse_embed import (
    ChromaCloudEmbedding,
    ChromaCloudSparseEmbedding,
    PineconeInferenceEmbedding,
    PineconeInferenceSparseEmbedding,
)
from sparse_embed import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    DenseEncoder,
    SparseEmbedError,
    SparseEncoder,
    UnsupportedModelError,
)
from sparse_embed.server import local_provider
from tests.faultserver import Action, first
from tests.ways import both_ways, meeting

KEY = "top-secret-key-0815"
HEADER = "top-secret-header-0815"


class Subject(NamedTuple):
    """A class, and how it is built, called and written out.

    Attributes:
        make: Builds one; takes ``api_key``, ``base_url`` and ``default_headers``.
        written: Everything that its framework makes of an object to show or keep it, pickles aside.
    """

    name: str
    provider: str
    make: Callable[..., Any]
    written: Callable[[Any], list[object]]
    query: str = "embed_query"
    aquery: str = "aembed_query"


def as_core(encoder: Any) -> list[object]:
    return [encoder.usage, vars(encoder)]


def as_langchain(model: Any) -> list[object]:
    return [
        model.model_dump(),
        model.model_dump(mode="json"),
        model.model_dump_json(),
        dict(model.__repr_args__()),
        dumpd(model),
        dumps(model),
        model.to_json(),
        model.to_json_not_implemented(),
    ]


def core(cls: type, provider: str, model: str) -> Subject:
    def make(**settings: Any) -> Any:
        return cls(provider, model=model, **settings)

    return Subject(f"{cls.__name__} {provider}", provider, make, as_core)


def langchain(cls: type, provider: str, model: str) -> Subject:
    def make(**settings: Any) -> Any:
        return cls(model=model, **settings)

    return Subject(cls.__name__, provider, make, as_langchain)


def as_llama_index(model: Any) -> list[object]:
    dense = [model.to_dict(), model.to_json()] if isinstance(model, BaseEmbedding) else []
    payload = getattr(model, "to_payload", dict)()  # llama-index-core 0.14.10 has none: its events hold the dump
    return [model.model_dump(), model.model_dump_json(), dict(model.__repr_args__()), payload, *dense]


def llama_index(cls: type, provider: str, model: str) -> Subject:
    def make(**settings: Any) -> Any:
        return cls(model_name=model, **settings)

    return Subject(cls.__name__, provider, make, as_llama_index, "get_query_embedding", "aget_query_embedding")


SUBJECTS = [
    core(SparseEncoder, "chroma", "local/bm25"),
    core(SparseEncoder, "pinecone", "local/bm25"),
    core(DenseEncoder, "chroma", "local/hashing"),
    core(DenseEncoder, "pinecone", "local/hashing"),
    langchain(ChromaCloudEmbeddings, "chroma", "local/hashing"),
    langchain(ChromaCloudSparseEmbeddings, "chroma", "local/bm25"),
    langchain(PineconeInferenceEmbeddings, "pinecone", "local/hashing"),
    langchain(PineconeInferenceSparseEmbeddings, "pinecone", "local/bm25"),
    llama_index(ChromaCloudEmbedding, "chroma", "local/hashing"),
    llama_index(ChromaCloudSparseEmbedding, "chroma", "local/bm25"),
    llama_index(PineconeInferenceEmbedding, "pinecone", "local/hashing"),
    llama_index(PineconeInferenceSparseEmbedding, "pinecone", "local/bm25"),
]
VARIABLES = {"chroma": "CHROMA_API_KEY", "pinecone": "PINECONE_API_KEY"}


def leaves(value: object) -> Iterator[str]:
    """Every text in a value: of its parts, and of what it shows of itself."""
    yield str(value)
    yield repr(value)
    if isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(key)
            yield from leaves(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from leaves(item)


def assert_no_secret(*values: object) -> None:
    for value in values:
        for text in leaves(value):
            assert KEY not in text
            assert HEADER not in text


def shown(error: BaseException) -> list[object]:
    """What is shown or logged of an error, and of those it came from."""
    before = error.__cause__ or error.__context__
    return [error, error.args, vars(error), *traceback.format_exception_only(error), *(shown(before) if before else [])]


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name)
def subject(request):
    return request.param


@pytest.fixture(params=["argument", "environment"])
def settings(request, subject, monkeypatch):
    """The key, given in either way, beside a header that is secret too."""
    if request.param == "environment":
        monkeypatch.setenv(VARIABLES[subject.provider], KEY)
        return {"default_headers": {"x-secret": HEADER}}
    monkeypatch.delenv(VARIABLES[subject.provider], raising=False)
    return {"default_headers": {"x-secret": HEADER}, "api_key": KEY}


@pytest.fixture(scope="module")
def open_to_all():
    with local_provider() as url:
        yield url


@pytest.fixture(scope="module")
def locked():
    with local_provider(api_key="another key") as url:
        yield url


def query(subject: Subject, encoder: Any, mode: str) -> object:
    if mode == "sync":
        return getattr(encoder, subject.query)("fox")

    async def ask() -> object:
        return await getattr(encoder, subject.aquery)("fox")

    return asyncio.run(ask())


def test_objects_show_no_secret(subject, settings, open_to_all):
    encoder = subject.make(base_url=open_to_all, **settings)
    for one in (encoder, copy.copy(encoder), copy.deepcopy(encoder)):
        assert_no_secret(one, f"{one}", *subject.written(one))


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_pickles_hold_no_key_of_the_environment(subject, pickler, open_to_all, monkeypatch):
    monkeypatch.setenv(VARIABLES[subject.provider], KEY)
    encoder = subject.make(base_url=open_to_all)
    encoder_that_sent = subject.make(base_url=open_to_all)
    query(subject, encoder_that_sent, "sync")
    assert_no_secret(pickler.dumps(encoder), pickler.dumps(encoder_that_sent))


@pytest.fixture(params=["sync", "async"])
def mode(request):
    return request.param


def test_logs_hold_no_secret(subject, settings, mode, locked, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)
    with pytest.raises(AuthenticationError):
        query(subject, subject.make(base_url=locked, **settings), mode)
    assert {record.name.split(".")[0] for record in caplog.records} >= {"httpx", "httpcore"}
    assert_no_secret(caplog.text, *(vars(record) for record in caplog.records))


def test_errors_while_sending_hold_no_secret(subject, settings, mode, locked):
    with pytest.raises(AuthenticationError) as refused:
        query(subject, subject.make(base_url=locked, **settings), mode)
    assert_no_secret(*shown(refused.value))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"base_url": f"https://user:{KEY}@gateway.example"},
        {"base_url": f"https://gateway.example?key={KEY}"},
        {"api_key": f"{KEY} and more"},
        {"default_headers": {"x-secret": HEADER}, "base_url": "http://gateway.example"},
    ],
)
def test_errors_before_sending_hold_no_secret(subject, settings, wrong):
    with pytest.raises(ConfigurationError) as caught:
        subject.make(**settings | wrong)
    assert_no_secret(*shown(caught.value))


@pytest.mark.parametrize(
    "subject", [one for one in SUBJECTS if one.written is not as_core], ids=lambda one: one.name, indirect=True
)
@pytest.mark.parametrize(
    "wrong", [{"api_key": [KEY]}, {"chroma_api_key": KEY}, {"batch_size": KEY}, {"default_headers": [HEADER]}]
)
def test_errors_about_wrong_types_hold_no_secret(subject, wrong):
    with pytest.raises(ConfigurationError) as caught:
        subject.make(**wrong)
    assert_no_secret(*shown(caught.value))


@pytest.mark.parametrize(
    "subject", [one for one in SUBJECTS if one.written is not as_core], ids=lambda one: one.name, indirect=True
)
@pytest.mark.parametrize("name", ["api_key", "apikey", "http_client"])
def test_a_key_that_is_assigned_is_not_shown_by_the_refusal(subject, name):
    model = subject.make()
    with pytest.raises(ValueError, match=name) as caught:
        setattr(model, name, KEY)
    assert_no_secret(*shown(caught.value))
    assert_no_secret(model, vars(model))


ESCAPED = "top-secret/key==0815"  # JSON may write the slash as \/
ECHOES = {
    "in the message": Action(401, '{"error": "bad key top-secret\\/key\\u003d=0815"}'),
    "as the code": Action(401, {"error": {"code": ESCAPED, "message": "bad"}}),
    "as the request's id": Action(401, {"error": "bad"}, {"x-request-id": f"id {ESCAPED}"}),
    "in the answer": Action(200, {"error": ESCAPED}, {"x-request-id": ESCAPED}),
    "over the end of what is kept": Action(
        401, {"error": {"code": "-" * 90 + ESCAPED, "message": "-" * 490 + ESCAPED}}
    ),
    "over the end of what is read": Action(502, f"{'<p>' * 3330}{ESCAPED}"),
    "in nested JSON, by PHP": Action(400, {"error": '{"got": "top-secret\\/key==0815"}'}),
    "in nested JSON, by .NET": Action(400, {"error": '{"got": "top-secret/key\\u003D\\u003d0815"}'}),
    "in JSON in nested JSON": Action(400, {"error": '{"got": "{\\"key\\": \\"top-secret\\\\/key==0815\\"}"}'}),
    "in a URL": Action(400, {"error": "no such page: /login?key=top-secret%2Fkey%3d%3D0815"}),
    "in HTML": Action(400, "<p>bad key top-secret&#x2F;key&#61;=0815</p>"),
}


@both_ways
@pytest.mark.parametrize(
    "secret", [{"api_key": ESCAPED}, {"default_headers": {"X-Gateway-Token": ESCAPED}}], ids=["key", "header"]
)
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_gateway_that_echoes_a_secret_does_not_make_an_error_show_it(use, secret, echo):
    with meeting(lambda _: echo, **secret) as (_, encoder):
        with pytest.raises(SparseEmbedError) as caught:
            use(encoder, "embed_query", "fox")
        for text in (text for part in shown(caught.value) for text in leaves(part)):
            assert "top-secret" not in text


HEADERS = {
    "two spaces": ("two  spaces-top-secret", "got {}"),
    "a backslash": ("corp\\top-secret", "got {}"),
    "quotes": ('{"tenant": "top-secret"}', "got {}"),
    "without its scheme": ("Bearer top-secret-0815", "bad token top-secret-0815"),
    "without its scheme and name": ("Token token=top-secret-0815", "bad token top-secret-0815"),
    "without its quotes": ('Token token="top-secret-0815"', "bad token top-secret-0815"),
    "one of several": ("theme=dark; session=top-secret-0815; a=b", "bad session top-secret-0815"),
    "one of a list": ("first-secret,top-secret-0815==", "bad key top-secret-0815=="),
    "tags": ("top-secret<abc>0815-zzzz", "got {}"),
}


@both_ways
@pytest.mark.parametrize(("value", "answer"), HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("escape", [str, repr, json.dumps])
def test_a_gateway_that_echoes_a_header_in_another_form_does_not_make_an_error_show_it(use, value, answer, escape):
    said = answer.replace("{}", escape(value))
    echoes = [Action(400, {"error": {"message": said}}), Action(400, f"<h1>Bad request</h1>{said}")]
    with meeting(first(*echoes), default_headers={"x-token": value}) as (_, encoder):
        for _ in echoes:
            with pytest.raises(SparseEmbedError) as caught:
                use(encoder, "embed_query", "fox")
            assert not re.search("top-secret|0815", str(caught.value))


@both_ways
def test_a_redirect_to_a_host_that_is_named_like_the_key_does_not_show_it(use):
    moved = Action(302, "", {"location": f"https://{'a' * 85}.Top-Secret-0815.example/"})
    with meeting(lambda _: moved, api_key="Top-Secret-0815") as (_, encoder):
        with pytest.raises(APIStatusError, match=r"redirects \(here to a+\.\*+") as caught:
            use(encoder, "embed_query", "fox")
        assert "top-secret" not in str(caught.value).lower()


@both_ways
def test_a_hook_that_closes_the_client_does_not_make_an_error_show_a_secret(use):
    def close(request):
        client.close()
        raise RuntimeError(f"headers were {request.headers.raw}")

    async def aclose(request):
        await async_client.aclose()
        raise RuntimeError(f"headers were {request.headers.raw}")

    client = httpx.Client(event_hooks={"request": [close]})
    async_client = httpx.AsyncClient(event_hooks={"request": [aclose]})
    clients = {"http_client": client, "http_async_client": async_client}
    encoder = SparseEncoder("chroma", api_key=KEY, default_headers={"x-secret": HEADER}, **clients)
    with pytest.raises(ConfigurationError, match="client cannot be used: headers were") as caught:
        use(encoder, "embed_query", "fox")
    assert_no_secret(caught.value, *traceback.format_exception(caught.value))


@both_ways
@pytest.mark.parametrize("word", ["local", "any", "error", "weights"])
def test_a_made_up_key_hides_no_word_of_a_message(use, word):
    said = {"error": "the weights of local/hashing are not here, as of many error cases"}
    headers = {"x-labels": f"{word}; label={word}"}
    with meeting(lambda _: Action(501, said), api_key=word, default_headers=headers) as (_, encoder):
        with pytest.raises(UnsupportedModelError) as caught:
            use(encoder, "embed_query", "fox")
        assert said["error"] in str(caught.value)


def test_output_holds_no_secret(subject, settings, open_to_all, capfd, recwarn):
    encoder = subject.make(base_url=open_to_all, batch_size=10**6, **settings)
    query(subject, encoder, "sync")
    print(encoder, file=io.StringIO())
    assert_no_secret(*capfd.readouterr(), *(str(warning.message) for warning in recwarn))
