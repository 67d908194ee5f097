"""LlamaIndex's Pinecone store takes the sparse classes as they are: real store and SDK, a STUB of an index."""

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.pinecone import PineconeVectorStore
from pinecone import Pinecone

from llama_index_sparse_embed import PineconeInferenceEmbedding
from llama_index_sparse_embed.ingestion import SparsePrefetch
from sparse_embed.convert import from_dict
from tests.stubs.pinecone_index import pinecone_index_stub

from .conftest import SPARSE

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "dog": "A dog sleeps; the dog dreams of other dogs.",
    "cat": "Cats ignore quick birds and lazy people alike.",
    "moon": "The moon pulls the tides.",
}


@pytest.fixture
def index():
    with pinecone_index_stub(dimension=64) as stub:
        yield stub


@pytest.fixture
def dense(provider):
    return PineconeInferenceEmbedding(model_name="local/hashing", dimension=64, api_key="any", base_url=provider)


@pytest.fixture(params=SPARSE, ids=lambda cls: cls.__name__)
def sparse(request, provider):
    return request.param(model_name="local/bm25", api_key="any", base_url=provider, cache=1000)


@pytest.fixture
def store(index, sparse):
    return PineconeVectorStore(
        pinecone_index=Pinecone(api_key="any").Index(host=index.url),
        add_sparse_vector=True,
        sparse_embedding_model=sparse,
    )


def some_nodes():
    return [TextNode(id_=name, text=text, metadata={"topic": "animals"}) for name, text in TEXTS.items()]


def ask(store, dense, text, mode, **options):
    query = VectorStoreQuery(
        query_str=text, query_embedding=dense.get_query_embedding(text), mode=mode, similarity_top_k=4, **options
    )
    result = store.query(query)
    return dict(zip(result.ids, result.similarities, strict=True))


def test_what_is_stored_is_the_vector_of_the_text_with_its_metadata(index, store, sparse, dense):
    store.add(dense(some_nodes()))
    for name, record in index.records[""].items():
        stored = dict(zip(record["sparseValues"]["indices"], record["sparseValues"]["values"], strict=True))
        assert stored == pytest.approx(sparse.get_text_embedding(f"topic: animals\n\n{TEXTS[name]}"))


def test_alpha_chooses_between_dense_and_sparse(store, sparse, dense):
    store.add(dense(some_nodes()))
    query = from_dict(sparse.get_query_embedding("quick dogs"))
    expected = {
        name: query.dot(from_dict(sparse.get_text_embedding(f"topic: animals\n\n{text}")))
        for name, text in TEXTS.items()
    }
    found = ask(store, dense, "quick dogs", VectorStoreQueryMode.HYBRID, alpha=0.0)
    assert found == pytest.approx(expected)
    assert list(found) == ["fox", "dog", "cat", "moon"]
    only_dense = ask(store, dense, "quick dogs", VectorStoreQueryMode.HYBRID, alpha=1.0)
    plain = ask(store, dense, "quick dogs", VectorStoreQueryMode.DEFAULT)
    assert list(only_dense) == list(plain)


def test_an_index_retrieves_hybrid(store, dense):
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(some_nodes(), storage_context=context, embed_model=dense)
    retriever = index.as_retriever(vector_store_query_mode="hybrid", alpha=0.3, similarity_top_k=1)
    assert [hit.metadata for hit in retriever.retrieve("sleeping dogs")] == [{"topic": "animals"}]
    assert retriever.retrieve("sleeping dogs")[0].text == TEXTS["dog"]


async def test_behind_a_prefetch_the_store_sends_nothing(index, store, sparse, dense, call):
    sent = []
    add = store.add

    def counted(nodes, **kwargs):
        sent.append(sparse.usage.requests)
        return add(nodes, **kwargs)

    object.__setattr__(store, "add", counted)
    pipeline = IngestionPipeline(transformations=[dense, SparsePrefetch(sparse)], vector_store=store)
    await call(pipeline, "run", nodes=some_nodes())
    assert sent == [sparse.usage.requests] == [1]
    assert set(index.records[""]) == set(TEXTS)
