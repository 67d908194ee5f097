"""`SparsePrefetch` asks for all sparse vectors at once, before a store asks one by one or on the event loop."""

import asyncio
import pickle

import cloudpickle
import pytest
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import Document, IndexNode, MetadataMode, TextNode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient

from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from llama_index_sparse_embed.ingestion import SparsePrefetch
from sparse_embed import ConfigurationError
from tests.faultserver import PATIENCE, Action, FaultServer, Gate

from .conftest import SPARSE


def some_nodes(count=100):
    return [
        TextNode(
            id_=f"00000000-0000-0000-0000-{at:012}",
            text=f"text {at} about foxes",
            metadata={"chapter": at},
            embedding=[1.0, float(at)],
        )
        for at in range(count)
    ]


def cached(cls, provider, folder):
    """With a cache that processes share."""
    cache = str(folder / f"{cls.__name__}.sqlite")
    return cls(model_name="local/bm25", api_key="any", base_url=provider, cache=cache)


@pytest.fixture(params=SPARSE, ids=lambda cls: cls.__name__)
def sparse(request, provider, tmp_path):
    return cached(request.param, provider, tmp_path)


async def test_a_hundred_nodes_cost_two_requests_at_most_and_pass_through(sparse, call):
    nodes = some_nodes()
    done = await call(IngestionPipeline(transformations=[SparsePrefetch(sparse)]), "run", nodes=nodes)
    assert done == some_nodes()
    assert sparse.usage.requests <= 2


@pytest.mark.parametrize(
    ("text", "asked_for"),
    [
        ("embed", lambda node: node.get_content(MetadataMode.EMBED)),
        ("text", lambda node: node.text),
        ("none", lambda node: node.get_content(MetadataMode.NONE)),
    ],
)
async def test_the_store_finds_what_it_asks_for(sparse, call, text, asked_for):
    nodes = [*some_nodes(5), Document(text="a document", metadata={"chapter": 7}), IndexNode(text="i", index_id="i")]
    await call(IngestionPipeline(transformations=[SparsePrefetch(sparse, text=text)]), "run", nodes=nodes)
    paid = sparse.usage.requests
    for node in nodes:
        await call(sparse, "get_text_embedding", asked_for(node))
    assert sparse.usage.requests == paid == 1


async def test_neither_the_step_nor_qdrant_after_it_blocks_the_event_loop():
    gate = Gate()
    with FaultServer(lambda seen: Action(gate=gate)) as server:
        sparse = ChromaCloudSparseEmbedding(
            api_key="any", base_url=server.url, cache=100, timeout=PATIENCE / 2, max_retries=0
        )
        client = AsyncQdrantClient(":memory:")
        store = QdrantVectorStore("docs", aclient=client, index_doc_id=False, **sparse.qdrant_kwargs())
        pipeline = IngestionPipeline(transformations=[SparsePrefetch(sparse)], vector_store=store)
        running = asyncio.create_task(pipeline.arun(nodes=some_nodes()))
        await server.auntil(lambda: server.requests)
        gate.open()  # on the event loop: a request that blocked it would never be answered
        await running
        assert len(server.requests) == 1
        assert (await client.count("docs")).count == 100
        await sparse.aclose()


# The async method forks by default (llama-index-core 0.14.25), which CPython 3.12 warns about.
in_workers = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning",
    "ignore:Specified num_workers exceed:UserWarning",
)


@in_workers
async def test_worker_processes_fill_a_cache_that_they_share(provider, call, tmp_path):
    nodes, classes = some_nodes(), [cached(cls, provider, tmp_path) for cls in SPARSE]
    await call(IngestionPipeline(transformations=[*map(SparsePrefetch, classes)]), "run", nodes=nodes, num_workers=2)
    for sparse in classes:
        assert sparse.usage.requests == 0
        sparse.get_text_embedding_batch([node.get_content(MetadataMode.EMBED) for node in nodes])
        assert (sparse.usage.requests, sparse.usage.cache_hits) == (0, 100)


@in_workers
async def test_worker_processes_refuse_a_cache_that_would_stay_with_them(provider, call):
    sparse = ChromaCloudSparseEmbedding(api_key="any", base_url=provider, cache=1000)
    pipeline = IngestionPipeline(transformations=[SparsePrefetch(sparse)])
    with pytest.raises(ConfigurationError, match="exists in this worker process only"):
        await call(pipeline, "run", nodes=some_nodes(), num_workers=2)


async def test_what_the_pipeline_remembers_is_not_asked_again_whatever_is_tuned(wire, call, tmp_path):
    where = {"cache": str(tmp_path / "vectors.sqlite"), "api_key": "any", **wire.clients}
    cache = IngestionCache()
    for tuning in ({}, {"max_concurrency": 2, "batch_size": 10, "timeout": 5.0}):
        step = SparsePrefetch(ChromaCloudSparseEmbedding(**where, **tuning))
        await call(IngestionPipeline(transformations=[step], cache=cache), "run", nodes=some_nodes())
    assert len(wire.requests) == 1


def test_only_what_decides_a_vector_decides_the_hash():
    nodes = some_nodes(1)

    def hashed(text="embed", **fields):
        return get_transformation_hash(nodes, SparsePrefetch(ChromaCloudSparseEmbedding(**{"cache": 1} | fields), text))

    plain = hashed()
    tuned = {"cache": "x.sqlite", "api_key": "secret", "timeout": 5.0, "default_headers": {"x": "secret"}}
    assert hashed(**tuned) == plain
    assert len({plain, hashed(model_name="other"), hashed(task="find"), hashed(text="none")}) == 4


async def test_many_nodes_go_in_windows(wire, call):
    sparse = ChromaCloudSparseEmbedding(api_key="any", cache=1000, embed_batch_size=200, **wire.clients)
    await call(IngestionPipeline(transformations=[SparsePrefetch(sparse)]), "run", nodes=some_nodes(500))
    assert [len(body["texts"]) for body in wire.bodies] == [100] * 5


async def test_no_node_and_blank_nodes_ask_nobody(wire, call):
    step = SparsePrefetch(ChromaCloudSparseEmbedding(api_key="any", cache=1, **wire.clients))
    await call(IngestionPipeline(transformations=[step]), "run", nodes=[])
    await call(IngestionPipeline(transformations=[step]), "run", nodes=[TextNode(text=" ")])
    assert not wire.requests


async def test_a_cache_that_would_forget_before_the_store_asks_is_refused(wire, call):
    step = SparsePrefetch(PineconeInferenceSparseEmbedding(api_key="any", cache=99, **wire.clients))
    with pytest.raises(ConfigurationError, match="cache=99 is too small for 100 texts"):
        await call(IngestionPipeline(transformations=[step]), "run", nodes=some_nodes())
    assert not wire.requests


@pytest.mark.parametrize(
    ("embedding", "text", "message"),
    [
        (ChromaCloudSparseEmbedding(), "embed", "no cache to fill: give it cache="),
        (ChromaCloudEmbedding(cache=10), "embed", "not ChromaCloudEmbedding"),
        (ChromaCloudSparseEmbedding(cache=10), "all", "text must be one of embed, text, none"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(embedding, text, message):
    with pytest.raises(ConfigurationError, match=message):
        SparsePrefetch(embedding, text)


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_it_is_pickled_whole_or_not_at_all(dumps, wire):
    step = SparsePrefetch(ChromaCloudSparseEmbedding(api_key="any", cache=10, max_concurrency=2), "none")
    twin = pickle.loads(dumps(step))
    assert (twin.text, twin.embedding.max_concurrency, twin.embedding.cache) == ("none", 2, 10)
    with pytest.raises(ConfigurationError, match="http_client cannot be pickled"):
        dumps(SparsePrefetch(ChromaCloudSparseEmbedding(api_key="any", cache=10, **wire.clients)))
