"""The dense classes are steps of an ingestion pipeline, in one process or several."""

import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import MetadataMode, TextNode

from llama_index_sparse_embed import ChromaCloudEmbedding

NODES = [TextNode(text=f"text {number}", metadata={"number": number}) for number in range(20)]


@pytest.fixture
def embedding(provider, monkeypatch):
    monkeypatch.setenv("CHROMA_API_KEY", "any")
    return ChromaCloudEmbedding(model_name="local/hashing", base_url=provider)


@pytest.mark.parametrize(
    "num_workers",
    [
        None,
        pytest.param(
            2,
            marks=[
                # The async method forks by default (llama-index-core 0.14.25), which CPython 3.12 warns about.
                pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
                pytest.mark.filterwarnings("ignore:Specified num_workers exceed:UserWarning"),
            ],
        ),
    ],
)
async def test_a_pipeline_gives_each_node_its_vector(embedding, call, num_workers):
    nodes = [node.model_copy() for node in NODES]
    expected = embedding.get_text_embedding_batch([node.get_content(MetadataMode.EMBED) for node in nodes])
    done = await call(IngestionPipeline(transformations=[embedding]), "run", nodes=nodes, num_workers=num_workers)
    assert [node.embedding for node in done] == expected


async def test_what_is_in_the_ingestion_cache_is_not_asked_again(wire, call):
    pipeline = IngestionPipeline(transformations=[ChromaCloudEmbedding(api_key="any", **wire.clients)])
    await call(pipeline, "run", nodes=NODES)
    pipeline.transformations = [ChromaCloudEmbedding(api_key="other", max_concurrency=2, **wire.clients)]
    await call(pipeline, "run", nodes=NODES)
    assert len(wire.requests) == 1
