"""The registered chromadb function: stored without its key, found again, and never silently absent.

Schema and persistence are chromadb's own, on disk; what only Chroma Cloud can do runs against a stub of it.
"""

import copy
import gc
import json
import pickle
import subprocess
import sys
import warnings

import chromadb
import pytest
from chromadb import K, Schema, SparseVectorIndexConfig
from chromadb.utils.embedding_functions import ChromaBm25EmbeddingFunction, sparse_known_embedding_functions

from sparse_embed import ConfigurationError, SparseEncoder, SparseVector
from sparse_embed.server import local_provider
from sparse_embed.stores.chroma import EncoderFunction, open_collection
from sparse_embed.stores.chroma_search import SPARSE_KEY
from sparse_embed.testing import fake_clients
from tests.stubs.chroma_cloud import chroma_cloud_stub

DENSE = [[1.0, 0.0]]


@pytest.fixture(scope="module")
def local():
    """URL of a local provider."""
    with local_provider() as url:
        yield url


@pytest.fixture
def cloud():
    """A stub of Chroma Cloud."""
    with chroma_cloud_stub() as stub:
        yield stub


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("CHROMA_API_KEY", "CHROMA_EMBED_URL", "PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST"):
        monkeypatch.delenv(name, raising=False)


def client_of(cloud):
    return chromadb.HttpClient(host="127.0.0.1", port=cloud.port)


def sparse_vectors(cloud):
    """The sparse vectors that reached the stub, by id."""
    return {
        name: record["metadata"].get(SPARSE_KEY)
        for records in cloud.records.values()
        for name, record in records.items()
    }


def schema_of(function):
    return Schema().create_index(
        config=SparseVectorIndexConfig(embedding_function=function, source_key=K.DOCUMENT), key=SPARSE_KEY
    )


def function_in(schema):
    return schema.keys[SPARSE_KEY].sparse_vector.sparse_vector_index.config.embedding_function


def test_documents_and_queries_get_their_vectors(cloud, local):
    encoder = SparseEncoder("chroma", model="local/bm25", base_url=local, api_key="any")
    collection = open_collection(client_of(cloud), "notes", EncoderFunction(encoder))
    collection.add(ids=["a"], documents=["quick fox"], embeddings=DENSE)
    stored = sparse_vectors(cloud)["a"]
    expected = encoder.embed_documents(["quick fox"])[0]
    assert SparseVector(stored["indices"], stored["values"]) == expected
    collection.search(chromadb.Search(rank=chromadb.Knn(query="a fox", key=SPARSE_KEY)))
    query = encoder.embed_query("a fox")
    sent = cloud.searches[0]["rank"]["$knn"]["query"]
    assert SparseVector(sent["indices"], sent["values"]) == query


@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
def test_the_schema_holds_what_decides_a_vector_and_no_key(provider):
    options = {
        "chroma": {"task": "search", "query_model": "other"},
        "pinecone": {"truncate": "NONE", "max_tokens_per_sequence": 2048, "parameters": {"new": [1]}},
    }[provider]
    encoder = SparseEncoder(
        provider,
        model="my-model",
        base_url="https://gateway.example",
        return_tokens=True,
        api_key="secret-4711",
        default_headers={"x-team": "secret-4711"},
        batch_size=2,
        **options,
    )
    stored = json.dumps(schema_of(EncoderFunction(encoder)).serialize_to_json())
    assert "secret-4711" not in stored
    assert function_in(Schema.deserialize_from_json(json.loads(stored))).get_config() == {
        "provider": provider,
        "model": "my-model",
        "base_url": "https://gateway.example",
        "return_tokens": True,
        **options,
    }


def test_defaults_are_not_stored():
    assert EncoderFunction(SparseEncoder("pinecone")).get_config() == {
        "provider": "pinecone",
        "model": "pinecone-sparse-english-v0",
    }


def test_while_the_encoder_lives_its_key_and_connections_serve_the_collection(cloud):
    clients = fake_clients()
    encoder = SparseEncoder("chroma", api_key="explicit", **clients)
    collection = open_collection(client_of(cloud), "notes", EncoderFunction(encoder))
    collection.add(ids=["a", "b"], documents=["fox", "dog"], embeddings=DENSE * 2)
    collection.add(ids=["c"], documents=["cat"], embeddings=DENSE)
    assert encoder.usage.texts == 3


def test_a_rebuilt_function_keeps_one_encoder():
    config = {"provider": "chroma", "model": "one-encoder"}
    first, second = (EncoderFunction.build_from_config(config) for _ in range(2))
    for function in (first, second):
        with pytest.raises(ConfigurationError, match="CHROMA_API_KEY"):
            function(["fox"])
    assert first._encoder is second._encoder


def test_two_owners_of_the_same_settings_are_not_mixed_up():
    first = SparseEncoder("chroma", model="shared", api_key="owner-1")
    EncoderFunction(first)
    EncoderFunction(SparseEncoder("chroma", model="shared", api_key="owner-1"))
    other = SparseEncoder("chroma", model="shared", api_key="owner-2")
    EncoderFunction(first)
    with pytest.raises(ConfigurationError, match="another key"):
        EncoderFunction(other)
    del first
    gc.collect()
    EncoderFunction(other)


def test_a_missing_key_is_an_error_and_nothing_is_written(cloud):
    collection = open_collection(client_of(cloud), "notes", EncoderFunction(SparseEncoder("chroma")))
    with pytest.raises(ConfigurationError, match="no API key: set CHROMA_API_KEY"):
        collection.add(ids=["a"], documents=["fox"], embeddings=DENSE)
    assert sparse_vectors(cloud) == {}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"provider": "someone"}, "someone"),
        ({}, "provider"),
        ({"provider": "chroma", "model": "m", "of_a_later_version": 1}, "of_a_later_version"),
        ({"provider": "chroma", "api_key": "planted"}, "api_key"),
        ({"provider": "chroma", "cache": "/tmp/planted"}, "cache"),
        ({"provider": "chroma", "base_url": "http://gateway.example"}, "https"),
        ({"provider": "chroma", "base_url": "http://gateway.example", "allow_insecure_http": True}, "allow_insecure"),
    ],
)
def test_stored_settings_that_cannot_work_are_an_error_when_a_vector_is_asked_for(config, said):
    schema = schema_of(EncoderFunction.build_from_config(config))  # where chromadb would swallow an error
    function = function_in(Schema.deserialize_from_json(schema.serialize_to_json()))
    for ask in (function, function.embed_query):
        with pytest.raises(ConfigurationError, match=said) as caught:
            ask(["fox"])
        assert "planted" not in str(caught.value)


def test_stored_settings_do_not_send_the_environments_key_elsewhere(monkeypatch):
    monkeypatch.setenv("CHROMA_API_KEY", "environment")
    function = EncoderFunction.build_from_config({"provider": "chroma", "base_url": "https://elsewhere.example"})
    with pytest.raises(ConfigurationError, match=r"elsewhere\.example"):
        function(["fox"])


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_work(local, twin):
    encoder = SparseEncoder("chroma", model="local/bm25", base_url=local, api_key="any")
    function = EncoderFunction(encoder)
    assert twin(function)(["quick fox"]) == function(["quick fox"])


# Persistence for real: Chroma on a disk refuses a sparse index, and keeps one that is switched off, with its function.

WRITE = """
import chromadb, sys
from chromadb import K, Schema, SparseVectorIndexConfig
from sparse_embed import SparseEncoder
from sparse_embed.stores.chroma import EncoderFunction
encoder = SparseEncoder("chroma", model="local/bm25", base_url=sys.argv[2], api_key="secret-4711")
index = SparseVectorIndexConfig(embedding_function=EncoderFunction(encoder), source_key=K.DOCUMENT)
schema = Schema().create_index(config=index, key="sparse_embedding")
schema.keys["sparse_embedding"].sparse_vector.sparse_vector_index.enabled = False
chromadb.PersistentClient(sys.argv[1]).create_collection("notes", schema=schema, embedding_function=None)
"""
READ = """
import chromadb, sys
collection = chromadb.PersistentClient(sys.argv[1]).get_collection("notes", embedding_function=None)
function = collection.schema.keys["sparse_embedding"].sparse_vector.sparse_vector_index.config.embedding_function
print(function and function(["quick fox"])[0].indices)
"""


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", **environment},
    )


def test_another_process_finds_the_function_on_disk(tmp_path, local):
    written = run(WRITE, tmp_path, local)
    assert written.returncode == 0, written.stderr
    assert not any(b"secret-4711" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    importing = "import sparse_embed.stores.chroma" + READ
    expected = SparseEncoder("chroma", model="local/bm25", base_url=local, api_key="any").embed_query("quick fox")
    assert run(importing, tmp_path, CHROMA_API_KEY="any").stdout.strip() == str(list(expected.indices))
    without_key = run(importing, tmp_path)
    assert "ConfigurationError: no API key: set CHROMA_API_KEY" in without_key.stderr.splitlines()[-1]
    without_import = run(READ, tmp_path, CHROMA_API_KEY="any")
    assert without_import.stdout.strip() == "None"
    assert "Could not reconstruct sparse embedding function sparse_embed" in without_import.stderr
    strict = (
        'import warnings\nwarnings.filterwarnings("error", message="Could not reconstruct sparse embedding")' + READ
    )
    assert "UserWarning: Could not reconstruct" in run(strict, tmp_path).stderr.splitlines()[-1]


def test_a_process_without_the_import_writes_no_sparse_vectors_unless_the_warning_is_an_error(cloud, monkeypatch):
    # What chromadb 1.5 does, and the advice of the module's docstring.
    encoder = SparseEncoder("chroma", api_key="k", **fake_clients())
    collection = open_collection(client_of(cloud), "notes", EncoderFunction(encoder))
    monkeypatch.delitem(sparse_known_embedding_functions, "sparse_embed")  # as in a process without the import
    with pytest.warns(UserWarning, match="Could not reconstruct sparse embedding function"):
        collection.add(ids=["a"], documents=["fox"], embeddings=DENSE)
    assert sparse_vectors(cloud) == {"a": None}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Could not reconstruct sparse embedding function")
        with pytest.raises(UserWarning, match="sparse_embed"):
            collection.add(ids=["b"], documents=["fox"], embeddings=DENSE)
    assert sparse_vectors(cloud) == {"a": None}


@pytest.mark.parametrize("kind", ["ephemeral", "persistent"])
def test_a_chroma_of_ones_own_refuses_with_a_clear_message(kind, tmp_path):
    client = chromadb.EphemeralClient() if kind == "ephemeral" else chromadb.PersistentClient(tmp_path)
    function = EncoderFunction(SparseEncoder("chroma"))
    with pytest.raises(ConfigurationError, match="sparse indexes exist in Chroma Cloud only"):
        open_collection(client, "notes", function)


def test_chromas_other_refusals_stay_what_they_are():
    function = EncoderFunction(SparseEncoder("chroma"))
    with pytest.raises(chromadb.errors.InvalidArgumentError, match="name"):
        open_collection(chromadb.EphemeralClient(), "a name with spaces", function)


def test_a_collection_opens_again(cloud):
    function = EncoderFunction(SparseEncoder("chroma"))
    client = client_of(cloud)
    assert open_collection(client, "notes", function).id == open_collection(client, "notes", function).id


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (None, "is missing"),
        (schema_of(ChromaBm25EmbeddingFunction()), "another function"),
        (schema_of(EncoderFunction(SparseEncoder("chroma", model="older"))), "'model': 'older'"),
    ],
)
def test_a_collection_with_another_sparse_index_is_refused(cloud, schema, said):
    client = client_of(cloud)
    client.create_collection("notes", schema=schema, embedding_function=None)
    with pytest.raises(ConfigurationError, match=said):
        open_collection(client, "notes", EncoderFunction(SparseEncoder("chroma")))


def test_text_on_the_dense_key_does_not_fall_back_to_chromas_default_model(cloud):
    collection = open_collection(client_of(cloud), "notes", EncoderFunction(SparseEncoder("chroma")))
    with pytest.raises(ValueError, match="must provide an embedding function"):
        collection.add(ids=["a"], documents=["fox"])
