"""The three retrievers: LangChain's own standard tests, and what they promise beyond.

Chroma Cloud and Pinecone are stubs that say they are, spoken to by the real clients; vectors come from the local
provider.
"""

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import chromadb
import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pinecone import Pinecone

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
)
from langchain_sparse_embed.retrievers import ChromaHybridRetriever, PineconeHybridRetriever, SparseRetriever
from sparse_embed import AuthenticationError, ConfigurationError, SparseEncoder
from sparse_embed.convert import to_chroma
from sparse_embed.server import local_provider
from tests.stubs.chroma_cloud import ChromaCloudStub, chroma_cloud_stub
from tests.stubs.pinecone_index import PineconeIndexStub, pinecone_index_stub

TEXTS = {
    "loop": "A for loop iterates over the items of a sequence, in order.",
    "with": "A context manager closes the file when the with block ends.",
    "walrus": "The walrus operator binds a name inside an expression.",
    "match": "A match statement compares a subject with case patterns.",
    "yield": "A generator function hands out one value at each yield.",
}
QUERY = "walrus operators in an expression"
METADATA = [{"name": name, "even": at % 2 == 0} for at, name in enumerate(TEXTS)]


class Made(NamedTuple):
    """A retriever over all texts, and how to make one like it.

    Attributes:
        fields: What its constructor got.
        native: The same retriever over the store's asyncio client, made in the running loop.
    """

    retriever: BaseRetriever
    fields: dict[str, Any]
    native: Callable[[AsyncExitStack], Any]


def sparse_at(local: str, **settings: Any) -> ChromaCloudSparseEmbeddings:
    return ChromaCloudSparseEmbeddings(model="local/bm25", base_url=local, api_key="any", **settings)


def dense_at(local: str) -> ChromaCloudEmbeddings:
    return ChromaCloudEmbeddings(model="local/hashing", base_url=local, api_key="any")


def over_nothing(local: str, **settings: Any) -> Made:
    fields = {"sparse_encoder": sparse_at(local, return_tokens=True), **settings}
    retriever = SparseRetriever.from_texts(TEXTS.values(), metadatas=METADATA, ids=TEXTS, **fields)

    async def native(stack: AsyncExitStack) -> SparseRetriever:
        return retriever

    return Made(retriever, fields, native)


def over_chroma(local: str, stub: ChromaCloudStub, **settings: Any) -> Made:
    sparse, dense = sparse_at(local, return_tokens=True), dense_at(local)
    client = chromadb.HttpClient(host="127.0.0.1", port=stub.port)
    collection = client.get_or_create_collection("docs", embedding_function=None)
    texts = list(TEXTS.values())
    kept = [
        {**fields, "sparse_embedding": to_chroma(vector)}
        for fields, vector in zip(METADATA, sparse.embed_documents(texts), strict=True)
    ]
    collection.add(ids=list(TEXTS), documents=texts, embeddings=dense.embed_documents(texts), metadatas=kept)
    common = {"embeddings": dense, "sparse_encoder": sparse, **settings}
    fields = {"collection": collection, **common}

    async def native(stack: AsyncExitStack) -> ChromaHybridRetriever:
        opened = await chromadb.AsyncHttpClient(host="127.0.0.1", port=stub.port)
        there = await opened.get_collection("docs", embedding_function=None)
        return ChromaHybridRetriever(async_collection=there, **common)

    return Made(ChromaHybridRetriever(**fields), fields, native)


def over_pinecone(local: str, stub: PineconeIndexStub, **settings: Any) -> Made:
    common = {"embeddings": dense_at(local), "sparse_encoder": sparse_at(local, return_tokens=True), **settings}
    fields = {"index": Pinecone(api_key="any").Index(host=stub.url), **common}
    retriever = PineconeHybridRetriever(**fields)
    retriever.add_texts(TEXTS.values(), TEXTS, METADATA)

    async def native(stack: AsyncExitStack) -> PineconeHybridRetriever:
        index = await stack.enter_async_context(Pinecone(api_key="any").IndexAsyncio(host=stub.url))
        return PineconeHybridRetriever(async_index=index, **common)

    return Made(retriever, fields, native)


@pytest.fixture
def cloud() -> Iterator[ChromaCloudStub]:
    with chroma_cloud_stub() as stub:
        yield stub


@pytest.fixture
def index() -> Iterator[PineconeIndexStub]:
    with pinecone_index_stub(dimension=384) as stub:
        yield stub


@pytest.fixture(params=["sparse", "chroma", "pinecone"])
def make(request: pytest.FixtureRequest, local: str) -> Callable[..., Made]:
    """Makes each of the three, with more settings."""

    def made(**settings: Any) -> Made:
        match request.param:
            case "sparse":
                return over_nothing(local, **settings)
            case "chroma":
                return over_chroma(local, request.getfixturevalue("cloud"), **settings)
        return over_pinecone(local, request.getfixturevalue("index"), **settings)

    return made


each_mode = pytest.mark.parametrize("mode", ["sync", "async", "native async"])


def ask(made: Made, mode: str, query: str, **given: Any) -> list[Document]:
    if mode == "sync":
        return made.retriever.invoke(query, **given)

    async def asked() -> list[Document]:
        async with AsyncExitStack() as stack:
            retriever = made.retriever if mode == "async" else await made.native(stack)
            return await retriever.ainvoke(query, **given)

    return asyncio.run(asked())


class Standard(RetrieversIntegrationTests):
    retriever_query_example = "a loop over items, a file, a statement, a value, and the name of an operator"
    made: Made

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.made.fields


class TestSparse(Standard):
    @property
    def retriever_constructor(self) -> Any:
        return lambda **fields: SparseRetriever.from_texts(TEXTS.values(), **fields)

    @pytest.fixture(autouse=True)
    def _made(self, local: str) -> None:
        self.made = over_nothing(local)


class TestChroma(Standard):
    retriever_constructor = ChromaHybridRetriever

    @pytest.fixture(autouse=True)
    def _made(self, local: str, cloud: ChromaCloudStub) -> None:
        self.made = over_chroma(local, cloud)


class TestPinecone(Standard):
    retriever_constructor = PineconeHybridRetriever

    @pytest.fixture(autouse=True)
    def _made(self, local: str, index: PineconeIndexStub) -> None:
        self.made = over_pinecone(local, index)


@each_mode
def test_the_passage_asked_for_comes_first_with_its_metadata_and_id(make, mode):
    found = ask(make(), mode, QUERY, k=2)
    assert found[0] == Document(id="walrus", page_content=TEXTS["walrus"], metadata={"name": "walrus", "even": True})


@each_mode
def test_a_filter_holds_back_documents_in_the_constructor_and_in_the_call(make, mode):
    assert {document.metadata["even"] for document in ask(make(filter={"even": False}), mode, QUERY + " match")} == {
        False
    }
    found = ask(make(filter={"even": False}), mode, QUERY, filter={"even": True})
    assert {document.metadata["even"] for document in found} == {True}


@each_mode
def test_scores_and_matched_terms_are_in_the_metadata_on_request(make, mode):
    best, *others = ask(make(score_key="score", terms_key="matched"), mode, QUERY)
    matched = best.metadata["matched"]
    assert set(matched) == {"walrus", "oper", "express"}
    assert list(matched.values()) == sorted(matched.values(), reverse=True)
    assert all(best.metadata["score"] >= other.metadata["score"] for other in others)


def test_what_a_caller_does_to_a_document_stays_with_the_caller(make):
    made = make(score_key="score")
    for _ in range(2):
        [document] = made.retriever.invoke(QUERY, k=1)
        assert set(document.metadata) == {"name", "even", "score"}
        document.metadata.clear()
        document.page_content = "changed"


@each_mode
@pytest.mark.parametrize("k", [0, -1, True, 2.5, "3"])
def test_a_k_that_cannot_be_is_refused(make, mode, k):
    with pytest.raises(ConfigurationError, match="k must be a whole number"):
        ask(make(), mode, QUERY, k=k)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"k": 0}, "k"), ({"top_k": 3}, "top_k"), ({"sparse_encoder": "chroma"}, "sparse_encoder")],
)
def test_a_setting_that_cannot_work_is_refused_at_once(make, wrong, said):
    made = make()
    with pytest.raises(ConfigurationError, match=said):
        type(made.retriever)(**made.fields | wrong)


@each_mode
def test_the_encoders_errors_come_through(make, mode):
    made = make()
    with local_provider(api_key="another") as locked:
        refused = made.retriever.sparse_encoder.model_copy(update={"base_url": locked})
        made = made._replace(retriever=made.retriever.model_copy(update={"sparse_encoder": refused}))
        with pytest.raises(AuthenticationError):
            ask(made, "sync" if mode == "sync" else "async", QUERY)


@each_mode
def test_a_blank_query_is_an_error_of_a_dense_model_and_finds_nothing_without_one(make, mode):
    made = make()
    if isinstance(made.retriever, SparseRetriever):
        assert ask(made, mode, " ") == []
    else:
        with pytest.raises(ConfigurationError, match="blank"):
            ask(made, mode, " ")


@each_mode
def test_a_query_without_terms_is_answered_by_the_dense_model_alone(local, cloud, index, mode):
    assert ask(over_nothing(local), mode, "the of and") == []
    assert len(ask(over_chroma(local, cloud), mode, "the of and")) == 4
    assert len(ask(over_pinecone(local, index), mode, "the of and")) == 4
    assert ask(over_chroma(local, cloud, weights=(0, 1)), mode, "the of and") == []


def test_the_cores_encoder_works_as_it_is(local):
    encoder = SparseEncoder("pinecone", model="local/bm25", base_url=local, api_key="any")
    retriever = SparseRetriever.from_texts(TEXTS.values(), encoder)
    assert retriever.invoke(QUERY)[0].page_content == TEXTS["walrus"]


def test_an_ensemble_fuses_it_with_any_other_retriever(local):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-classic's imports warn of what it deprecates
        retrievers = pytest.importorskip("langchain_classic.retrievers")
    sparse = over_nothing(local).retriever
    from langchain_core.vectorstores import InMemoryVectorStore

    dense = InMemoryVectorStore.from_texts(list(TEXTS.values()), dense_at(local)).as_retriever()
    ensemble = retrievers.EnsembleRetriever(retrievers=[sparse, dense], weights=[0.5, 0.5])
    assert ensemble.invoke(QUERY)[0].page_content == TEXTS["walrus"]
    assert asyncio.run(ensemble.ainvoke(QUERY))[0].page_content == TEXTS["walrus"]
