"""What the plugin adds to the core: LangChain's conventions."""

import asyncio
import copy
import inspect
import json
import pickle
import subprocess
import sys
import warnings
from typing import Any

import cloudpickle
import httpx
import pytest
from langchain_core._api import LangChainBetaWarning
from langchain_core.embeddings import Embeddings
from langchain_core.load import dumpd, dumps, loads
from langchain_core.rate_limiters import BaseRateLimiter, InMemoryRateLimiter

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
)
from sparse_embed import ConfigurationError, DenseEncoder, RateLimitError, SparseEncoder
from sparse_embed.testing import fake_clients, no_wait

SPARSE = [ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings]
DENSE = [ChromaCloudEmbeddings, PineconeInferenceEmbeddings]
CHROMA = [ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings]
every_class = pytest.mark.parametrize("cls", [*SPARSE, *DENSE])
ONE_KIND_ONLY = {"return_tokens", "dimension", "max_tokens_per_sequence"}


def variable(cls: type) -> str:
    return "CHROMA_API_KEY" if cls in CHROMA else "PINECONE_API_KEY"


def local_model(cls: type) -> str:
    return "local/bm25" if cls in SPARSE else "local/hashing"


def loaded(text: str, cls: type, **how: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)  # langchain-core 1.7 still calls `loads` beta
        return loads(text, allowed_objects=[cls], valid_namespaces=["langchain_sparse_embed"], **how)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("CHROMA_API_KEY", "CHROMA_EMBED_URL", "PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST"):
        monkeypatch.delenv(name, raising=False)


@every_class
def test_dense_classes_are_embeddings_and_sparse_ones_are_not(cls):
    assert issubclass(cls, Embeddings) is (cls in DENSE)


@every_class
def test_every_setting_of_the_encoder_is_a_field(cls):
    encoder = SparseEncoder if cls in SPARSE else DenseEncoder
    settings = set(inspect.signature(encoder).parameters) - {"provider", "provider_options", "on_progress"}
    options = {"task", "instructions", "query_instructions", "query_model"}
    if cls not in CHROMA:
        options = {"truncate", "parameters", "api_version", "dimension", "max_tokens_per_sequence"}
    assert set(cls.model_fields) - ONE_KIND_ONLY == (settings | options | {"show_progress_bar"}) - ONE_KIND_ONLY


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    ("cls", "settings", "body", "headers"),
    [
        (ChromaCloudSparseEmbeddings, {"task": "t"}, {"task": "t", "target": "query"}, {}),
        (ChromaCloudEmbeddings, {"instructions": "i", "query_instructions": "q"}, {"instructions": "q"}, {}),
        (ChromaCloudSparseEmbeddings, {"query_model": "q"}, {}, {"x-chroma-embedding-model": "q"}),
        (ChromaCloudSparseEmbeddings, {"return_tokens": True}, {"fetch_labels": True}, {}),
        (PineconeInferenceEmbeddings, {"dimension": 512}, {"parameters.dimension": 512}, {}),
        (
            PineconeInferenceSparseEmbeddings,
            {"truncate": "NONE", "max_tokens_per_sequence": 2048, "parameters": {"new": [1]}},
            {"parameters.truncate": "NONE", "parameters.max_tokens_per_sequence": 2048, "parameters.new": [1]},
            {},
        ),
        (PineconeInferenceEmbeddings, {"api_version": "2026-04"}, {}, {"x-pinecone-api-version": "2026-04"}),
        (PineconeInferenceSparseEmbeddings, {"default_headers": {"x-team": "search"}}, {}, {"x-team": "search"}),
        (ChromaCloudEmbeddings, {"base_url": "https://gateway.example/chroma"}, {}, {"host": "gateway.example"}),
    ],
)
def test_settings_reach_the_wire(cls, settings, body, headers, mode):
    seen = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(400)

    transport = httpx.MockTransport(refuse)
    with httpx.Client(transport=transport) as client:
        clients = {"http_client": client, "http_async_client": httpx.AsyncClient(transport=transport)}
        embeddings = cls(api_key="k", **settings, **clients)
        with pytest.raises(Exception, match="400"):
            embeddings.embed_query("fox") if mode == "sync" else asyncio.run(embeddings.aembed_query("fox"))
    [request] = seen
    sent = json.loads(request.content)
    for place, expected in body.items():
        value = sent
        for name in place.split("."):
            value = value[name]
        assert value == expected
    assert headers.items() <= dict(request.headers).items()


@every_class
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "many"}, "batch_size"),
        ({"base_url": "http://gateway.example"}, "https"),
        ({"chunk_size": 3}, "chunk_size"),
        ({"model": ""}, "model"),
        ({"cache": 1.5}, "cache"),
        ({"http_client": "proxy"}, "http_client"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(cls, settings, said):
    with pytest.raises(ConfigurationError, match=said):
        cls(**settings)


@every_class
def test_settings_are_frozen_and_a_copy_takes_others(cls):
    embeddings = cls(api_key="k", **fake_clients())
    with pytest.raises(ConfigurationError, match="model_copy"):
        embeddings.batch_size = 2
    with pytest.raises(ConfigurationError) as caught:
        embeddings.api_key = "another-key"
    assert "another-key" not in str(caught.value)
    smaller = embeddings.model_copy(update={"batch_size": 2})
    smaller.embed_documents(["a", "b", "c", "d"])
    assert smaller.usage.requests == 2
    assert embeddings.usage.requests == 0
    with pytest.raises(ConfigurationError, match="batch_size"):
        embeddings.model_copy(update={"batch_size": 0})


@every_class
@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda one: one.model_copy(), lambda one: one.model_copy(deep=True)]
)
def test_copies_keep_what_cannot_be_copied(cls, twin):
    limiter = InMemoryRateLimiter(requests_per_second=1000)
    clients = fake_clients()
    embeddings = cls(api_key="k", rate_limiter=limiter, cache=10, **clients)
    other = twin(embeddings)
    assert other.rate_limiter is limiter
    assert other.http_client is clients["http_client"]
    assert other.embed_query("fox") == embeddings.embed_query("fox")


@every_class
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_pickles_carry_settings_and_an_explicit_key(cls, pickler, local):
    model = local_model(cls)
    embeddings = cls(model=model, base_url=local, api_key="explicit", batch_size=2, default_headers={"a": "b"})
    twin = pickle.loads(pickler.dumps(embeddings))
    assert twin.api_key.get_secret_value() == "explicit"
    assert (twin.model, twin.batch_size, twin.default_headers) == (model, 2, {"a": "b"})
    assert twin.embed_documents(["fox", "dog", "cat"]) == embeddings.embed_documents(["fox", "dog", "cat"])


@every_class
def test_a_key_from_the_environment_is_looked_up_again_where_the_pickle_is_read(cls, monkeypatch, local):
    monkeypatch.setenv(variable(cls), "here")
    embeddings = cls(model=local_model(cls), base_url=local)
    pickled = pickle.dumps(embeddings)
    monkeypatch.setenv(variable(cls), "there")
    assert b"here" not in pickle.dumps(embeddings), "the environment's key stays one when the environment changes"
    twin = pickle.loads(pickled)
    assert twin.api_key.get_secret_value() == "there"
    assert twin.embed_query("fox") == embeddings.embed_query("fox")


@every_class
def test_own_connections_stay_in_their_process(cls):
    with pytest.raises(ConfigurationError, match="http_client"):
        pickle.dumps(cls(api_key="k", **fake_clients()))


@every_class
def test_what_is_dumped_can_be_loaded(cls, local):
    embeddings = cls(model=local_model(cls), base_url=local, api_key="explicit", max_retries=0, timeout=None)
    written = dumpd(embeddings)
    assert written["id"] == [*cls.__module__.split("."), cls.__name__]
    assert written["kwargs"]["api_key"] == {"lc": 1, "type": "secret", "id": [variable(cls)]}
    again = loaded(dumps(embeddings), cls, secrets_map={variable(cls): "explicit"})
    assert again.model_dump() == embeddings.model_dump()
    assert again.embed_query("fox") == embeddings.embed_query("fox")


@every_class
@pytest.mark.parametrize("how", ["constructor", "explicit argument", "loads", "loads from the environment"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_no_configuration_sends_the_environments_key_to_another_host(cls, how, mode, monkeypatch):
    monkeypatch.setenv(variable(cls), "environment")
    elsewhere = {"base_url": "https://elsewhere.example"}
    clients = fake_clients()
    match how:
        case "constructor":
            embeddings = cls(**elsewhere)
        case "explicit argument":
            embeddings = cls(api_key=" environment\n", **elsewhere)
        case "loads":
            embeddings = loaded(dumps(cls(**elsewhere)), cls)
        case _:
            embeddings = loaded(dumps(cls(**elsewhere)), cls, secrets_from_env=True)
            assert embeddings.api_key.get_secret_value() == "environment"
    embeddings = embeddings.model_copy(update=clients)
    with pytest.raises(ConfigurationError, match=r"elsewhere\.example"):
        embeddings.embed_query("fox") if mode == "sync" else asyncio.run(embeddings.aembed_query("fox"))
    trusted = embeddings.model_copy(update={"api_key": "that-hosts-key"})
    assert trusted.embed_query("fox")


@every_class
def test_a_key_that_comes_later_is_found(cls, monkeypatch):
    embeddings = cls(api_key=None, **fake_clients())
    with pytest.raises(ConfigurationError, match=variable(cls)):
        embeddings.embed_query("fox")
    monkeypatch.setenv(variable(cls), "now")
    assert embeddings.embed_query("fox")


@pytest.mark.parametrize("texts", [["one"], [f"text {number}" for number in range(250)]], ids=["one", "many"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@every_class
def test_the_progress_bar_ends_at_the_number_of_texts(cls, mode, texts, capsys):
    embeddings = cls(api_key="k", show_progress_bar=True, **fake_clients())
    embeddings.embed_documents(texts) if mode == "sync" else asyncio.run(embeddings.aembed_documents(texts))
    assert f" {len(texts)}/{len(texts)} " in capsys.readouterr().err
    embeddings.model_copy(update={"show_progress_bar": False}).embed_documents(texts)
    assert capsys.readouterr().err == ""


async def test_calls_at_the_same_time_have_a_bar_each(capsys):
    embeddings = PineconeInferenceSparseEmbeddings(api_key="k", show_progress_bar=True, **fake_clients())
    await asyncio.gather(
        *(embeddings.aembed_documents([f"text {number}" for number in range(count)]) for count in (200, 300, 400))
    )
    shown = capsys.readouterr().err
    assert all(f" {count}/{count} " in shown for count in (200, 300, 400))


class CountingLimiter(BaseRateLimiter):
    asked = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.asked += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire()


@every_class
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_rate_limiter_is_asked_before_each_attempt(cls, mode):
    limiter = CountingLimiter()
    embeddings = cls(api_key="k", rate_limiter=limiter, **fake_clients(429, 503))
    with no_wait():
        embeddings.embed_documents(["fox"]) if mode == "sync" else asyncio.run(embeddings.aembed_documents(["fox"]))
    assert limiter.asked == embeddings.usage.requests == 3


@every_class
def test_retries_are_the_encoders(cls):
    embeddings = cls(api_key="k", max_retries=1, **fake_clients(*[429] * 9))
    with no_wait(), pytest.raises(RateLimitError) as caught:
        embeddings.embed_query("fox")
    assert caught.value.attempts == 2


@pytest.mark.parametrize("cls", SPARSE)
async def test_streams_give_what_the_list_gives(cls):
    embeddings = cls(api_key="k", return_tokens=True, batch_size=2, **fake_clients())
    texts = ["quick fox", "", "lazy dog", "quick fox", "a"]
    vectors = embeddings.embed_documents(texts)
    assert list(embeddings.stream_documents(iter(texts))) == vectors
    assert [vector async for vector in embeddings.astream_documents(iter(texts))] == vectors
    assert set(vectors[0].tokens) == {"quick", "fox"}


@every_class
async def test_closed_connections_open_again(cls, local):
    embeddings = cls(model=local_model(cls), base_url=local, api_key="k")
    before = embeddings.embed_query("fox")
    embeddings.close()
    assert await embeddings.aembed_query("fox") == before
    await embeddings.aclose()
    assert embeddings.embed_query("fox") == before


@pytest.mark.parametrize("cls", DENSE)
def test_a_blank_text_has_no_dense_vector(cls):
    with pytest.raises(ConfigurationError, match="text 1 is blank"):
        cls(api_key="k").embed_documents(["fox", " "])


def test_without_langchain_the_import_says_what_to_install():
    code = "import sys; sys.modules['langchain_core'] = None; import langchain_sparse_embed"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].startswith("ImportError: ")
    assert "pip install 'sparse-embed[langchain]'" in ran.stderr
