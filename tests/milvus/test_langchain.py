"""Sparse and hybrid search through LangChain's store in a real Milvus Lite, and the promises of its sparse encoder."""

import asyncio

import pytest
from langchain_milvus import Milvus
from langchain_milvus.utils.sparse import BaseSparseEmbedding

from langchain_sparse_embed import PineconeInferenceEmbeddings, PineconeInferenceSparseEmbeddings
from sparse_embed import SparseVector
from sparse_embed.server import local_provider
from sparse_embed.testing.conformance import SparseConformance

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "dog": "A dog sleeps; the dog dreams of other dogs.",
    "cat": "Cats ignore quick birds and lazy people alike.",
    "moon": "The moon pulls the tides.",
    "blank": " ",
}
# Explicit ones: the store's own defaults ask for an index without the lightest fifth of the weights.
SPARSE_INDEX = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP", "params": {}}
SPARSE_SEARCH = {"metric_type": "IP", "params": {}}
DENSE_INDEX = {"index_type": "FLAT", "metric_type": "COSINE", "params": {}}
DENSE_SEARCH = {"metric_type": "COSINE", "params": {}}


@pytest.fixture(scope="module")
def known():
    """Settings of classes that ask a local provider."""
    with local_provider() as url:
        yield {"base_url": url, "api_key": "any"}


@pytest.fixture
def sparse(known):
    return PineconeInferenceSparseEmbeddings(model="local/bm25", **known)


@pytest.fixture
def connection(tmp_path):
    return {"uri": str(tmp_path / "milvus.db")}


def use(mode, store, texts, question, **ranker):
    """Make a store, fill and ask it: the names that it found, with their scores."""

    async def fill_and_ask():
        made = store()  # on the loop: elsewhere it gets no async client (langchain-milvus 0.3.3)
        await made.aadd_texts(list(texts.values()), metadatas=[{"name": name} for name in texts])
        found = await made.asimilarity_search_with_score(question, k=5, **ranker)
        await made.aclient.close()
        made.client.close()
        return found

    if mode == "async":
        found = asyncio.run(fill_and_ask())
    else:
        made = store()
        made.add_texts(list(texts.values()), metadatas=[{"name": name} for name in texts])
        found = made.similarity_search_with_score(question, k=5, **ranker)
        made.client.close()
    return {document.metadata["name"]: score for document, score in found}


def sparse_store(sparse, connection):
    return lambda: Milvus(
        embedding_function=sparse.as_milvus(),
        connection_args=connection,
        index_params=SPARSE_INDEX,
        search_params=SPARSE_SEARCH,
        auto_id=True,
    )


both_ways = pytest.mark.parametrize("mode", ["sync", "async"])


@both_ways
def test_sparse_search_ranks_by_the_dot_product(sparse, connection, mode):
    query = sparse.embed_query("quick dogs")
    vectors = dict(zip(TEXTS, sparse.embed_documents(list(TEXTS.values())), strict=True))
    expected = {name: query.dot(vector) for name, vector in vectors.items()}
    found = use(mode, sparse_store(sparse, connection), TEXTS, "quick dogs")
    assert list(found) == ["fox", "dog", "cat"]
    assert found == pytest.approx({name: score for name, score in expected.items() if score}, rel=1e-5)


@both_ways
def test_a_query_without_terms_finds_nothing(sparse, connection, mode):
    assert use(mode, sparse_store(sparse, connection), TEXTS, " ") == {}


# Milvus Lite 2.5.1 knows the older form of rankers alone, of which langchain-milvus 0.3.3 warns.
@pytest.mark.filterwarnings("ignore:The 'ranker_type' and 'ranker_params' parameters are deprecated:DeprecationWarning")
@both_ways
def test_hybrid_search_fuses_dense_and_sparse(sparse, known, connection, mode):
    def store():
        return Milvus(
            embedding_function=[PineconeInferenceEmbeddings(model="local/hashing", **known), sparse.as_milvus()],
            vector_field=["dense", "sparse"],
            connection_args=connection,
            index_params=[DENSE_INDEX, SPARSE_INDEX],
            search_params=[DENSE_SEARCH, SPARSE_SEARCH],
            auto_id=True,
        )

    texts = {name: text for name, text in TEXTS.items() if text.strip()}  # a blank text has no dense vector
    found = use(mode, store, texts, "a dog dreams", ranker_type="rrf", ranker_params={"k": 60})
    assert next(iter(found)) == "dog"
    assert len(found) == 4, "the dense half finds what shares no term"


class TestMilvus(SparseConformance):
    def make_encoder(self, **settings):
        adapter = PineconeInferenceSparseEmbeddings(**settings).as_milvus()
        assert isinstance(adapter, BaseSparseEmbedding)
        return adapter

    def back(self, weights):
        assert type(weights) is dict
        return SparseVector(list(weights), list(weights.values()))

    def embed_documents(self, encoder, texts):
        return [self.back(weights) for weights in encoder.embed_documents(texts)]

    def embed_query(self, encoder, text):
        return self.back(encoder.embed_query(query=text))

    async def aembed_documents(self, encoder, texts):
        return [self.back(weights) for weights in await encoder.aembed_documents(texts)]

    async def aembed_query(self, encoder, text):
        return self.back(await encoder.aembed_query(query=text))
