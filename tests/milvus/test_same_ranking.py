"""The documents and queries of ``tests/stores/test_same_ranking.py`` through both frameworks' stores in Milvus Lite."""

import pytest
from langchain_milvus import Milvus
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.milvus import MilvusVectorStore

from langchain_sparse_embed import PineconeInferenceSparseEmbeddings
from llama_index_sparse_embed import PineconeInferenceSparseEmbedding
from sparse_embed import SparseEncoder
from sparse_embed.server import local_provider
from tests.stores.twelve import DOCUMENTS, FIRST, NAME_OF

TEXTS = list(DOCUMENTS.values())
K = 3


@pytest.fixture(scope="module")
def known():
    """Settings of classes that ask a local provider."""
    with local_provider() as url:
        yield {"base_url": url, "api_key": "any", "cache": 100}


@pytest.fixture
def expected(known):
    encoder = SparseEncoder("pinecone", model="local/bm25", **known)
    vector_of = dict(zip(DOCUMENTS, encoder.embed_documents(TEXTS), strict=True))
    return {
        query: {name: encoder.embed_query(query).dot(vector_of[name]) for name in names}
        for query, names in FIRST.items()
    }


def assert_same(found, expected):
    assert {query: list(scores) for query, scores in found.items()} == FIRST
    for query, scores in expected.items():
        assert found[query] == pytest.approx(scores, rel=1e-6)


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_langchain(way, known, tmp_path, expected):
    sparse = PineconeInferenceSparseEmbeddings(model="local/bm25", **known)
    store = Milvus(
        embedding_function=sparse.as_milvus(),
        connection_args={"uri": str(tmp_path / "milvus.db")},
        index_params={"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP", "params": {}},
        search_params={"metric_type": "IP", "params": {}},
        auto_id=True,
    )
    search = store.similarity_search_with_score if way == "sync" else store.asimilarity_search_with_score
    await store.aadd_texts(TEXTS) if way == "async" else store.add_texts(TEXTS)
    found = {}
    for query in FIRST:
        hits = search(query, k=K) if way == "sync" else await search(query, k=K)
        found[query] = {NAME_OF[document.page_content]: score for document, score in hits}
    assert_same(found, expected)
    if way == "async":
        await store.aclient.close()
    store.client.close()


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_llama_index(way, known, tmp_path, expected):
    sparse = PineconeInferenceSparseEmbedding(model_name="local/bm25", **known)
    store = MilvusVectorStore(
        str(tmp_path / "milvus.db"),
        enable_dense=False,
        enable_sparse=True,
        sparse_embedding_function=sparse.as_milvus(),
        use_async_client=way == "async",
    )
    nodes = [TextNode(text=text) for text in TEXTS]
    await store.async_add(nodes) if way == "async" else store.add(nodes)
    found = {}
    for query in FIRST:
        asked = VectorStoreQuery(query_str=query, mode=VectorStoreQueryMode.SPARSE, similarity_top_k=K)
        hits = await store.aquery(asked) if way == "async" else store.query(asked)
        found[query] = {NAME_OF[node.text]: score for node, score in zip(hits.nodes, hits.similarities, strict=True)}
    assert_same(found, expected)
    store.client.close()
    if way == "async":
        await store.aclient.close()
