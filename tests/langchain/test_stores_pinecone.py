"""Pinecone's sparse store, through the real SDK, against a stub of an index."""

import asyncio
import pickle

import httpx
import pytest
from langchain_core.documents import Document
from langchain_pinecone import PineconeSparseVectorStore
from pinecone import Pinecone

from langchain_sparse_embed import ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.testing import fake_clients
from tests.stubs.pinecone_index import pinecone_index_stub

TEXTS = {
    "loop": "A for loop iterates over the items of a sequence, in order.",
    "with": "A context manager closes the file when the with block ends.",
    "walrus": "The walrus operator binds a name inside an expression.",
    "match": "A match statement compares a subject with case patterns.",
}
QUERY = "walrus operators in an expression"
both_ways = pytest.mark.parametrize("mode", ["sync", "async"])
both_classes = pytest.mark.parametrize("cls", [ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings])


@pytest.fixture
def index():
    """A stub of a sparse index."""
    with pinecone_index_stub() as stub:
        yield stub


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    monkeypatch.delenv("CHROMA_API_KEY", raising=False)


def sparse_at(local, cls=PineconeInferenceSparseEmbeddings, **settings):
    return cls(model="local/bm25", base_url=local, api_key="any", **settings)


def store_over(index, embedding):
    return PineconeSparseVectorStore(index=Pinecone(api_key="any").Index(host=index.url), embedding=embedding)


@both_ways
@both_classes
def test_the_passage_asked_for_comes_first_with_the_inner_product_as_its_score(local, index, cls, mode):
    sparse = sparse_at(local, cls)
    store = store_over(index, sparse.as_pinecone())
    documents = [Document(text, metadata={"name": name}) for name, text in TEXTS.items()]

    async def fill_and_search():
        await store.aadd_documents(documents)
        return await store.asimilarity_search_with_score(QUERY, k=2)

    if mode == "sync":
        store.add_documents(documents)
        found = store.similarity_search_with_score(QUERY, k=2)
    else:
        found = asyncio.run(fill_and_search())
    document, score = found[0]
    assert document.metadata == {"name": "walrus"}
    expected = sparse.embed_query(QUERY).dot(sparse.embed_documents([TEXTS["walrus"]])[0])
    assert score == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("search_type", ["similarity", "mmr"])
@both_ways
def test_it_is_a_retriever(local, index, search_type, mode):
    store = store_over(index, sparse_at(local).as_pinecone())
    store.add_texts(list(TEXTS.values()))
    retriever = store.as_retriever(search_type=search_type, search_kwargs={"k": 1})
    [document] = retriever.invoke(QUERY) if mode == "sync" else asyncio.run(retriever.ainvoke(QUERY))
    assert document.page_content == TEXTS["walrus"]


def test_neither_a_key_nor_the_network_is_needed_to_make_one():
    sparse = PineconeInferenceSparseEmbeddings()
    adapter = sparse.as_pinecone()
    assert adapter.model == "pinecone-sparse-english-v0"
    with pytest.raises(ConfigurationError, match="PINECONE_API_KEY"):
        adapter.embed_query("fox")


def test_the_key_is_not_in_it():
    adapter = PineconeInferenceSparseEmbeddings(api_key="secret-4711").as_pinecone()
    assert "secret-4711" not in repr(adapter) + str(adapter.model_dump()) + adapter.model_dump_json()


@both_ways
def test_a_thousand_texts_handed_over_are_split_into_requests_of_the_provider(local, index, mode):
    sparse = sparse_at(local)
    store = store_over(index, sparse.as_pinecone())
    texts = [f"text number{at}" for at in range(1001)]
    if mode == "sync":
        store.add_texts(texts)
    else:
        asyncio.run(store.aadd_texts(texts))
    assert sum(map(len, index.records.values())) == 1001
    assert sparse.usage.requests == 11 + 1  # 1000 in parts of at most 96, and the one that the store keeps back


@both_ways
def test_a_text_without_terms_is_refused_by_position_and_nothing_is_written(local, index, mode):
    store = store_over(index, sparse_at(local).as_pinecone())
    with pytest.raises(ConfigurationError, match="vector 1: the vector is empty, which Pinecone refuses"):
        store.add_texts(["fox", "the of and"]) if mode == "sync" else asyncio.run(store.aadd_texts(["fox", " "]))
    assert not any(path == "vectors/upsert" for path, _ in index.requests)


def test_a_placeholder_stands_for_a_text_without_terms(local, index):
    store = store_over(index, sparse_at(local).as_pinecone(placeholder=SparseVector([0], [1e-6])))
    store.add_texts(["fox", " "], ids=["fox", "blank"])
    assert index.records[""]["blank"]["sparseValues"] == {"indices": [0], "values": [1e-6]}
    assert [document.id for document in store.similarity_search("a fox", k=5)] == ["fox"]


async def test_async_methods_use_the_async_client_alone():
    def refuse(request):
        raise AssertionError("a sync request")

    with httpx.Client(transport=httpx.MockTransport(refuse)) as never:
        clients = fake_clients() | {"http_client": never}
        adapter = PineconeInferenceSparseEmbeddings(api_key="k", **clients).as_pinecone()
        assert (await adapter.aembed_query("fox")).values == [1.0]
        assert [vector.values for vector in await adapter.aembed_documents(["fox fox"])] == [[2.0]]


def test_a_pickle_finds_the_same(local, index):
    store = store_over(index, pickle.loads(pickle.dumps(sparse_at(local).as_pinecone())))
    store.add_texts(list(TEXTS.values()))
    assert store.similarity_search(QUERY, k=1)[0].page_content == TEXTS["walrus"]
