"""The same documents and queries through every store seam: the same documents come first, with the same scores.

Milvus is in ``tests/milvus``, which has an environment of its own.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import chromadb
import psycopg
import pytest
import qdrant_edge
from langchain_chroma import Chroma
from langchain_pinecone import PineconeSparseVectorStore
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.pinecone import PineconeVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexQdrantVectorStore
from pinecone import Pinecone
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
)
from langchain_sparse_embed.retrievers import ChromaHybridRetriever, PineconeHybridRetriever, SparseRetriever
from llama_index_sparse_embed import (
    ChromaCloudEmbedding,
    ChromaCloudSparseEmbedding,
    PineconeInferenceSparseEmbedding,
)
from llama_index_sparse_embed.retrievers import ChromaHybridRetriever as LlamaIndexChromaHybridRetriever
from llama_index_sparse_embed.retrievers import SparseRetriever as LlamaIndexSparseRetriever
from sparse_embed import SparseEncoder, SparseVector
from sparse_embed.convert import convert_all, from_dict, from_pgvector, to_dict, to_pgvector, to_pinecone, to_qdrant
from sparse_embed.index import InvertedIndex
from sparse_embed.server import local_provider
from sparse_embed.stores.chroma import open_collection
from tests.stores.twelve import DOCUMENTS, FIRST, NAME_OF
from tests.stubs.chroma_cloud import chroma_cloud_stub
from tests.stubs.pinecone_index import pinecone_index_stub

Ranking = list[tuple[str, float]]
Search = Callable[[str], Awaitable[Ranking]]
NAMES, TEXTS = list(DOCUMENTS), list(DOCUMENTS.values())
K = 3
DIMENSION = 384  # of local/hashing
WIDEST = 1_000_000_000  # sparsevec
FLOAT32 = 1e-6  # what all stores keep


class At:
    """What a seam is built from: the provider's address, a folder, and whether to go the async way."""

    def __init__(self, local: str, folder: Path, stack: AsyncExitStack, *, is_async: bool) -> None:
        self.settings: Any = {"base_url": local, "api_key": "any", "cache": 100}
        self.folder = folder
        self.stack = stack
        self.is_async = is_async

    @property
    def langchain(self) -> PineconeInferenceSparseEmbeddings:
        return PineconeInferenceSparseEmbeddings(model="local/bm25", **self.settings)

    @property
    def llama_index(self) -> PineconeInferenceSparseEmbedding:
        return PineconeInferenceSparseEmbedding(model_name="local/bm25", **self.settings)

    @property
    def qdrant_path(self) -> Any:
        # Unless told, qdrant-client 1.20 asks SQLite about threads and leaves that connection open: Python 3.13 warns.
        return {"path": str(self.folder), "force_disable_check_same_thread": True}

    async def call(self, target: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        """A method, or its async twin."""
        if not self.is_async:
            return getattr(target, name)(*args, **kwargs)
        return await getattr(target, "async_add" if name == "add" else f"a{name}")(*args, **kwargs)


async def langchain_qdrant(at: At, sparse: Any, **where: Any) -> Search:
    settings = {"embedding": None, "sparse_embedding": sparse, "retrieval_mode": RetrievalMode.SPARSE, **where}
    store = await at.call(QdrantVectorStore, "from_texts", TEXTS, **settings)
    at.stack.callback(store.client.close)

    async def search(query: str) -> Ranking:
        found = await at.call(store, "similarity_search_with_score", query, k=K)
        return [(NAME_OF[document.page_content], score) for document, score in found]

    return search


async def langchain_qdrant_memory(at: At) -> Search:
    return await langchain_qdrant(at, at.langchain, location=":memory:")


async def langchain_qdrant_path(at: At) -> Search:
    return await langchain_qdrant(at, at.langchain.as_qdrant(), **at.qdrant_path)


async def langchain_pinecone(at: At) -> Search:
    stub = at.stack.enter_context(pinecone_index_stub())
    store = PineconeSparseVectorStore(
        index=Pinecone(api_key="any").Index(host=stub.url), embedding=at.langchain.as_pinecone()
    )
    await at.call(store, "add_texts", TEXTS)

    async def search(query: str) -> Ranking:
        found = await at.call(store, "similarity_search_with_score", query, k=K)
        return [(NAME_OF[document.page_content], score) for document, score in found]

    return search


def langchain_retriever(at: At, retriever: Any) -> Search:
    async def search(query: str) -> Ranking:
        found = await at.call(retriever, "invoke", query)
        return [(NAME_OF[document.page_content], document.metadata["score"]) for document in found]

    return search


async def langchain_sparse_retriever(at: At) -> Search:
    retriever = SparseRetriever.from_texts(TEXTS, at.langchain, k=K, score_key="score")
    return langchain_retriever(at, retriever)


async def langchain_pinecone_hybrid_retriever(at: At) -> Search:
    stub = at.stack.enter_context(pinecone_index_stub(dimension=DIMENSION))
    retriever = PineconeHybridRetriever(
        index=Pinecone(api_key="any").Index(host=stub.url),
        embeddings=PineconeInferenceEmbeddings(model="local/hashing", **at.settings),
        sparse_encoder=at.langchain,
        alpha=0,
        k=K,
        score_key="score",
    )
    await at.call(retriever, "add_texts", TEXTS)
    return langchain_retriever(at, retriever)


def nodes() -> list[TextNode]:
    dense = [1.0] * DIMENSION  # both stores insist on one
    return [TextNode(id_=str(UUID(int=number)), text=text, embedding=dense) for number, text in enumerate(TEXTS)]


async def llama_index_store(at: At, store: Any) -> Search:
    await at.call(store, "add", nodes())

    async def search(query: str) -> Ranking:
        asked = VectorStoreQuery(query_str=query, mode=VectorStoreQueryMode.SPARSE, similarity_top_k=K, sparse_top_k=K)
        found = await at.call(store, "query", asked)
        return [(NAME_OF[node.text], score) for node, score in zip(found.nodes, found.similarities, strict=True)]

    return search


async def llama_index_qdrant(at: At, **where: Any) -> Search:
    clients: Any
    if at.is_async:
        clients = {"aclient": AsyncQdrantClient(**where)}
        at.stack.push_async_callback(clients["aclient"].close)
    else:
        clients = {"client": QdrantClient(**where)}
        at.stack.callback(clients["client"].close)
    # Qdrant's local mode warns that it has no index of documents' ids.
    return await llama_index_store(
        at, LlamaIndexQdrantVectorStore("twelve", index_doc_id=False, **clients, **at.llama_index.qdrant_kwargs())
    )


async def llama_index_qdrant_memory(at: At) -> Search:
    return await llama_index_qdrant(at, location=":memory:")


async def llama_index_qdrant_path(at: At) -> Search:
    return await llama_index_qdrant(at, **at.qdrant_path)


async def llama_index_pinecone(at: At) -> Search:
    stub = at.stack.enter_context(pinecone_index_stub(dimension=DIMENSION))
    index = Pinecone(api_key="any").Index(host=stub.url)
    store = PineconeVectorStore(index, add_sparse_vector=True, sparse_embedding_model=at.llama_index)
    return await llama_index_store(at, store)


async def llama_index_sparse_retriever(at: At) -> Search:
    retriever = LlamaIndexSparseRetriever.from_nodes(nodes(), at.llama_index, similarity_top_k=K)

    async def search(query: str) -> Ranking:
        return [(NAME_OF[hit.text], hit.score) for hit in await at.call(retriever, "retrieve", query)]

    return search


FRAMEWORKS = [
    langchain_qdrant_memory,
    langchain_qdrant_path,
    langchain_pinecone,
    langchain_pinecone_hybrid_retriever,
    langchain_sparse_retriever,
    llama_index_qdrant_memory,
    llama_index_qdrant_path,
    llama_index_pinecone,
    llama_index_sparse_retriever,
]


@pytest.fixture(scope="module")
def local() -> Iterator[str]:
    with local_provider() as url:
        yield url


@pytest.fixture(scope="module")
def encoder(local: str) -> SparseEncoder:
    return SparseEncoder("pinecone", model="local/bm25", base_url=local, api_key="any", cache=100)


@pytest.fixture(scope="module")
def vectors(encoder: SparseEncoder) -> list[SparseVector]:
    return encoder.embed_documents(TEXTS)


@pytest.fixture(scope="module")
def expected(encoder: SparseEncoder, vectors: list[SparseVector]) -> dict[str, Ranking]:
    """What is written down in ``twelve``, with the inner products of the core."""
    of = dict(zip(NAMES, vectors, strict=True))
    return {
        query: [(name, encoder.embed_query(query).dot(of[name])) for name in names] for query, names in FIRST.items()
    }


def assert_same(found: Mapping[str, Ranking], expected: Mapping[str, Ranking]) -> None:
    for query, ranking in expected.items():
        # PostgreSQL, and a Pinecone index with dense vectors, fill up with documents that share no term.
        scores = {name: score for name, score in found[query] if score}
        assert list(scores) == [name for name, _ in ranking], query
        assert scores == pytest.approx(dict(ranking), rel=FLOAT32)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("seam", FRAMEWORKS, ids=lambda seam: seam.__name__)
async def test_every_seam_of_the_frameworks(
    seam: Callable[[At], Awaitable[Search]], way: str, local: str, tmp_path: Path, expected: dict[str, Ranking]
) -> None:
    async with AsyncExitStack() as stack:
        search = await seam(At(local, tmp_path, stack, is_async=way == "async"))
        assert_same({query: await search(query) for query in FIRST}, expected)


# Without a framework: the core's vectors, converted.

Direct = Callable[[SparseVector], Ranking]
Filled = AbstractContextManager[Direct]


@contextmanager
def qdrant(vectors: list[SparseVector], folder: Path, *, idf: bool = False) -> Iterator[Direct]:
    client = QdrantClient(":memory:")
    modifier = models.Modifier.IDF if idf else None
    client.create_collection("twelve", {}, {"sparse": models.SparseVectorParams(modifier=modifier)})
    points = enumerate(convert_all(to_qdrant, vectors))
    client.upsert("twelve", [models.PointStruct(id=at, vector={"sparse": vector}) for at, vector in points])

    def search(query: SparseVector) -> Ranking:
        found = client.query_points("twelve", query=to_qdrant(query), using="sparse", limit=K)
        return [(NAMES[point.id], point.score) for point in found.points]

    yield search
    client.close()


@contextmanager
def qdrant_engine(vectors: list[SparseVector], folder: Path, *, idf: bool = False) -> Iterator[Direct]:
    """The engine of the Qdrant server, in this process: Qdrant's local mode is another program, in Python."""
    modifier = qdrant_edge.Modifier.Idf if idf else None
    sparse = {"sparse": qdrant_edge.EdgeSparseVectorParams(modifier=modifier)}
    shard = qdrant_edge.EdgeShard.create(str(folder), qdrant_edge.EdgeConfig(sparse_vectors=sparse))

    def its_own(vector: SparseVector) -> qdrant_edge.SparseVector:
        checked = to_qdrant(vector)
        return qdrant_edge.SparseVector(checked.indices, checked.values)

    points = [qdrant_edge.Point(at, {"sparse": its_own(vector)}) for at, vector in enumerate(vectors)]
    shard.update(qdrant_edge.UpdateOperation.upsert_points(points))

    def search(query: SparseVector) -> Ranking:
        nearest = qdrant_edge.Query.Nearest(its_own(query), using="sparse")
        found = shard.query(qdrant_edge.QueryRequest(limit=K, query=nearest))
        return [(NAMES[point.id], point.score) for point in found]

    yield search
    shard.close()


@contextmanager
def inverted_index(vectors: list[SparseVector], folder: Path, *, idf: bool = False) -> Iterator[Direct]:
    index = InvertedIndex(idf=idf)
    index.add(NAMES, vectors)
    yield lambda query: [(hit.id, hit.score) for hit in index.search(query, K)]


@contextmanager
def pinecone(vectors: list[SparseVector], folder: Path) -> Iterator[Direct]:
    with pinecone_index_stub() as stub:
        index = Pinecone(api_key="any").Index(host=stub.url)
        records = zip(NAMES, convert_all(to_pinecone, vectors), strict=True)
        index.upsert([{"id": name, "sparse_values": vector} for name, vector in records])

        def search(query: SparseVector) -> Ranking:
            found = index.query(sparse_vector=to_pinecone(query), top_k=K)
            return [(match.id, match.score) for match in found.matches]

        yield search


@pytest.mark.parametrize("store", [qdrant, qdrant_engine, inverted_index, pinecone], ids=lambda s: s.__name__)
def test_every_store_without_a_framework(
    store: Callable[..., Filled],
    tmp_path: Path,
    encoder: SparseEncoder,
    vectors: list[SparseVector],
    expected: dict[str, Ranking],
) -> None:
    with store(vectors, tmp_path) as search:
        assert_same({query: search(encoder.embed_query(query)) for query in FIRST}, expected)


@pytest.mark.parametrize("store", [qdrant, inverted_index], ids=lambda store: store.__name__)
def test_idf_is_that_of_qdrants_engine(
    store: Callable[..., Filled], tmp_path: Path, encoder: SparseEncoder, vectors: list[SparseVector]
) -> None:
    queries = {query: encoder.embed_query(query) for query in FIRST}
    with qdrant_engine(vectors, tmp_path, idf=True) as search:
        expected = {query: search(vector) for query, vector in queries.items()}
    with store(vectors, tmp_path, idf=True) as search:
        assert_same({query: search(vector) for query, vector in queries.items()}, expected)


def test_postgres_ranks_alike_and_returns_what_it_was_given(
    postgres: str, encoder: SparseEncoder, vectors: list[SparseVector], expected: dict[str, Ranking]
) -> None:
    def folded(vector: SparseVector) -> SparseVector:
        """Ids of BM25 reach 2³¹, and a sparsevec 10⁹."""
        return from_dict({index % WIDEST: value for index, value in to_dict(vector).items()})

    held = [folded(vector) for vector in vectors]
    assert [vector.nnz for vector in held] == [vector.nnz for vector in vectors], "no two ids fell together"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(f"CREATE TEMPORARY TABLE twelve (name text, weights sparsevec({WIDEST}))")
        rows = [(name, to_pgvector(vector, WIDEST)) for name, vector in zip(NAMES, held, strict=True)]
        connection.cursor().executemany("INSERT INTO twelve VALUES (%s, %s)", rows)

        def search(query: str) -> Ranking:
            # The operator gives the negative inner product.
            best = "SELECT name, -(weights <#> %s::sparsevec) AS score FROM twelve ORDER BY score DESC LIMIT %s"
            asked = to_pgvector(folded(encoder.embed_query(query)), WIDEST)
            return connection.execute(best, [asked, K]).fetchall()

        assert_same({query: search(query) for query in FIRST}, expected)
        stored = dict(connection.execute("SELECT name, weights::text FROM twelve").fetchall())
    for name, vector in zip(NAMES, held, strict=True):
        back = from_pgvector(stored[name])
        assert back.indices == vector.indices
        assert back.values == pytest.approx(vector.values, rel=FLOAT32)


def chroma_langchain(url: str, client: chromadb.ClientAPI) -> Any:
    settings: Any = {"base_url": url, "api_key": "any"}
    dense = ChromaCloudEmbeddings(model="local/hashing", **settings)
    sparse = ChromaCloudSparseEmbeddings(model="local/bm25", **settings)
    collection = open_collection(client, "twelve", sparse.as_chroma())
    Chroma(client=client, collection_name="twelve", embedding_function=dense).add_texts(TEXTS)
    return ChromaHybridRetriever(collection=collection, embeddings=dense, sparse_encoder=sparse, weights=(0, 1), k=K)


def chroma_llama_index(url: str, client: chromadb.ClientAPI) -> Any:
    settings: Any = {"base_url": url, "api_key": "any"}
    dense = ChromaCloudEmbedding(model_name="local/hashing", **settings)
    sparse = ChromaCloudSparseEmbedding(model_name="local/bm25", **settings)
    collection = open_collection(client, "twelve", sparse.as_chroma())
    ChromaVectorStore(collection).add(nodes())
    return LlamaIndexChromaHybridRetriever(collection, dense=dense, sparse=sparse, weights=(0, 1), similarity_top_k=K)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("seam", [chroma_langchain, chroma_llama_index], ids=lambda seam: seam.__name__)
async def test_chroma_cloud(seam: Callable[[str, chromadb.ClientAPI], Any], way: str, local: str) -> None:
    """Ranks only: Chroma's score is made of them. Its cloud is a stub, spoken to by the real client."""
    with chroma_cloud_stub() as stub:
        retriever = seam(local, chromadb.HttpClient(host="127.0.0.1", port=stub.port))
        name = ("" if way == "sync" else "a") + ("invoke" if seam is chroma_langchain else "retrieve")
        for query, names in FIRST.items():
            found = getattr(retriever, name)(query)
            found = found if way == "sync" else await found
            texts = [one.page_content if seam is chroma_langchain else one.text for one in found]
            assert [NAME_OF[text] for text in texts] == names
