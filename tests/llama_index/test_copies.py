"""Dumps hold no key, pickles and copies an explicit one, and nothing holds the key of the environment."""

import copy
import importlib
import json
import pickle

import cloudpickle
import pytest
from llama_index.core.callbacks import CallbackManager
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import TextNode

from llama_index_sparse_embed import ChromaCloudEmbedding, PineconeInferenceEmbedding
from sparse_embed import ConfigurationError

from .conftest import DENSE

TUNING = {
    "batch_size": 10,
    "max_concurrency": 2,
    "max_retries": 1,
    "deadline": 5.0,
    "timeout": 5.0,
    "cache": 10,
    "allow_insecure_http": True,
    "default_headers": {"x-team": "secret"},
    "api_key": "secret",
}


def by_pickle(embedding):
    return pickle.loads(pickle.dumps(embedding))


def by_cloudpickle(embedding):
    return cloudpickle.loads(cloudpickle.dumps(embedding))


def by_model_copy(embedding):
    return embedding.model_copy(deep=True)


@pytest.mark.parametrize("copied", [by_pickle, by_cloudpickle, copy.copy, copy.deepcopy, by_model_copy])
def test_a_copy_embeds_as_the_original_with_its_key_and_tuning(local, copied):
    local.get_query_embedding("fox")
    twin = copied(local.model_copy(update={"max_concurrency": 3}))
    assert twin.get_query_embedding("fox") == local.get_query_embedding("fox")
    assert twin.max_concurrency == 3
    assert twin.model_dump() == local.model_dump()


def test_a_pickle_never_holds_the_key_of_the_environment(cls, key_variable, monkeypatch):
    monkeypatch.setenv(key_variable, "key-of-the-environment")
    embedding = cls()
    assert b"key-of-the-environment" not in pickle.dumps(embedding)
    assert b"key-of-the-environment" not in cloudpickle.dumps(embedding)


def test_a_callers_own_client_is_copied_along_but_never_pickled(cls, wire):
    embedding = cls(api_key="any", **wire.clients)
    copy.deepcopy(embedding).get_query_embedding("fox")
    assert len(wire.requests) == 1
    for dumps in (pickle.dumps, cloudpickle.dumps):
        with pytest.raises(ConfigurationError, match="http_client cannot be pickled"):
            dumps(embedding)


def test_a_copy_with_another_model_asks_that_model(cls, wire):
    other = "other-dense" if cls in DENSE else "other-sparse"
    cls(api_key="any", **wire.clients).model_copy(update={"model_name": other}).get_query_embedding("fox")
    assert other in (wire.bodies[0].get("model"), wire.requests[0].headers.get("x-chroma-embedding-model"))
    with pytest.raises(ConfigurationError, match="max_concurrency must be"):
        cls().model_copy(update={"max_concurrency": 0})


def test_no_dump_and_no_repr_holds_a_key_or_a_header(cls):
    embedding = cls(**TUNING)
    said = [repr(embedding), str(embedding), str(embedding.model_dump()), embedding.model_dump_json()]
    if cls in DENSE:
        said += [str(embedding.to_dict()), embedding.to_json()]
    assert "secret" not in "".join(said)
    assert not TUNING.keys() & embedding.model_dump().keys()


@pytest.mark.parametrize("cls", DENSE, ids=lambda cls: cls.__name__)
def test_mlflow_finds_the_object_again(cls, key_variable, provider, monkeypatch):
    monkeypatch.setenv(key_variable, "any")
    original = cls(model_name="local/hashing", base_url=provider, embed_batch_size=50)
    stored = json.dumps(
        {"object_constructor": f"{cls.__module__}.{cls.__name__}", "object_kwargs": original.to_dict()}
    )  # mlflow 3, llama_index flavour: serialize_objects.py
    module, _, name = json.loads(stored)["object_constructor"].rpartition(".")
    again = getattr(importlib.import_module(module), name).from_dict(json.loads(stored)["object_kwargs"])
    assert again.to_dict() == original.to_dict()
    assert again.get_query_embedding("fox") == original.get_query_embedding("fox")
    assert cls.from_json(original.to_json()).to_dict() == original.to_dict()


def test_a_dump_builds_an_equal_object(cls):
    options = {"instructions": "find"} if cls.__name__.startswith("Chroma") else {"parameters": {"extra": 1}}
    embedding = cls(model_name="some-model", base_url="https://example.com", **options)
    assert cls(**embedding.model_dump()).model_dump() == embedding.model_dump()


def test_a_loaded_address_never_gets_the_key_of_the_environment(cls, key_variable, wire, monkeypatch):
    monkeypatch.setenv(key_variable, "key-of-the-environment")
    stored = {**cls().model_dump(), "base_url": "https://thief.example"}
    load = getattr(cls, "from_dict", lambda data, **kwargs: cls(**data, **kwargs))
    with pytest.raises(ConfigurationError, match=f"{key_variable} is not sent to thief.example"):
        load(stored, **wire.clients).get_query_embedding("fox")
    assert not wire.requests


def test_the_ingestion_cache_survives_tuning_but_no_other_model():
    nodes = [TextNode(text="fox")]
    plain = get_transformation_hash(nodes, ChromaCloudEmbedding())
    assert get_transformation_hash(nodes, ChromaCloudEmbedding(**TUNING, callback_manager=CallbackManager())) == plain
    assert get_transformation_hash(nodes, ChromaCloudEmbedding(model_name="other")) != plain
    assert get_transformation_hash(nodes, ChromaCloudEmbedding(instructions="find")) != plain
    half = get_transformation_hash(nodes, PineconeInferenceEmbedding(dimension=512))
    assert get_transformation_hash(nodes, PineconeInferenceEmbedding()) != half
