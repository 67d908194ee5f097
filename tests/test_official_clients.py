"""Clients this project did not write against the local provider, over a real socket.

The Pinecone SDK itself is in ``official/test_pinecone_sdk.py``, which also runs with another version of it.
"""

import numpy as np
import pytest
from chromadb.utils.embedding_functions import (
    ChromaCloudQwenEmbeddingFunction,
    ChromaCloudSpladeEmbeddingFunction,
)
from chromadb.utils.embedding_functions.chroma_cloud_qwen_embedding_function import ChromaCloudQwenEmbeddingModel
from langchain_pinecone import PineconeEmbeddings, PineconeSparseEmbeddings

from sparse_embed import DenseEncoder, SparseEncoder, SparseVector
from sparse_embed.server import local_provider
from sparse_embed.server.engines.bm25 import Bm25
from sparse_embed.server.engines.hashing import Hashing

KEY = "official-test-key"
TEXTS = ["The quick brown foxes jumped", "over the lazy dogs, naïve İstanbul", "the of and"]


@pytest.fixture(scope="module")
def url():
    with local_provider(api_key=KEY, stand_in=True) as url:
        yield url


@pytest.fixture(autouse=True)
def point_official_clients_here(url, monkeypatch):
    monkeypatch.setenv("CHROMA_EMBED_URL", url)
    monkeypatch.setenv("CHROMA_API_KEY", KEY)
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", url)
    monkeypatch.setenv("PINECONE_BASE_URL", url)
    monkeypatch.setenv("PINECONE_API_KEY", KEY)


@pytest.mark.parametrize("labelled", [False, True])
def test_chromadb_splade_function_receives_the_engines_vectors_and_so_do_we(labelled):
    function = ChromaCloudSpladeEmbeddingFunction(include_tokens=labelled)
    expected = [
        (v.indices, v.values, v.tokens or None if labelled else None) for v in Bm25().embed(TEXTS, "document").vectors
    ]
    theirs = function(TEXTS)
    assert [(v.indices, v.values, v.labels) for v in theirs] == expected
    ours = SparseEncoder("chroma", return_tokens=labelled).embed_documents(TEXTS)
    assert [SparseVector(v.indices, v.values, v.labels) for v in theirs] == ours
    function.close()


def test_chromadb_splade_function_reports_our_message_for_a_wrong_key(monkeypatch):
    monkeypatch.setenv("CHROMA_API_KEY", "wrong")
    function = ChromaCloudSpladeEmbeddingFunction()
    with pytest.raises(RuntimeError, match=r"401.*invalid API key"):
        function(TEXTS)
    function.close()


def test_chromadb_qwen_function_receives_the_engines_vectors_and_so_do_we():
    function = ChromaCloudQwenEmbeddingFunction(ChromaCloudQwenEmbeddingModel.QWEN3_EMBEDDING_0p6B, task="nl_to_code")
    expected = np.array(Hashing().embed(TEXTS, "document", dimension=1024).vectors, dtype=np.float32)
    assert np.array_equal(function(TEXTS), expected)
    assert np.array_equal(function.embed_query(TEXTS), expected)
    ours = DenseEncoder("chroma", task="nl_to_code")
    assert np.array_equal(np.array(ours.embed_documents(TEXTS), dtype=np.float32), expected)
    function._session.close()


def test_langchain_pinecone_sparse_receives_the_engines_vectors_and_so_do_we():
    embeddings = PineconeSparseEmbeddings(model="pinecone-sparse-english-v0")
    documents, [query] = Bm25().embed(TEXTS, "document").vectors, Bm25().embed(TEXTS[:1], "query").vectors
    assert [(v.indices, v.values) for v in embeddings.embed_documents(TEXTS)] == [
        (v.indices, v.values) for v in documents
    ]
    assert embeddings.embed_query(TEXTS[0]).to_dict() == {"indices": query.indices, "values": query.values}
    ours = SparseEncoder("pinecone")
    assert ours.embed_documents(TEXTS) == [SparseVector(v.indices, v.values) for v in documents]
    assert ours.embed_query(TEXTS[0]) == SparseVector(query.indices, query.values)


async def test_langchain_pinecone_sparse_receives_the_engines_vectors_and_so_do_we_by_asyncio():
    embeddings = PineconeSparseEmbeddings(model="pinecone-sparse-english-v0")
    documents, [query] = Bm25().embed(TEXTS, "document").vectors, Bm25().embed(TEXTS[:1], "query").vectors
    answers = await embeddings.aembed_documents(TEXTS)
    assert [(v.indices, v.values) for v in answers] == [(v.indices, v.values) for v in documents]
    assert (await embeddings.aembed_query(TEXTS[0])).to_dict() == {"indices": query.indices, "values": query.values}
    ours = await SparseEncoder("pinecone").aembed_documents(TEXTS)
    assert ours == [SparseVector(v.indices, v.values) for v in answers]


async def test_langchain_pinecone_finds_the_models_it_asks_for():
    embeddings = PineconeEmbeddings(model="multilingual-e5-large")
    list_texts = await embeddings.alist_supported_models(vector_type="dense")
    assert [model["model"] for model in list_texts["models"]] == [
        "local/hashing",
        "multilingual-e5-large",
        "llama-text-embed-v2",
    ]
    assert embeddings.embed_documents(TEXTS) == Hashing().embed(TEXTS, "document", dimension=1024).vectors
