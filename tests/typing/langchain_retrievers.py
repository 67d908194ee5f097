"""Uses of the LangChain retrievers and configuration functions that type checkers must accept. Never executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import chromadb
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
    init_embeddings,
    init_sparse_embeddings,
)
from langchain_sparse_embed.retrievers import (
    ChromaHybridRetriever,
    HybridRetriever,
    PineconeHybridRetriever,
    SparseRetriever,
)
from sparse_embed import SparseEncoder

assert_type(init_embeddings("chroma"), ChromaCloudEmbeddings | PineconeInferenceEmbeddings)
assert_type(
    init_sparse_embeddings({"provider": "pinecone", "batch_size": 10}, return_tokens=True),
    ChromaCloudSparseEmbeddings | PineconeInferenceSparseEmbeddings,
)


def recent(metadata: Mapping[str, Any]) -> bool:
    return bool(metadata["year"] > 2000)


sparse = SparseRetriever(sparse_encoder=ChromaCloudSparseEmbeddings(), k=3, idf=True, filter=recent, score_key="score")
anything: BaseRetriever = sparse
assert_type(
    SparseRetriever.from_texts(["a"], SparseEncoder("chroma"), [{"year": 2026}], ids=["a"], k=1), SparseRetriever
)
assert_type(SparseRetriever.from_documents([Document("a")], init_sparse_embeddings("chroma")), SparseRetriever)
assert_type(SparseRetriever.load(Path("index"), SparseEncoder("chroma"), filter={"year": 2026}), SparseRetriever)
assert_type(sparse.add_documents([Document("a")]), list[str])
assert_type(sparse.delete(["a"]), int)
assert_type(sparse.invoke("a", k=2, filter={"year": 2026}), list[Document])
sparse.save("index")
assert_type(sparse.similarity_search_with_score("a", 2), list[tuple[Document, float]])
assert_type(len(sparse), int)
SparseRetriever.load("index", SparseEncoder("chroma"), check_model=False)

hybrid = HybridRetriever(retrievers=[sparse, anything], weights=[1, 0.5], k=10, id_key="id", score_key="score")
assert_type(hybrid.invoke("a", k=2), list[Document])

over_chroma = ChromaHybridRetriever(
    collection=chromadb.HttpClient().get_collection("docs"),
    embeddings=init_embeddings("chroma"),
    sparse_encoder=ChromaCloudSparseEmbeddings(),
    weights=(2, 1),
    filter=chromadb.K("year") > 2000,
    terms_key="matched",
)
over_pinecone = PineconeHybridRetriever(
    index=object(),
    embeddings=PineconeInferenceEmbeddings(),
    sparse_encoder=PineconeInferenceSparseEmbeddings(),
    alpha=0.3,
    namespace="docs",
    filter={"year": {"$gt": 2000}},
)
assert_type(over_pinecone.add_texts(["a"], metadatas=[{"year": 2026}]), list[str])


async def asynchronous() -> None:
    assert_type(await sparse.aadd_documents([Document("a")], ids=["a"]), list[str])
    assert_type(await over_chroma.ainvoke("a", k=2), list[Document])
    assert_type(await over_pinecone.ainvoke("a", alpha=1), list[Document])
    assert_type(await over_pinecone.aadd_texts(["a"]), list[str])
    over_async = ChromaHybridRetriever(
        async_collection=await (await chromadb.AsyncHttpClient()).get_collection("docs"),
        embeddings=ChromaCloudEmbeddings(),
        sparse_encoder=ChromaCloudSparseEmbeddings(),
    )
    assert_type(await over_async.ainvoke("a"), list[Document])
