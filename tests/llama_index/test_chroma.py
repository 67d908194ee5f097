"""Chroma through LlamaIndex's store and `ChromaHybridRetriever`: the real client against a STUB of Chroma Cloud.

Sparse indexes and search exist in no Chroma that can be run; what a local one refuses is tested with a real one.
"""

import chromadb
import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import MetadataMode, QueryBundle, TextNode
from llama_index.vector_stores.chroma import ChromaVectorStore

from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from llama_index_sparse_embed.ingestion import SparsePrefetch
from llama_index_sparse_embed.retrievers import ChromaHybridRetriever
from sparse_embed import AuthenticationError, ConfigurationError, SparseEncoder
from sparse_embed.server import local_provider
from sparse_embed.stores.chroma import open_collection
from tests.stubs.chroma_cloud import chroma_cloud_stub

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "dog": "A dog sleeps; the dog dreams of other dogs.",
    "cat": "Cats ignore quick birds and lazy people alike.",
    "moon": "The moon pulls the tides.",
}


@pytest.fixture
def cloud():
    with chroma_cloud_stub() as stub:
        yield stub


@pytest.fixture
def dense(provider):
    return ChromaCloudEmbedding(model_name="local/hashing", api_key="any", base_url=provider)


@pytest.fixture(params=[ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding], ids=["chroma", "pinecone"])
def sparse(request, provider):
    return request.param(model_name="local/bm25", api_key="any", base_url=provider, cache=1000)


def some_nodes():
    return [
        TextNode(id_=name, text=text, metadata={"letters": len(text)}, excluded_embed_metadata_keys=["letters"])
        for name, text in TEXTS.items()
    ]


@pytest.fixture
def collection(cloud, sparse, dense):
    """Written by LlamaIndex's own store."""
    client = chromadb.HttpClient(host="127.0.0.1", port=cloud.port)
    collection = open_collection(client, "docs", sparse.as_chroma())
    ChromaVectorStore(collection).add(dense(some_nodes()))
    return collection


def names(found):
    return [hit.node.node_id for hit in found]


async def test_it_fuses_the_ranks_of_dense_and_sparse_vectors(collection, dense, sparse, call):
    async def ask(**settings):
        retriever = ChromaHybridRetriever(collection, dense=dense, sparse=sparse, **settings)
        return {hit.node.node_id: hit.score for hit in await call(retriever, "retrieve", "quick dogs")}

    rankings = [list(await ask(weights=weights, similarity_top_k=4)) for weights in ((1, 0), (0, 1))]
    assert [len(ranking) for ranking in rankings] == [4, 3]  # what only one ranking has is not left out below
    expected = {name: sum(1 / (60 + ranking.index(name)) for ranking in rankings if name in ranking) for name in TEXTS}
    found = await ask(similarity_top_k=4)
    assert found == pytest.approx(expected, abs=1e-8)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert list(await ask()) == list(found)[:2]


async def test_the_request_holds_vectors_and_asks_for_ranks(collection, cloud, dense, sparse, call):
    await call(ChromaHybridRetriever(collection, dense=dense, sparse=sparse), "retrieve", "quick dogs")
    [search] = cloud.searches
    legs = [term["$div"]["right"]["$sum"][1]["$knn"] for term in _terms(search["rank"])]
    assert [leg["key"] for leg in legs] == ["#embedding", "sparse_embedding"]
    assert all(leg["return_rank"] and leg["limit"] == 128 for leg in legs)
    assert legs[0]["query"] == pytest.approx(dense.get_query_embedding("quick dogs"))
    weights = dict(zip(legs[1]["query"]["indices"], legs[1]["query"]["values"], strict=True))
    assert weights == pytest.approx(sparse.get_query_embedding("quick dogs"))
    assert set(search["select"]["keys"]) == {"#document", "#metadata", "#score"}
    assert search["limit"]["limit"] == 2


def _terms(rank):
    """The terms of the sum that reciprocal-rank fusion is."""
    [total] = [part for part in rank["$mul"] if "$sum" in part]
    return total["$sum"]


async def test_nodes_come_back_as_they_were_stored(collection, dense, sparse, call):
    retriever = ChromaHybridRetriever(collection, dense=dense, sparse=sparse, similarity_top_k=1)
    [hit] = await call(retriever, "retrieve", "moon")
    assert hit.node == some_nodes()[3]


async def test_records_that_no_llamaindex_wrote_are_nodes_too(collection, dense, sparse, call):
    embedding = dense.get_text_embedding("unheard of")
    collection.add(ids=["plain"], documents=["unheard of"], embeddings=[embedding], metadatas=[{"page": 7}])
    retriever = ChromaHybridRetriever(collection, dense=dense, sparse=sparse, similarity_top_k=1)
    [hit] = await call(retriever, "retrieve", "unheard")
    assert (hit.node.node_id, hit.node.text, hit.node.metadata) == ("plain", "unheard of", {"page": 7})


async def test_weights_choose_a_ranking_and_where_chooses_records(collection, dense, sparse, call):
    only_sparse = ChromaHybridRetriever(collection, dense=dense, sparse=sparse, weights=(0, 1), similarity_top_k=4)
    assert names(await call(only_sparse, "retrieve", "quick dogs")) == ["fox", "dog", "cat"]
    assert await call(only_sparse, "retrieve", "zebra") == []
    only_dense = ChromaHybridRetriever(collection, dense=dense, sparse=sparse, weights=(1, 0), similarity_top_k=4)
    assert len(await call(only_dense, "retrieve", "zebra")) == 4
    where = {"letters": {"$gt": len(TEXTS["fox"])}}
    longer = ChromaHybridRetriever(collection, dense=dense, sparse=sparse, where=where, similarity_top_k=4)
    assert names(await call(longer, "retrieve", "quick dogs")) == ["cat"]


async def test_on_request_metadata_says_which_terms_matched(collection, dense, provider, call):
    encoder = SparseEncoder("chroma", model="local/bm25", api_key="any", base_url=provider, return_tokens=True)
    retriever = ChromaHybridRetriever(collection, dense=dense, sparse=encoder, terms_key="terms", similarity_top_k=4)
    found = {hit.node.node_id: hit for hit in await call(retriever, "retrieve", "quick dogs")}
    assert {name: set(hit.metadata["terms"]) for name, hit in found.items()} == {
        "fox": {"quick", "dog"},
        "dog": {"dog"},
        "cat": {"quick"},
        "moon": set(),
    }
    assert "terms" not in found["fox"].get_content(MetadataMode.LLM)


async def test_texts_for_embedding_replace_the_query_on_the_dense_side(collection, cloud, dense, sparse, call):
    bundle = QueryBundle("quick dogs", custom_embedding_strs=["the tides of the moon"])
    await call(ChromaHybridRetriever(collection, dense=dense, sparse=sparse), "retrieve", bundle)
    queries = [term["$div"]["right"]["$sum"][1]["$knn"]["query"] for term in _terms(cloud.searches[0]["rank"])]
    assert queries[0] == pytest.approx(dense.get_query_embedding("the tides of the moon"))
    assert set(queries[1]["indices"]) == set(sparse.get_query_embedding("quick dogs"))


async def test_an_async_collection_is_awaited(collection, cloud, dense, sparse):
    client = await chromadb.AsyncHttpClient(host="127.0.0.1", port=cloud.port)
    retriever = ChromaHybridRetriever(
        async_collection=await client.get_collection("docs"), dense=dense, sparse=sparse, similarity_top_k=1
    )
    assert names(await retriever.aretrieve("moon")) == ["moon"]
    with pytest.raises(ConfigurationError, match="use the async methods"):
        retriever.retrieve("moon")


async def test_a_local_chroma_is_refused_with_the_way_out(dense, sparse, call):
    collection = chromadb.EphemeralClient().get_or_create_collection("docs", embedding_function=None)
    retriever = ChromaHybridRetriever(collection, dense=dense, sparse=sparse)
    with pytest.raises(ConfigurationError, match=r"Chroma Cloud only.*chromadb\.CloudClient.*SparseRetriever"):
        await call(retriever, "retrieve", "quick dogs")


async def test_an_error_of_either_provider_comes_through(collection, dense, call):
    with local_provider(api_key="right") as url:
        wrong = ChromaCloudSparseEmbedding(model_name="local/bm25", api_key="wrong", base_url=url)
        with pytest.raises(AuthenticationError):
            await call(ChromaHybridRetriever(collection, dense=dense, sparse=wrong), "retrieve", "quick dogs")


async def test_a_prefetch_serves_the_collections_own_function(cloud, dense, sparse):
    client = chromadb.HttpClient(host="127.0.0.1", port=cloud.port)
    store = ChromaVectorStore(open_collection(client, "docs", sparse.as_chroma()))
    pipeline = IngestionPipeline(transformations=[dense, SparsePrefetch(sparse, text="none")], vector_store=store)
    await pipeline.arun(nodes=some_nodes())
    assert sparse.usage.requests == 1
    [records] = cloud.records.values()
    assert {name: record["metadata"]["sparse_embedding"]["indices"] for name, record in records.items()} == {
        name: sorted(sparse.get_text_embedding(text)) for name, text in TEXTS.items()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"collection": None}, "needs a collection or async_collection"),
        ({"sparse": ChromaCloudEmbedding()}, "not ChromaCloudEmbedding"),
        ({"similarity_top_k": 0}, "similarity_top_k must be"),
        ({"weights": (0, 0)}, "weights must be two numbers"),
        ({"rrf_k": 0}, "rrf_k must be a whole number of at least 1"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(arguments, message):
    collection = chromadb.EphemeralClient().get_or_create_collection("docs", embedding_function=None)
    usual = {"collection": collection, "dense": ChromaCloudEmbedding(), "sparse": ChromaCloudSparseEmbedding()}
    with pytest.raises(ConfigurationError, match=message):
        ChromaHybridRetriever(**usual | arguments)
