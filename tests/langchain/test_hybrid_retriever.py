"""`HybridRetriever` fuses the rankings of any retrievers, in sync and async code."""

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_sparse_embed import ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings
from langchain_sparse_embed.retrievers import HybridRetriever, SparseRetriever
from sparse_embed import ConfigurationError

each_mode = pytest.mark.parametrize("mode", ["sync", "async"])


class Fixed(BaseRetriever):
    """Always returns these documents."""

    documents: list[Document]
    meeting: Any = None

    def _get_relevant_documents(self, query, *, run_manager):
        if self.meeting:
            self.meeting.wait(60)
        return self.documents

    async def _aget_relevant_documents(self, query, *, run_manager):
        if self.meeting:
            await self.meeting.wait()
        return self.documents


def fixed(*texts: str, **fields: Any) -> Fixed:
    return Fixed(documents=[Document(text) for text in texts], **fields)


def ask(mode: str, retriever: BaseRetriever, query: str = "q", **given: Any) -> list[Document]:
    return retriever.invoke(query, **given) if mode == "sync" else asyncio.run(retriever.ainvoke(query, **given))


def texts_of(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


@each_mode
def test_a_score_is_the_sum_of_weight_by_reciprocal_rank(mode):
    hybrid = HybridRetriever(retrievers=[fixed("a", "b"), fixed("b", "c")], weights=[1, 2], score_key="score")
    scores = {one.page_content: one.metadata["score"] for one in ask(mode, hybrid)}
    assert scores == pytest.approx({"b": 1 / 62 + 2 / 61, "c": 2 / 62, "a": 1 / 61})
    assert list(scores) == ["b", "c", "a"]


@each_mode
def test_weights_and_k_are_honoured(mode):
    retrievers = [fixed("a", "b"), fixed("b", "a")]
    assert texts_of(ask(mode, HybridRetriever(retrievers=retrievers, weights=[2, 1], k=1))) == ["a"]
    assert texts_of(ask(mode, HybridRetriever(retrievers=retrievers, weights=[1, 2]), k=1)) == ["b"]
    assert len(ask(mode, HybridRetriever(retrievers=[fixed(*"abcdef"), fixed()]))) == 4


@each_mode
def test_the_retrievers_run_at_the_same_time(mode):
    meeting = threading.Barrier(2) if mode == "sync" else asyncio.Barrier(2)
    hybrid = HybridRetriever(retrievers=[fixed("a", meeting=meeting), fixed("b", meeting=meeting)])
    assert texts_of(ask(mode, hybrid)) == ["a", "b"]


@each_mode
def test_documents_are_copies_with_the_metadata_of_every_retriever(mode):
    left, right = Document("a", metadata={"n": 1}), Document("a", metadata={"n": 2, "terms": {"a": 1.0}})
    hybrid = HybridRetriever(retrievers=[Fixed(documents=[left]), Fixed(documents=[right])])
    [found] = ask(mode, hybrid)
    assert found.metadata == {"n": 1, "terms": {"a": 1.0}}
    assert left.metadata == {"n": 1}


@each_mode
def test_id_key_names_the_field_that_identifies_a_document(mode):
    left, right = Document("a", metadata={"id": 1}), Document("a", metadata={"id": 2})
    retrievers = [Fixed(documents=[left, right]), Fixed(documents=[right])]
    assert len(ask(mode, HybridRetriever(retrievers=retrievers))) == 1
    assert [one.metadata["id"] for one in ask(mode, HybridRetriever(retrievers=retrievers, id_key="id"))] == [2, 1]
    with pytest.raises(ConfigurationError, match="no field 'name' in its metadata"):
        ask(mode, HybridRetriever(retrievers=retrievers, id_key="name"))


@each_mode
def test_one_failure_is_raised_as_it_is(mode):
    class Failing(Fixed):
        def _get_relevant_documents(self, query, *, run_manager):
            raise LookupError("gone")

        async def _aget_relevant_documents(self, query, *, run_manager):
            raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        ask(mode, HybridRetriever(retrievers=[fixed("a"), Failing(documents=[])]))


@each_mode
def test_each_retriever_is_a_child_of_the_hybrid_run(mode):
    parents = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, serialized, query, *, run_id, parent_run_id=None, tags=None, **_):
            parents.append((tags, parent_run_id))

    hybrid = HybridRetriever(retrievers=[fixed("a"), fixed("b")])
    ask(mode, hybrid, config={"callbacks": [Handler()]})
    (_, root), *children = parents
    assert root is None
    assert sorted(tags[0] for tags, _ in children) == ["retriever_1", "retriever_2"]
    assert all(parent is not None for _, parent in children)


@each_mode
def test_dense_and_sparse_fuse_without_langchain_classic(mode, local):
    texts = ["the quick brown fox jumps", "a lazy dog dreams of dogs", "the moon pulls the tides"]
    known = {"base_url": local, "api_key": "any"}
    dense = InMemoryVectorStore.from_texts(texts, ChromaCloudEmbeddings(model="local/hashing", **known))
    encoder = ChromaCloudSparseEmbeddings(model="local/bm25", **known)
    sparse = SparseRetriever.from_texts(texts, encoder, terms_key="terms")
    hybrid = HybridRetriever(retrievers=[dense.as_retriever(), sparse])
    best = ask(mode, hybrid, "dreaming dogs")[0]
    assert best.page_content == texts[1]
    assert best.metadata["terms"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"retrievers": []}, "at least one retriever"),
        ({"weights": [1]}, "2 retrievers and 1 weights"),
        ({"weights": [1, 0]}, "weights must be greater than 0"),
        ({"weights": [1, float("nan")]}, "weights must be greater than 0"),
        ({"rrf_k": 0}, "rrf_k must be a whole number of at least 1"),
        ({"k": 0}, "k"),
        ({"weigths": [1, 1]}, "did you mean weights?"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(wrong, said):
    with pytest.raises(ConfigurationError) as caught:
        HybridRetriever(**{"retrievers": [fixed(), fixed()]} | wrong)
    assert said in caught.value.message
