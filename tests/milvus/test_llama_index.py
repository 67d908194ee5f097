"""Sparse and hybrid search through LlamaIndex's store in a real Milvus Lite."""

import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.milvus import MilvusVectorStore
from llama_index.vector_stores.milvus.utils import BaseSparseEmbeddingFunction

from llama_index_sparse_embed import PineconeInferenceSparseEmbedding
from llama_index_sparse_embed.ingestion import SparsePrefetch
from sparse_embed.convert import from_dict
from sparse_embed.server import local_provider

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "dog": "A dog sleeps; the dog dreams of other dogs.",
    "cat": "Cats ignore quick birds and lazy people alike.",
    "moon": "The moon pulls the tides.",
    "blank": " ",
}
DENSE = {"fox": [1.0, 0.0], "dog": [0.8, 0.6], "cat": [0.6, 0.8], "moon": [0.0, 1.0], "blank": [0.0, 0.1]}


@pytest.fixture(scope="module")
def provider():
    with local_provider() as url:
        yield url


@pytest.fixture
def sparse(provider):
    return PineconeInferenceSparseEmbedding(model_name="local/bm25", api_key="any", base_url=provider, cache=1000)


@pytest.fixture(params=["sync", "async"])
def is_async(request):
    return request.param == "async"


@pytest.fixture
async def store(sparse, is_async, tmp_path):
    store = MilvusVectorStore(
        str(tmp_path / "milvus.db"),
        dim=2,
        enable_sparse=True,
        sparse_embedding_function=sparse.as_milvus(),
        use_async_client=is_async,
    )
    yield store
    store.client.close()
    if is_async:
        await store.aclient.close()


def some_nodes(texts):
    return [TextNode(id_=name, text=text, embedding=DENSE.get(name, [1.0, 0.0])) for name, text in texts.items()]


async def add(store, nodes, is_async):
    await store.async_add(nodes) if is_async else store.add(nodes)


async def ask(store, text, mode, is_async, **options):
    query = VectorStoreQuery(query_str=text, query_embedding=[1.0, 0.0], mode=mode, similarity_top_k=4, **options)
    result = await store.aquery(query) if is_async else store.query(query)
    return dict(zip(result.ids, result.similarities, strict=True))


async def test_sparse_search_ranks_by_the_dot_product(store, sparse, is_async):
    await add(store, some_nodes(TEXTS), is_async)
    query = from_dict(sparse.get_query_embedding("quick dogs"))
    expected = {name: query.dot(from_dict(sparse.get_text_embedding(text))) for name, text in TEXTS.items()}
    found = await ask(store, "quick dogs", VectorStoreQueryMode.SPARSE, is_async)
    assert list(found) == ["fox", "dog", "cat"]
    assert found == pytest.approx({name: score for name, score in expected.items() if score}, rel=1e-5)


async def test_hybrid_search_fuses_dense_and_sparse(store, is_async):
    await add(store, some_nodes(TEXTS), is_async)
    found = await ask(store, "dog dreams", VectorStoreQueryMode.HYBRID, is_async)
    assert next(iter(found)) == "dog"
    assert {"fox", "cat"} <= set(found)


async def test_a_query_without_a_known_term_finds_nothing(store, is_async):
    await add(store, some_nodes(TEXTS), is_async)
    for text in ("zebra", " "):
        assert await ask(store, text, VectorStoreQueryMode.SPARSE, is_async) == {}


async def test_a_store_without_dense_vectors_searches_too(sparse, is_async, tmp_path):
    store = MilvusVectorStore(
        str(tmp_path / "milvus.db"),
        enable_dense=False,
        enable_sparse=True,
        sparse_embedding_function=sparse.as_milvus(),
        use_async_client=is_async,
    )
    await add(store, some_nodes(TEXTS), is_async)
    assert list(await ask(store, "the tides", VectorStoreQueryMode.SPARSE, is_async)) == ["moon"]


async def test_a_hundred_nodes_cost_two_requests_at_most_behind_a_prefetch(store, sparse, is_async):
    pipeline = IngestionPipeline(transformations=[SparsePrefetch(sparse, text="text")], vector_store=store)
    nodes = some_nodes({f"node {at}": f"text {at} about foxes" for at in range(100)})
    await pipeline.arun(nodes=nodes) if is_async else pipeline.run(nodes=nodes)
    assert store.client.query("llamacollection", output_fields=["count(*)"])[0]["count(*)"] == 100
    assert sparse.usage.requests <= 2


async def test_without_a_prefetch_the_store_asks_for_one_node_at_a_time(store, sparse, is_async):
    await add(store, some_nodes(TEXTS), is_async)
    assert sparse.usage.requests == len(TEXTS) - 1  # the blank one is not sent


async def test_it_is_the_stores_own_type_and_gives_the_embeddings_vectors(sparse):
    function = sparse.as_milvus()
    assert isinstance(function, BaseSparseEmbeddingFunction)
    texts = ["quick dogs", " ", "moon"]
    documents = sparse.get_text_embedding_batch(texts)
    queries = [sparse.get_query_embedding(text) for text in texts]
    assert function.encode_documents(texts) == await function.async_encode_documents(texts) == documents
    assert function.encode_queries(texts) == await function.async_encode_queries(texts) == queries
