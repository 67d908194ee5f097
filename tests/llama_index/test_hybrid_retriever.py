"""`HybridRetriever` fuses the rankings of any retrievers."""

import asyncio
import math

import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding, PineconeInferenceEmbedding
from llama_index_sparse_embed.retrievers import HybridRetriever, SparseRetriever
from sparse_embed import ConfigurationError

FUSIONS = ["reciprocal_rank", "relative_score"]


class Fixed(BaseRetriever):
    """Finds the same nodes for every query, and keeps the queries."""

    def __init__(self, found, **metadata):
        self.found = [
            NodeWithScore(node=TextNode(id_=name, text=name, metadata=metadata), score=score) for name, score in found
        ]
        self.asked = []
        super().__init__()

    def _retrieve(self, query_bundle):
        self.asked.append(query_bundle)
        return self.found


def scores(found):
    return {hit.node.node_id: hit.score for hit in found}


async def test_reciprocal_rank_sums_weight_over_rank(call):
    left, right = Fixed([("a", 9.0), ("b", 8.0)]), Fixed([("b", 0.2), ("c", 0.1)])
    hybrid = HybridRetriever([left, right], weights=[2, 1], similarity_top_k=3)
    found = scores(await call(hybrid, "retrieve", "q"))
    assert list(found) == ["b", "a", "c"]
    assert found == pytest.approx({"b": 2 / 62 + 1 / 61, "a": 2 / 61, "c": 1 / 62})


async def test_rrf_k_decides_how_much_first_ranks_count(call):
    left, right = Fixed([("a", 1.0), ("b", 1.0)]), Fixed([("c", 1.0), ("b", 1.0)])
    assert next(iter(scores(await call(HybridRetriever([left, right]), "retrieve", "q")))) == "b"
    hybrid = HybridRetriever([left, right], weights=[3, 1], rrf_k=1)
    assert next(iter(scores(await call(hybrid, "retrieve", "q")))) == "a"


async def test_relative_score_stretches_each_ranking_to_one(call):
    left, right = Fixed([("a", 9.0), ("b", 6.0), ("c", 5.0)]), Fixed([("c", -0.1), ("b", -0.3)])
    hybrid = HybridRetriever([left, right], weights=[2, 1], fusion="relative_score", similarity_top_k=3)
    assert scores(await call(hybrid, "retrieve", "q")) == pytest.approx({"a": 2.0, "c": 1.0, "b": 0.5})


async def test_equal_scores_are_all_the_best(call):
    hybrid = HybridRetriever([Fixed([("a", 0.0), ("b", 0.0)])], fusion="relative_score")
    assert scores(await call(hybrid, "retrieve", "q")) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("unknown", [None, math.nan])
async def test_nodes_without_a_score_survive(call, fusion, unknown):
    retrievers = [Fixed([("a", unknown), ("b", unknown)]), Fixed([("c", 2.0), ("d", None), ("e", 1.0)])]
    found = scores(await call(HybridRetriever(retrievers, fusion=fusion, similarity_top_k=9), "retrieve", "q"))
    assert set(found) == set("abcde")
    assert all(math.isfinite(score) for score in found.values())


@pytest.mark.parametrize("fusion", FUSIONS)
async def test_the_retrievers_nodes_are_copied_and_never_changed(call, fusion):
    inner = Fixed([("a", 3.0), ("b", 2.0)], tags=["x"])
    before = [hit.model_copy(deep=True) for hit in inner.found]
    for _ in range(2):
        for hit in await call(HybridRetriever([inner], fusion=fusion, scores_key="own"), "retrieve", "q"):
            hit.score = -1.0
            hit.node.metadata["tags"].append("y")
            hit.node.excluded_llm_metadata_keys.append("z")
            hit.node.set_content("changed")
    assert inner.found == before


async def test_a_node_that_comes_twice_counts_once_with_its_best_rank(call):
    hybrid = HybridRetriever([Fixed([("a", 3.0), ("b", 2.0), ("a", 1.0)])], similarity_top_k=9)
    assert scores(await call(hybrid, "retrieve", "q")) == pytest.approx({"a": 1 / 61, "b": 1 / 62})


async def test_on_request_metadata_holds_each_retrievers_own_score(call):
    hybrid = HybridRetriever([Fixed([("a", 3.0), ("b", None)]), Fixed([("b", 0.5)])], scores_key="own")
    found = await call(hybrid, "retrieve", "q")
    assert {hit.node.node_id: hit.metadata for hit in found} == {"a": {"own": [3.0, None]}, "b": {"own": [None, 0.5]}}
    assert all("own" not in hit.get_content(MetadataMode.LLM) for hit in found)


async def test_nothing_found_is_nothing(call):
    assert await call(HybridRetriever([Fixed([]), Fixed([])], fusion="relative_score"), "retrieve", "q") == []


async def test_retrievers_are_asked_at_the_same_time():
    both_asked = asyncio.Barrier(2)

    class Waiting(Fixed):
        async def _aretrieve(self, query_bundle):
            await both_asked.wait()
            return self.found

    found = await HybridRetriever([Waiting([("a", 1.0)]), Waiting([("b", 1.0)])]).aretrieve("q")
    assert set(scores(found)) == {"a", "b"}


async def test_one_failure_is_raised_as_it_is_and_stops_the_others():
    stopped = asyncio.Event()

    class Failing(Fixed):
        async def _aretrieve(self, query_bundle):
            raise LookupError("gone")

    class Endless(Fixed):
        async def _aretrieve(self, query_bundle):
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    with pytest.raises(LookupError, match="gone"):
        await HybridRetriever([Endless([]), Failing([])]).aretrieve("q")
    await stopped.wait()


async def test_a_query_vector_of_one_model_does_not_reach_another(provider, call):
    """LlamaIndex's vector retriever leaves its query vector in the bundle."""
    nodes = [TextNode(id_=name, text=name) for name in ("fox", "dog")]
    where = {"api_key": "any", "base_url": provider, "model_name": "local/hashing"}
    models = [ChromaCloudEmbedding(**where), PineconeInferenceEmbedding(dimension=512, **where)]
    retrievers = [VectorStoreIndex(nodes, embed_model=model).as_retriever() for model in models]
    bundle = QueryBundle("fox")
    found = await call(HybridRetriever(retrievers), "retrieve", bundle)
    assert found[0].node.node_id == "fox"
    assert bundle.embedding is None


async def test_dense_and_sparse_fuse_without_a_language_model_and_matched_terms_survive(provider, call, monkeypatch):
    monkeypatch.setattr(Settings, "_llm", None)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    nodes = [
        TextNode(id_="fox", text="the quick brown fox jumps"),
        TextNode(id_="dog", text="a lazy dog dreams of dogs"),
        TextNode(id_="moon", text="the moon pulls the tides"),
    ]
    where = {"api_key": "any", "base_url": provider}
    dense = VectorStoreIndex(nodes, embed_model=ChromaCloudEmbedding(model_name="local/hashing", **where))
    sparse = SparseRetriever.from_nodes(
        nodes, ChromaCloudSparseEmbedding(model_name="local/bm25", **where), terms_key="terms"
    )
    hybrid = HybridRetriever([dense.as_retriever(similarity_top_k=3), sparse])
    first = (await call(hybrid, "retrieve", "dreaming dogs"))[0]
    assert first.node.node_id == "dog"
    assert sum(first.metadata["terms"].values()) > 0
    assert "terms" not in first.get_content(MetadataMode.LLM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retrievers": []}, "at least one retriever"),
        ({"weights": [1]}, "2 retrievers and 1 weights"),
        ({"weights": [1, 0]}, "weights must be greater than 0"),
        ({"weights": [1, math.nan]}, "weights must be greater than 0"),
        ({"fusion": "simple"}, "fusion must be one of reciprocal_rank, relative_score"),
        ({"rrf_k": 0}, "rrf_k must be a whole number of at least 1"),
        ({"similarity_top_k": 0}, "similarity_top_k must be"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        HybridRetriever(**{"retrievers": [Fixed([]), Fixed([])]} | arguments)
