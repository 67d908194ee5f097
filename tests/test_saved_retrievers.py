"""A file that a `SparseRetriever` saved is opened only by what can read it: the same framework and the same model."""

from collections.abc import Iterator

import pytest
from llama_index.core.schema import TextNode

import langchain_sparse_embed.retrievers as langchain
import llama_index_sparse_embed.retrievers as llama_index
from langchain_sparse_embed import ChromaCloudSparseEmbeddings
from llama_index_sparse_embed import ChromaCloudSparseEmbedding
from sparse_embed import ConfigurationError, SparseEncoder, SparseVector
from sparse_embed.index import InvertedIndex, Origin
from sparse_embed.server import local_provider


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with local_provider(stand_in=True) as url:
        yield url


@pytest.fixture(params=["langchain", "llama_index"])
def framework(request, provider):
    """Save a retriever to a file, and load one."""
    known = {"base_url": provider, "api_key": "any"}

    def encoder(model):
        if request.param == "langchain":
            return ChromaCloudSparseEmbeddings(model=model, **known)
        return ChromaCloudSparseEmbedding(model_name=model, **known)

    def save(path, model="local/bm25"):
        if request.param == "langchain":
            langchain.SparseRetriever.from_texts(["red fox"], encoder(model)).save(path)
        else:
            llama_index.SparseRetriever.from_nodes([TextNode(text="red fox")], encoder(model)).persist(path)

    def load(path, model="local/bm25", **settings):
        if request.param == "langchain":
            return langchain.SparseRetriever.load(path, encoder(model), **settings)
        return llama_index.SparseRetriever.from_persist_path(path, encoder(model), **settings)

    return save, load


def test_the_file_records_what_made_its_vectors(framework, tmp_path):
    save, load = framework
    save(tmp_path / "a", "prithivida/Splade_PP_en_v1")
    origin = InvertedIndex.load(tmp_path / "a").origin
    assert (origin.provider, origin.model) == ("chroma", "prithivida/Splade_PP_en_v1")
    assert origin.engine, "a stand-in says which engine answered"
    assert len(load(tmp_path / "a", "prithivida/Splade_PP_en_v1")) == 1


def test_another_model_is_refused_unless_told_not_to_check(framework, tmp_path):
    save, load = framework
    save(tmp_path / "a")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "a", "naver/splade-v3")
    assert "holds vectors of local/bm25 of chroma" in caught.value.message
    assert "would be embedded with naver/splade-v3 of chroma" in caught.value.message
    assert "check_model=False" in caught.value.message
    assert len(load(tmp_path / "a", "naver/splade-v3", check_model=False)) == 1


def test_a_file_without_that_record_is_loaded(framework, tmp_path):
    save, load = framework
    save(tmp_path / "a")
    index = InvertedIndex.load(tmp_path / "a")
    index.origin = None
    index.save(tmp_path / "a")
    assert len(load(tmp_path / "a", "any/model")) == 1


def test_a_file_of_the_other_framework_says_so(framework, tmp_path):
    _, load = framework
    index = InvertedIndex()
    index.add(["a"], [SparseVector([1], [1.0])], [{"_node_content": "{}"}])
    index.save(tmp_path / "llama_index")
    index.add(["a"], [SparseVector([1], [1.0])], [{"page_content": "", "metadata": {}}])
    index.save(tmp_path / "langchain")
    said = []
    for name in ("llama_index", "langchain"):
        try:
            load(tmp_path / name)
        except ConfigurationError as error:
            said.append(error.message)
    [message] = said
    assert "was saved by L" in message
    assert "'s SparseRetriever, not by L" in message


def test_a_file_of_neither_framework_says_so(framework, tmp_path):
    _, load = framework
    index = InvertedIndex()
    index.add(["a"], [SparseVector([1], [1.0])])
    index.save(tmp_path / "a")
    with pytest.raises(ConfigurationError, match="was saved by something else"):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (Origin("chroma", "m"), Origin("chroma", "m"), True),
        (Origin("chroma", "m"), Origin("pinecone", "m"), False),
        (Origin(None, "m"), Origin("pinecone", "m"), True),
        (Origin("chroma", "m", "bm25"), Origin("chroma", "m"), True),
        (Origin("chroma", "m", "bm25"), Origin("chroma", "m", "splade"), False),
    ],
)
def test_origins_agree_as_far_as_both_are_known(one, other, agree):
    assert one.agrees(other) is other.agrees(one) is agree


def test_a_retriever_has_a_length_and_is_true_without_documents(framework, tmp_path):
    for empty in (
        langchain.SparseRetriever(sparse_encoder=SparseEncoder("chroma")),
        llama_index.SparseRetriever(SparseEncoder("chroma")),
    ):
        assert len(empty) == 0
        assert empty
        assert "prithivida/Splade_PP_en_v1" in repr(empty)
