"""Hybrid and sparse search through Qdrant's local mode, with our vectors and without FastEmbed."""

import pickle
import sys

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient

from llama_index_sparse_embed import (
    ChromaCloudEmbedding,
    ChromaCloudSparseEmbedding,
    PineconeInferenceEmbedding,
    PineconeInferenceSparseEmbedding,
)

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "dog": "A dog sleeps; the dog dreams of other dogs.",
    "cat": "Cats ignore quick birds and lazy people alike.",
    "moon": "The moon pulls the tides.",
}
QUESTION = "quick dogs"  # the best document is the fox by sparse vectors, the dog by dense ones


@pytest.fixture(params=["Chroma", "Pinecone"])
def pair(request, provider):
    classes = {
        "Chroma": (ChromaCloudEmbedding, ChromaCloudSparseEmbedding),
        "Pinecone": (PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding),
    }
    dense, sparse = classes[request.param]
    where = {"api_key": "any", "base_url": provider}
    return dense(model_name="local/hashing", **where), sparse(model_name="local/bm25", **where)


@pytest.fixture(params=["sync", "async"])
def is_async(request):
    return request.param == "async"


@pytest.fixture
async def store(pair, is_async, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastembed", None)  # any attempt to import it fails, installed or not
    dense, sparse = pair
    client = AsyncQdrantClient(":memory:") if is_async else QdrantClient(":memory:")
    store = QdrantVectorStore(
        "texts",
        **{"aclient" if is_async else "client": client},
        index_doc_id=False,  # the local mode warns that it has no payload indexes
        **sparse.qdrant_kwargs(),
    )
    nodes = [
        TextNode(id_=f"00000000-0000-0000-0000-{at:012}", text=text, metadata={"name": name})
        for at, (name, text) in enumerate(TEXTS.items())
    ]
    for node in nodes:
        node.excluded_embed_metadata_keys = ["name"]
    if is_async:
        await store.async_add(await dense.acall(nodes))
    else:
        store.add(dense(nodes))
    return store


@pytest.fixture
def ask(store, pair, is_async):
    async def asking(text, mode, **options):
        query = VectorStoreQuery(
            query_str=text, query_embedding=pair[0].get_query_embedding(text), mode=mode, similarity_top_k=4, **options
        )
        result = await store.aquery(query) if is_async else store.query(query)
        return {
            node.metadata["name"]: score for node, score in zip(result.nodes or [], result.similarities, strict=True)
        }

    return asking


async def test_sparse_search_ranks_by_the_dot_product(ask, pair):
    _, sparse = pair
    query = sparse.get_query_embedding(QUESTION)
    expected = {}
    for name, text in TEXTS.items():
        document = sparse.get_text_embedding(text)
        expected[name] = sum(weight * document.get(index, 0.0) for index, weight in query.items())
    found = await ask(QUESTION, VectorStoreQueryMode.SPARSE)
    assert list(found) == sorted(found, key=expected.__getitem__, reverse=True)
    assert found == pytest.approx({name: score for name, score in expected.items() if score}, rel=1e-5)
    assert set(found) == {"fox", "dog", "cat"}


async def test_hybrid_search_fuses_dense_and_sparse(ask):
    found = await ask(QUESTION, VectorStoreQueryMode.HYBRID)
    assert set(found) == set(TEXTS)
    assert max(found, key=found.__getitem__) == "fox"
    assert found["fox"] > found["moon"]


async def test_alpha_chooses_between_the_two(ask):
    sparse = await ask(QUESTION, VectorStoreQueryMode.SPARSE)
    dense = await ask(QUESTION, VectorStoreQueryMode.DEFAULT)
    assert next(iter(sparse)) != next(iter(dense))
    almost_sparse = await ask(QUESTION, VectorStoreQueryMode.HYBRID, alpha=0.001)  # 0 becomes 0.5 in async methods
    only_dense = await ask(QUESTION, VectorStoreQueryMode.HYBRID, alpha=1.0)
    assert next(iter(almost_sparse)) == next(iter(sparse))
    assert next(iter(only_dense)) == next(iter(dense))


async def test_a_query_without_a_known_term_finds_nothing(ask):
    assert await ask("zebra", VectorStoreQueryMode.SPARSE) == {}
    assert await ask(" . ", VectorStoreQueryMode.SPARSE) == {}


def test_the_functions_give_columns_and_survive_a_pickle(pair):
    _, sparse = pair
    functions = sparse.qdrant_kwargs()
    for name in ("sparse_doc_fn", "sparse_query_fn"):
        indices, values = pickle.loads(pickle.dumps(functions[name]))(["quick dogs", " ", "moon"])
        assert [len(column) for column in indices] == [len(column) for column in values] == [2, 0, 1]
        assert indices[0] == sorted(indices[0])


async def test_an_index_retrieves_hybrid(store, pair, is_async):
    dense, _ = pair
    index = VectorStoreIndex(
        [], storage_context=StorageContext.from_defaults(vector_store=store), embed_model=dense, use_async=is_async
    )
    retriever = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=2, sparse_top_k=4)
    hits = await retriever.aretrieve("sleeping dogs") if is_async else retriever.retrieve("sleeping dogs")
    assert hits[0].metadata["name"] == "dog"
    assert len(hits) == 2
