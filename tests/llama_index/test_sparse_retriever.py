"""`SparseRetriever` finds what has the greatest inner product, in this process."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, ImageNode, IndexNode, MetadataMode, TextNode
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from llama_index_sparse_embed import ChromaCloudEmbedding, PineconeInferenceSparseEmbedding
from llama_index_sparse_embed.retrievers import SparseRetriever
from sparse_embed import AuthenticationError, ConfigurationError, SparseEncoder
from sparse_embed.convert import from_dict
from sparse_embed.server import local_provider

TEXTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "dog": "A dog sleeps; the dog dreams of other dogs.",
    "cat": "Cats ignore quick birds and lazy people alike.",
    "moon": "The moon pulls the tides.",
}
LEGS = {"fox": 4, "dog": 4, "cat": 4, "moon": None}


def some_nodes():
    return [
        TextNode(
            id_=name,
            text=text,
            metadata={"legs": LEGS[name], "tags": [name, "all"], "name": name},
            excluded_embed_metadata_keys=["legs", "tags", "name"],
        )
        for name, text in TEXTS.items()
    ]


@pytest.fixture
def sparse(provider):
    return PineconeInferenceSparseEmbedding(model_name="local/bm25", api_key="any", base_url=provider)


@pytest.fixture
async def retriever(sparse, call):
    retriever = SparseRetriever(sparse, similarity_top_k=4)
    assert await call(retriever, "add", some_nodes()) == list(TEXTS)
    return retriever


def names(found):
    return [hit.node.node_id for hit in found]


async def test_scores_are_inner_products_best_first(retriever, sparse, call):
    found = await call(retriever, "retrieve", "quick dogs")
    query = from_dict(sparse.get_query_embedding("quick dogs"))
    expected = {name: query.dot(from_dict(sparse.get_text_embedding(text))) for name, text in TEXTS.items()}
    assert names(found) == ["fox", "dog", "cat"]
    assert [hit.score for hit in found] == pytest.approx([expected[name] for name in names(found)])


async def test_nodes_come_back_as_they_were_added_and_are_nobody_elses(retriever, call):
    first = (await call(retriever, "retrieve", "moon"))[0].node
    assert first == some_nodes()[3]
    first.metadata["tags"].append("changed")
    first.set_content("changed")
    assert (await call(retriever, "retrieve", "moon"))[0].node == some_nodes()[3]


async def test_adding_is_incremental_replaces_and_can_be_undone(retriever, call):
    await call(retriever, "add", [TextNode(id_="sun", text="The sun outshines the moon, the moon, the moon.")])
    assert names(await call(retriever, "retrieve", "moon")) == ["sun", "moon"]
    await call(retriever, "add", [TextNode(id_="sun", text="The sun burns.")])
    assert names(await call(retriever, "retrieve", "moon")) == ["moon"]
    assert retriever.delete(["sun", "nobody"]) == 1
    assert names(await call(retriever, "retrieve", "sun")) == []


async def test_a_query_without_a_known_term_finds_nothing(retriever, call):
    for text in ("zebra", " . "):
        assert await call(retriever, "retrieve", text) == []


async def test_the_text_is_embedded_with_its_metadata_for_embedding(sparse, call):
    retriever = SparseRetriever.from_nodes([TextNode(text="hello", metadata={"author": "Zola"})], sparse)
    assert len(await call(retriever, "retrieve", "Zola")) == 1


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([MetadataFilter(key="name", value="dog")], ["dog"]),
        ([MetadataFilter(key="legs", value=4, operator=FilterOperator.LT)], []),
        ([MetadataFilter(key="tags", value="cat", operator=FilterOperator.CONTAINS)], ["cat"]),
        ([MetadataFilter(key="name", value=["fox", "cat"], operator=FilterOperator.IN)], ["fox", "cat"]),
        ([], ["fox", "dog", "cat"]),
        (
            [
                MetadataFilter(key="legs", value=4),
                MetadataFilters(
                    filters=[MetadataFilter(key="name", value=name) for name in ("cat", "moon")],
                    condition=FilterCondition.OR,
                ),
            ],
            ["cat"],
        ),
        (
            [MetadataFilters(filters=[MetadataFilter(key="name", value="fox")], condition=FilterCondition.NOT)],
            ["dog", "cat"],
        ),
        ([MetadataFilters(filters=[], condition=FilterCondition.OR)], ["fox", "dog", "cat"]),
    ],
)
async def test_filters_mean_what_they_mean_in_llamaindex_and_may_be_nested(sparse, call, filters, expected):
    retriever = SparseRetriever.from_nodes(
        some_nodes(), sparse, similarity_top_k=4, filters=MetadataFilters(filters=filters)
    )
    assert names(await call(retriever, "retrieve", "quick dogs")) == expected


def test_a_filter_of_another_type_is_refused(sparse):
    with pytest.raises(ConfigurationError, match="filters must be LlamaIndex's MetadataFilters, not dict"):
        SparseRetriever(sparse, filters={"name": "cat"})


async def test_a_filter_does_not_cost_results(sparse, call):
    only_cat = MetadataFilters(filters=[MetadataFilter(key="name", value="cat")])
    retriever = SparseRetriever.from_nodes(some_nodes(), sparse, similarity_top_k=1, filters=only_cat)
    assert names(await call(retriever, "retrieve", "quick dogs")) == ["cat"]


async def test_on_request_metadata_says_which_terms_matched_and_no_language_model_reads_it(provider, call):
    encoder = SparseEncoder("chroma", model="local/bm25", api_key="any", base_url=provider, return_tokens=True)
    retriever = SparseRetriever.from_nodes(some_nodes(), encoder, similarity_top_k=4, terms_key="terms")
    fox, dog, cat = await call(retriever, "retrieve", "quick dogs")
    assert (set(fox.metadata["terms"]), set(dog.metadata["terms"]), set(cat.metadata["terms"])) == (
        {"quick", "dog"},
        {"dog"},
        {"quick"},
    )
    for hit in (fox, dog, cat):
        weights = list(hit.metadata["terms"].values())
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) == pytest.approx(hit.score)
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert "terms" not in hit.get_content(mode)


async def test_without_tokens_terms_are_named_by_index(sparse, call):
    retriever = SparseRetriever.from_nodes(some_nodes(), sparse, terms_key="terms")
    [hit] = await call(retriever, "retrieve", "moon")
    assert list(hit.metadata["terms"]) == list(sparse.get_query_embedding("moon"))


async def test_idf_favours_rare_terms(sparse, call):
    nodes = [TextNode(id_=str(at), text="fox") for at in range(9)]
    nodes.append(TextNode(id_="rare", text="vixen with so many other words beside it that it weighs little"))
    plain = SparseRetriever.from_nodes(nodes, sparse, similarity_top_k=1)
    weighed = SparseRetriever.from_nodes(nodes, sparse, similarity_top_k=1, idf=True)
    assert names(await call(plain, "retrieve", "fox vixen")) == ["0"]
    assert names(await call(weighed, "retrieve", "fox vixen")) == ["rare"]


async def test_what_was_persisted_answers_the_same_in_a_new_retriever(retriever, sparse, call, tmp_path):
    retriever.persist(tmp_path / "nodes.npz")
    again = SparseRetriever.from_persist_path(tmp_path / "nodes.npz", sparse, similarity_top_k=4)
    assert await call(again, "retrieve", "quick dogs") == await call(retriever, "retrieve", "quick dogs")
    await call(again, "add", [TextNode(id_="sun", text="The sun rises.")])
    assert names(await call(again, "retrieve", "sun")) == ["sun"]


async def test_idf_is_persisted(sparse, call, tmp_path):
    retriever = SparseRetriever.from_nodes(some_nodes(), sparse, idf=True)
    retriever.persist(tmp_path / "nodes.npz")
    again = SparseRetriever.from_persist_path(tmp_path / "nodes.npz", sparse)
    assert await call(again, "retrieve", "quick dogs") == await call(retriever, "retrieve", "quick dogs")


async def test_a_file_that_is_no_index_is_refused(sparse, tmp_path):
    (tmp_path / "nodes.npz").write_bytes(b"something else")
    with pytest.raises(ConfigurationError, match="not an index written by save"):
        SparseRetriever.from_persist_path(tmp_path / "nodes.npz", sparse)


async def test_every_kind_of_node_is_kept(sparse, call, tmp_path):
    nodes = [
        Document(id_="document", text="a word in a document"),
        IndexNode(id_="index", text="a word in an index node", index_id="elsewhere"),
        ImageNode(id_="image", text="a word beside an image", image="aGVsbG8="),
    ]
    retriever = SparseRetriever.from_nodes(nodes, sparse, similarity_top_k=3)
    retriever.persist(tmp_path / "nodes.npz")
    found = await call(
        SparseRetriever.from_persist_path(tmp_path / "nodes.npz", sparse, similarity_top_k=3), "retrieve", "word"
    )
    by_name = {hit.node.node_id: hit.node for hit in found}
    assert by_name["document"].get_content() == "a word in a document"
    assert by_name["index"].index_id == "elsewhere"
    assert by_name["image"].image == "aGVsbG8="


async def test_an_index_node_leads_to_its_object(sparse, call):
    target = TextNode(id_="target", text="what it stands for")
    nodes = [IndexNode(id_="index", text="a word", index_id="elsewhere")]
    retriever = SparseRetriever.from_nodes(nodes, sparse, object_map={"elsewhere": target})
    assert names(await call(retriever, "retrieve", "word")) == ["target"]


async def test_when_vectors_cannot_be_had_nothing_is_added(sparse, call):
    with local_provider(api_key="right") as url:
        wrong = PineconeInferenceSparseEmbedding(model_name="local/bm25", api_key="wrong", base_url=url)
        retriever = SparseRetriever(wrong)
        with pytest.raises(AuthenticationError):
            await call(retriever, "add", some_nodes())
        assert retriever.delete(TEXTS) == 0


async def test_a_query_engine_takes_it(retriever, call):
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    response = await call(engine, "query", "moon")
    assert names(response.source_nodes) == ["moon"]


async def test_what_is_no_node_is_refused_by_position(retriever, call):
    with pytest.raises(ConfigurationError, match="node 1 is str, not a node: wrap it in a TextNode"):
        await call(retriever, "add", [TextNode(text="a"), "b"])
    assert len(retriever) == 4


def test_threads_and_loops_search_while_others_add(sparse):
    retriever = SparseRetriever.from_nodes(some_nodes(), sparse, similarity_top_k=1)

    def use(at):
        retriever.add([TextNode(id_=f"new {at}", text=f"unheard{at}")])
        assert names(retriever.retrieve(f"unheard{at}")) == [f"new {at}"]
        return names(asyncio.run(retriever.aretrieve("moon")))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(16))) == [["moon"]] * 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparse": ChromaCloudEmbedding()}, "not ChromaCloudEmbedding"),
        ({"similarity_top_k": 0}, "similarity_top_k must be"),
        ({"similarity_top_k": True}, "similarity_top_k must be"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(sparse, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        SparseRetriever(**{"sparse": sparse} | arguments)
