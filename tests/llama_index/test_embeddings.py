"""The four classes embed what LlamaIndex hands over, and nothing else differs from LlamaIndex's own."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core import Settings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.storage.kvstore import SimpleKVStore

import llama_index_sparse_embed
from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from sparse_embed import AuthenticationError, ConfigurationError
from sparse_embed.server import local_provider

TEXTS = [f"text {number} about foxes" for number in range(250)]


def test_they_are_llamaindexs_own_types(cls):
    assert issubclass(cls, BaseSparseEmbedding if "Sparse" in cls.__name__ else BaseEmbedding)
    assert cls.class_name() == cls.__name__
    assert cls.__name__ in llama_index_sparse_embed.__all__


async def test_a_batch_gives_the_vector_of_each_text_in_order(local, call):
    vectors = await call(local, "get_text_embedding_batch", TEXTS)
    assert len(vectors) == len(TEXTS)
    assert len({str(vector) for vector in vectors}) == len(TEXTS)
    for at in (0, 99, 249):
        assert vectors[at] == await call(local, "get_text_embedding", TEXTS[at])


async def test_a_batch_is_sent_as_few_requests(local, call):
    await call(local, "get_text_embedding_batch", TEXTS)
    assert local.usage.requests == 3


async def test_a_short_window_of_llamaindex_loses_no_text(local, call):
    expected = await call(local, "get_text_embedding_batch", TEXTS)
    local.embed_batch_size = 7
    assert await call(local, "get_text_embedding_batch", TEXTS) == expected


async def test_an_empty_batch_asks_nobody(cls, wire, call):
    assert await call(cls(api_key="any", **wire.clients), "get_text_embedding_batch", []) == []
    assert not wire.requests


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("get_query_embedding", "fox"),
        ("get_agg_embedding_from_queries", ["fox", "dog"]),
        ("get_text_embedding", "fox"),
        ("get_text_embedding_batch", ["fox", "dog"]),
    ],
)
async def test_documents_and_queries_are_told_apart(cls, wire, call, method, argument):
    chroma = cls.__name__.startswith("Chroma")
    embedding = cls(api_key="any", **({"task": "find"} if chroma else {}), **wire.clients)
    await call(embedding, method, argument)
    said = [body["target"] if chroma else body["parameters"]["input_type"] for body in wire.bodies]
    assert set(said) == {"query" if "quer" in method else "documents" if chroma else "passage"}


async def test_queries_of_a_doc_model_go_to_its_query_model(wire, call):
    embedding = ChromaCloudSparseEmbedding(
        model_name="naver/efficient-splade-VI-BT-large-doc", api_key="any", **wire.clients
    )
    await call(embedding, "get_text_embedding", "fox")
    await call(embedding, "get_query_embedding", "fox")
    models = [request.headers["x-chroma-embedding-model"].rpartition("-")[2] for request in wire.requests]
    assert models == ["doc", "query"]


async def test_each_option_reaches_the_wire(wire, call):
    embedding = PineconeInferenceSparseEmbedding(
        model_name="some-sparse-model",
        api_key="any",
        truncate="NONE",
        max_tokens_per_sequence=2048,
        parameters={"extra": 1},
        api_version="2026-04",
        default_headers={"x-team": "search"},
        **wire.clients,
    )
    await call(embedding, "get_text_embedding", "fox")
    assert wire.bodies[0]["model"] == "some-sparse-model"
    assert wire.bodies[0]["parameters"] == {
        "input_type": "passage",
        "truncate": "NONE",
        "max_tokens_per_sequence": 2048,
        "extra": 1,
    }
    assert wire.requests[0].headers["x-pinecone-api-version"] == "2026-04"
    assert wire.requests[0].headers["x-team"] == "search"


async def test_a_blank_text_is_empty_if_sparse_and_refused_if_dense(cls, wire, call):
    embedding = cls(api_key="any", **wire.clients)
    if issubclass(cls, BaseSparseEmbedding):
        assert (await call(embedding, "get_text_embedding_batch", ["fox", " "]))[1] == {}
        assert await call(embedding, "get_query_embedding", "") == {}
    else:
        with pytest.raises(ConfigurationError, match="text 1 is blank"):
            await call(embedding, "get_text_embedding_batch", ["fox", " "])
        assert not wire.requests


async def test_the_progress_bar_is_llamaindexs(local, call, capsys):
    await call(local, "get_text_embedding_batch", TEXTS, show_progress=True)
    assert "Generating embeddings" in capsys.readouterr().err


async def test_an_error_of_the_provider_comes_through_as_it_is(cls, call):
    with local_provider(api_key="right") as url:
        embedding = cls(model_name="local/hashing", api_key="wrong", base_url=url)
        with pytest.raises(AuthenticationError):
            await call(embedding, "get_text_embedding_batch", TEXTS)


async def test_vectors_are_remembered_by_role(cls, wire, call):
    embedding = cls(api_key="any", cache=100, **wire.clients)
    for _ in range(2):
        await call(embedding, "get_text_embedding_batch", ["fox"])
        await call(embedding, "get_query_embedding", "fox")
    assert len(wire.requests) == embedding.usage.cache_hits == 2


def test_one_object_serves_many_threads(local):
    expected = local.get_text_embedding("fox")
    with ThreadPoolExecutor(32) as pool:
        assert all(vector == expected for vector in pool.map(local.get_text_embedding, ["fox"] * 64))


def test_one_object_serves_many_loops(local):
    expected = local.get_query_embedding("fox")
    assert [asyncio.run(local.aget_query_embedding("fox")) for _ in range(3)] == [expected] * 3


async def test_sync_methods_work_inside_a_running_loop(local):
    assert local.get_query_embedding("fox") == await local.aget_query_embedding("fox")


async def test_it_works_again_after_it_was_closed(local):
    expected = await local.aget_query_embedding("fox")
    await local.aclose()
    assert await local.aget_query_embedding("fox") == expected
    local.close()
    assert local.get_query_embedding("fox") == expected


async def test_llamaindexs_own_cache_serves_the_dense_classes(wire, call):
    embedding = ChromaCloudEmbedding(api_key="any", embeddings_cache=SimpleKVStore(), **wire.clients)
    first = await call(embedding, "get_text_embedding", "fox")
    assert await call(embedding, "get_text_embedding", "fox") == first
    assert len(wire.requests) == 1


@pytest.mark.skipif("rate_limiter" not in BaseEmbedding.model_fields, reason="a later llama-index-core has it")
async def test_llamaindexs_own_limiter_serves_the_dense_classes(wire, call):
    class Limiter:
        asked = 0

        def acquire(self):
            self.asked += 1

        async def async_acquire(self):
            self.acquire()

    embedding = ChromaCloudEmbedding(api_key="any", **wire.clients)
    embedding.rate_limiter = Limiter()
    await call(embedding, "get_text_embedding_batch", ["fox"])
    assert embedding.rate_limiter.asked == 1


def test_settings_take_the_dense_classes(wire, monkeypatch):
    monkeypatch.setattr(Settings, "_embed_model", None)
    Settings.embed_model = ChromaCloudEmbedding(api_key="any", **wire.clients)
    assert len(Settings.embed_model.get_query_embedding("fox")) == 8


def test_the_fields_can_be_described(cls):
    assert "model_name" in cls.model_json_schema()["properties"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batchsize": 10}, r"no option 'batchsize' \(did you mean batch_size\?\); it has .*timeout"),
        ({"embed_batch_size": 0}, "embed_batch_size: Input should be greater than 0"),
        ({"api_key": 7}, "api_key: Input should be a valid string"),
        ({"api_key": " "}, "api_key is empty"),
        ({"base_url": "http://example.com"}, "would send the key in the clear"),
        ({"max_concurrency": 0}, "max_concurrency must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"model_name": ""}, "model must be"),
        ({"http_client": "proxy"}, "http_client: Input should be an instance of Client"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_construction(cls, fields, message):
    with pytest.raises(ConfigurationError, match=message):
        cls(**fields)


def test_options_that_exclude_each_other_are_refused_at_construction():
    with pytest.raises(ConfigurationError, match="either task or instructions"):
        ChromaCloudEmbedding(task="find", instructions="find")
    with pytest.raises(ConfigurationError, match="must not hold input_type"):
        PineconeInferenceSparseEmbedding(parameters={"input_type": "query"})


def test_a_key_in_the_wrong_field_is_not_in_the_error(cls):
    with pytest.raises(ConfigurationError) as caught:
        cls(max_concurrency="pcsk_secret", apikey="pcsk_secret")
    assert "pcsk_secret" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_what_llamaindex_assigns_can_be_assigned_and_what_would_have_no_effect_cannot(cls):
    embedding = cls()
    embedding.embed_batch_size = 5
    embedding.num_workers = 2
    if isinstance(embedding, BaseEmbedding):
        embedding.callback_manager = CallbackManager([])
        embedding.embeddings_cache = SimpleKVStore()
    for name in ("model_name", "api_key", "base_url", "batch_size", "max_concurrency", "default_headers"):
        with pytest.raises(ConfigurationError, match=f"{name} cannot be changed"):
            setattr(embedding, name, "x")


def test_without_llama_index_the_import_says_what_to_install():
    code = "import sys; sys.modules['llama_index.core'] = None; import llama_index_sparse_embed"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'sparse-embed[llama-index]'" in done.stderr.splitlines()[-1]
