"""The sparse classes plug into a store as they are, alone and beside a dense one."""

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore, RetrievalMode

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
)

TEXTS = {
    "loop": "A for loop iterates over the items of a sequence, in order.",
    "with": "A context manager closes the file when the with block ends.",
    "walrus": "The walrus operator binds a name inside an expression.",
    "match": "A match statement compares a subject with case patterns.",
    "yield": "A generator function hands out one value at each yield.",
}
CLASSES = [
    pytest.param(ChromaCloudSparseEmbeddings, ChromaCloudEmbeddings, id="chroma"),
    pytest.param(PineconeInferenceSparseEmbeddings, PineconeInferenceEmbeddings, id="pinecone"),
]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("retrieval", [RetrievalMode.SPARSE, RetrievalMode.HYBRID])
@pytest.mark.parametrize(("sparse_class", "dense_class"), CLASSES)
def test_the_passage_asked_for_comes_first(local, sparse_class, dense_class, retrieval, mode):
    sparse = sparse_class(model="local/bm25", base_url=local, api_key="any")
    dense = dense_class(model="local/hashing", base_url=local, api_key="any")
    arguments = {
        "embedding": dense if retrieval is RetrievalMode.HYBRID else None,
        "sparse_embedding": sparse,
        "retrieval_mode": retrieval,
        "location": ":memory:",
    }
    documents = [Document(text, metadata={"name": name}) for name, text in TEXTS.items()]

    async def search():
        store = await QdrantVectorStore.afrom_documents(documents, **arguments)
        return await store.asimilarity_search_with_score("walrus operators in an expression", k=3)

    if mode == "sync":
        store = QdrantVectorStore.from_documents(documents, **arguments)
        found = store.similarity_search_with_score("walrus operators in an expression", k=3)
    else:
        found = asyncio.run(search())
    assert found[0][0].metadata["name"] == "walrus"
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)


def test_the_stores_score_is_the_inner_product(local):
    sparse = PineconeInferenceSparseEmbeddings(model="local/bm25", base_url=local, api_key="any")
    store = QdrantVectorStore.from_texts(
        list(TEXTS.values()), sparse_embedding=sparse, retrieval_mode=RetrievalMode.SPARSE, location=":memory:"
    )
    [(document, score)] = store.similarity_search_with_score("closes the file", k=1)
    assert document.page_content == TEXTS["with"]
    assert score == pytest.approx(sparse.embed_query("closes the file").dot(sparse.embed_documents([TEXTS["with"]])[0]))
