"""The typed object for Qdrant. That the classes plug in as they are is in ``test_qdrant``."""

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore, RetrievalMode

from langchain_sparse_embed import ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings

TEXTS = {"fox": "the quick brown fox", "dog": "a lazy dog", "blank": " "}


@pytest.mark.parametrize("where", ["memory", "path"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("retrieval", [RetrievalMode.SPARSE, RetrievalMode.HYBRID])
def test_the_passage_asked_for_comes_first(local, tmp_path, retrieval, mode, where):
    known = {"base_url": local, "api_key": "any"}
    # Unless told, qdrant-client 1.20 asks SQLite about threads and leaves that connection open: Python 3.13 warns.
    path = {"path": str(tmp_path), "force_disable_check_same_thread": True}
    hybrid = retrieval is RetrievalMode.HYBRID
    texts = {name: text for name, text in TEXTS.items() if text.strip() or not hybrid}  # no dense vector for a blank
    documents = [Document(text, metadata={"name": name}) for name, text in texts.items()]
    arguments = {
        "embedding": ChromaCloudEmbeddings(model="local/hashing", **known) if hybrid else None,
        "sparse_embedding": ChromaCloudSparseEmbeddings(model="local/bm25", **known).as_qdrant(),
        "retrieval_mode": retrieval,
    } | ({"location": ":memory:"} if where == "memory" else path)

    async def fill_and_search():
        store = await QdrantVectorStore.afrom_documents(documents, **arguments)
        return store, await store.asimilarity_search("brown foxes", k=3)

    if mode == "sync":
        store = QdrantVectorStore.from_documents(documents, **arguments)
        found = store.similarity_search("brown foxes", k=3)
    else:
        store, found = asyncio.run(fill_and_search())
    assert found[0].metadata["name"] == "fox"
    if not hybrid:
        assert [document.metadata["name"] for document in found] == ["fox"], "what shares no term is not found"
        assert store.similarity_search(" ", k=3) == []
    assert store.client.count(store.collection_name).count == len(texts), "a blank document is kept"
    store.client.close()
