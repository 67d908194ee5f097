"""The official Pinecone SDK, versions 7 and 10, against the local provider: a client this project did not write.

Runs alone, in an environment with another SDK than the test suite's:
``make pinecone10``
"""

import asyncio
from contextlib import asynccontextmanager, contextmanager, nullcontext

import pytest

from sparse_embed import DenseEncoder, SparseEncoder, SparseVector
from sparse_embed.server import local_provider
from sparse_embed.server.engines.bm25 import Bm25
from sparse_embed.server.engines.hashing import Hashing

pinecone = pytest.importorskip("pinecone")

MAJOR = int(pinecone.__version__.partition(".")[0])
KEY = "pc-test-key"
TEXTS = ["The quick brown foxes jumped", "over the lazy dogs, naïve İstanbul", "the of and"]
PARAMETERS = {"input_type": "passage", "truncate": "END"}


@pytest.fixture(scope="module")
def url():
    with local_provider(api_key=KEY, stand_in=True) as url:
        yield url


@contextmanager
def sync_client(**options):
    client = pinecone.Pinecone(**options)
    with client if MAJOR >= 8 else nullcontext():  # 7 has no close()
        yield client


@asynccontextmanager
async def async_client(**options):
    if MAJOR >= 10:
        async with pinecone.AsyncPinecone(**options) as client:
            yield client
    else:
        async with pinecone.PineconeAsyncio(**options) as client:
            yield client


def embed(how, inputs, *, model, parameters, key=KEY, **options):
    """One `inference.embed`, by the sync or the asyncio client."""

    async def aembed():
        async with async_client(api_key=key, **options) as client:
            return await client.inference.embed(model=model, inputs=inputs, parameters=parameters)

    if how == "asyncio":
        return asyncio.run(aembed())
    with sync_client(api_key=key, **options) as client:
        return client.inference.embed(model=model, inputs=inputs, parameters=parameters)


both = pytest.mark.parametrize("how", ["sync", "asyncio"])


@both
@pytest.mark.parametrize("model", ["local/bm25", "pinecone-sparse-english-v0"])
@pytest.mark.parametrize(("input_type", "role"), [("passage", "document"), ("query", "query")])
def test_its_sparse_vectors_are_the_engines_and_ours(url, how, model, input_type, role):
    parameters = {"input_type": input_type, "truncate": "END", "return_tokens": True}
    answer = embed(how, TEXTS, model=model, parameters=parameters, host=url)
    vectors, num_tokens = Bm25().embed(TEXTS, role)
    assert [(item["sparse_indices"], item["sparse_values"], item["sparse_tokens"]) for item in answer.data] == vectors
    assert (answer.model, answer.vector_type, answer.usage["total_tokens"]) == (model, "sparse", num_tokens)
    ours = SparseEncoder("pinecone", model=model, api_key=KEY, base_url=url, return_tokens=True)
    received = ours.embed_documents(TEXTS) if role == "document" else [ours.embed_query(text) for text in TEXTS]
    assert received == [SparseVector(v.indices, v.values, v.tokens or None) for v in vectors]


@both
def test_tokens_stay_away_unless_asked_for(url, how):
    answer = embed(how, TEXTS, model="local/bm25", parameters=PARAMETERS, host=url)
    assert [getattr(item, "sparse_tokens", None) for item in answer.data] == [None] * len(TEXTS)


@both
@pytest.mark.parametrize(
    ("model", "extra", "dimension"),
    [
        ("local/hashing", {"dimension": 16}, 16),
        ("multilingual-e5-large", {}, 1024),
        ("llama-text-embed-v2", {"dimension": 384}, 384),
    ],
)
def test_its_dense_vectors_are_the_engines_and_ours(url, how, model, extra, dimension):
    answer = embed(how, TEXTS, model=model, parameters=PARAMETERS | extra, host=url)
    assert [item.values for item in answer.data] == Hashing().embed(TEXTS, "document", dimension=dimension).vectors
    assert answer.vector_type == "dense"
    ours = DenseEncoder("pinecone", model=model, api_key=KEY, base_url=url, **extra)
    assert ours.embed_documents(TEXTS) == [item.values for item in answer.data]


@both
def test_the_environment_variable_leads_to_the_local_provider(url, how, monkeypatch):
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", url)
    assert len(embed(how, TEXTS, model="local/bm25", parameters=PARAMETERS).data) == len(TEXTS)


@both
@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"key": "wrong"}, 401, "invalid API key"),
        ({"model": "no-such-model"}, 404, "unknown model"),
        ({"parameters": {"truncate": "END"}}, 400, "input_type is required"),
    ],
)
def test_refusals_arrive_with_status_and_message(url, how, wrong, status, words):
    request = {"model": "local/bm25", "parameters": PARAMETERS, "host": url} | wrong
    with pytest.raises(Exception, match=words) as caught:  # the classes differ between the versions
        embed(how, TEXTS, **request)
    assert status in {getattr(caught.value, "status", None), getattr(caught.value, "status_code", None)}


def test_models_are_listed_filtered_and_described(url):
    with sync_client(api_key=KEY, host=url) as client:
        list_texts = [model.model for model in client.inference.list_models(type="embed", vector_type="sparse").models]
        assert list_texts == ["local/bm25", "pinecone-sparse-english-v0"]
        assert len(client.inference.list_models().models) == 5
        name = {"model" if MAJOR >= 8 else "model_name": "llama-text-embed-v2"}
        info = client.inference.get_model(**name)
        assert (info.type, info.vector_type, info.max_batch_size, info.default_dimension) == (
            "embed",
            "dense",
            96,
            1024,
        )
        assert list(info.supported_dimensions) == [384, 512, 768, 1024, 2048]
        assert list(info.supported_metrics) == ["cosine", "euclidean", "dotproduct"]
        dimension = next(item for item in info.supported_parameters if item.parameter == "dimension")
        assert (dimension.default, dimension.required, dimension.value_type) == (1024, False, "integer")
        local = {next(iter(name)): "local/bm25"}
        assert client.inference.get_model(**local).vector_type == "sparse"
