"""LlamaIndex's `RayIngestionPipeline` pays for each vector once."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.ingestion.ray import RayIngestionPipeline, RayTransformComponent
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from ray.exceptions import RayTaskError

from llama_index_sparse_embed import PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding
from llama_index_sparse_embed.ingestion import SparsePrefetch
from llama_index_sparse_embed.ray import RaySparsePrefetch
from sparse_embed import ConfigurationError
from tests.faultserver import FaultServer, sparse_of

from .conftest import ENVIRONMENT_KEY

# Harmless: llama-index-vector-stores-qdrant 0.10 asks for an index that the local mode does not need.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


def some_nodes(count: int) -> list[TextNode]:
    return [
        TextNode(id_=f"00000000-0000-0000-0000-{at:012}", text=f"text {at}", metadata={"page": at})
        for at in range(count)
    ]


def paid(server: FaultServer) -> Counter[str]:
    """Texts per model."""
    texts: Counter[str] = Counter()
    for seen in server.requests:
        texts[seen.body["model"]] += len(seen.texts)
    return texts


def test_each_node_is_paid_for_once_per_kind_and_is_found() -> None:
    with FaultServer() as server:
        where: dict[str, Any] = {"base_url": server.url}
        sparse = PineconeInferenceSparseEmbedding(cache=200, **where)
        store = QdrantVectorStore("docs", client=QdrantClient(":memory:"), **sparse.qdrant_kwargs())
        steps = [
            RayTransformComponent(PineconeInferenceEmbedding, transform_kwargs=where),
            RaySparsePrefetch(sparse),
        ]
        done = RayIngestionPipeline(transformations=steps, vector_store=store).run(nodes=some_nodes(200))
        assert paid(server) == {"llama-text-embed-v2": 200, "pinecone-sparse-english-v0": 200}
        assert {seen.headers["api-key"] for seen in server.requests} == {ENVIRONMENT_KEY}
    assert sorted(node.node_id for node in done) == [node.node_id for node in some_nodes(200)]
    points, _ = store.client.scroll("docs", limit=1000, with_vectors=True)
    assert len(points) == 200
    for point in points:
        page = int(str(point.id)[-12:])
        vector = point.vector["text-sparse-new"]
        expected = sparse_of(f"page: {page}\n\ntext {page}")
        assert (vector.indices, vector.values) == ([*expected.indices], [*expected.values])


def test_with_a_file_for_a_cache_a_second_run_pays_nothing(tmp_path: Path) -> None:
    with FaultServer() as server:
        for _ in ("first run", "second run"):
            sparse = PineconeInferenceSparseEmbedding(cache=tmp_path / "vectors.sqlite", base_url=server.url)
            RayIngestionPipeline(transformations=[RaySparsePrefetch(sparse)]).run(nodes=some_nodes(20))
            sparse.get_text_embedding_batch([node.get_content(MetadataMode.EMBED) for node in some_nodes(20)])
        assert paid(server) == {"pinecone-sparse-english-v0": 20}


def test_a_cache_that_would_forget_before_the_store_asks_is_refused_before_anything_is_paid() -> None:
    with FaultServer() as server:
        sparse = PineconeInferenceSparseEmbedding(cache=19, base_url=server.url)
        with pytest.raises(ConfigurationError, match="cache=19 is too small for 20 nodes"):
            RayIngestionPipeline(transformations=[RaySparsePrefetch(sparse)]).run(nodes=some_nodes(20))
        assert not server.requests


def test_a_cache_that_would_stay_in_the_actor_is_refused_before_anything_is_paid() -> None:
    with FaultServer() as server:
        sparse = PineconeInferenceSparseEmbedding(cache=100, base_url=server.url)
        step = RayTransformComponent(SparsePrefetch, transform_kwargs={"embedding": sparse})
        with pytest.raises(RayTaskError, match=r"exists in this worker process only.*RaySparsePrefetch"):
            RayIngestionPipeline(transformations=[step]).run(nodes=some_nodes(20))
        assert not server.requests


def test_an_embedding_without_a_cache_is_refused_at_construction() -> None:
    with pytest.raises(ConfigurationError, match="no cache to fill"):
        RaySparsePrefetch(PineconeInferenceSparseEmbedding())
