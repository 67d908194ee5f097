"""An option that is misspelled, of another class or of the wrong type is named in the same words everywhere."""

import pytest
from pydantic import BaseModel, ConfigDict

from langchain_sparse_embed import ChromaCloudEmbeddings, PineconeInferenceSparseEmbeddings
from langchain_sparse_embed.retrievers import SparseRetriever
from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding
from sparse_embed import ConfigurationError, DenseEncoder, SparseEncoder
from sparse_embed.index import InvertedIndex
from sparse_embed.options import check_count, init_model


@pytest.mark.parametrize(
    ("construct", "said"),
    [
        (lambda: SparseEncoder("chroma", modle="x"), "did you mean model?"),
        (lambda: ChromaCloudEmbeddings(modle="x"), "did you mean model?"),
        (lambda: ChromaCloudEmbedding(modle="x"), "did you mean model_name?"),
        (lambda: ChromaCloudEmbedding(model="x"), "did you mean model_name?"),
        (lambda: SparseRetriever(sparse_encoder=SparseEncoder("chroma"), score="x"), "did you mean score_key?"),
        (lambda: ChromaCloudSparseEmbedding(dimension=3), "an option of Pinecone, for dense vectors"),
        (lambda: PineconeInferenceSparseEmbeddings(task="search"), "an option of Chroma Cloud"),
        (lambda: ChromaCloudEmbeddings(return_tokens=True), "an option of both providers, for sparse vectors"),
        (lambda: DenseEncoder("pinecone", query_model="x"), "an option of Chroma Cloud"),
    ],
)
def test_an_unknown_option_is_answered_with_the_known_ones(construct, said):
    with pytest.raises(ConfigurationError) as caught:
        construct()
    assert said in caught.value.message
    assert "; it has " in caught.value.message


@pytest.mark.parametrize(
    "construct",
    [
        lambda key: ChromaCloudEmbeddings(max_concurrency=key, apikey=key),
        lambda key: ChromaCloudEmbedding(max_concurrency=key, apikey=key),
        lambda key: SparseRetriever(sparse_encoder=key, k=key),
        lambda key: SparseRetriever(sparse_encoder=SparseEncoder("chroma"), api_key=key),
    ],
)
def test_a_key_in_the_wrong_field_is_in_no_part_of_the_error(construct):
    with pytest.raises(ConfigurationError) as caught:
        construct("pcsk_secret")
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert "pcsk_secret" not in f"{error!r} {error}"


def test_what_pydantic_accepts_is_built():
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        count: int

        def __init__(self, **fields):
            init_model(super().__init__, Model, fields)

    assert Model(count=3).count == 3
    with pytest.raises(ConfigurationError, match="Model: count: Input should be a valid integer"):
        Model(count="many")


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "3", None])
def test_a_count_is_a_whole_number_of_at_least_1(value):
    with pytest.raises(ConfigurationError, match="k must be a whole number of at least 1, not"):
        check_count("k", value)
    assert check_count("k", 1) == 1


def test_every_option_of_the_framework_classes_is_described():
    from langchain_sparse_embed import ChromaCloudSparseEmbeddings, PineconeInferenceEmbeddings
    from langchain_sparse_embed.retrievers import ChromaHybridRetriever, HybridRetriever, PineconeHybridRetriever
    from llama_index_sparse_embed import PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding

    inherited = {"name", "tags", "metadata", "callback_manager", "num_workers", "embeddings_cache", "rate_limiter"}
    for cls in (
        *(ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings, PineconeInferenceEmbeddings),
        *(PineconeInferenceSparseEmbeddings, ChromaCloudEmbedding, ChromaCloudSparseEmbedding),
        *(PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding),
        *(SparseRetriever, HybridRetriever, ChromaHybridRetriever, PineconeHybridRetriever),
    ):
        missing = [name for name, field in cls.model_fields.items() if not field.description]
        assert set(missing) <= inherited, cls
        option = "model_name" if "model_name" in cls.model_fields else next(iter({"model", "k"} & {*cls.model_fields}))
        assert f"    {option}: " in cls.__doc__


def test_a_repr_shows_the_model():
    from langchain_sparse_embed import ChromaCloudSparseEmbeddings
    from langchain_sparse_embed.stores.pinecone_text import PineconeTextEncoder

    sparse = ChromaCloudSparseEmbeddings()
    adapters = [sparse.as_qdrant(), sparse.as_pinecone(), PineconeTextEncoder(sparse), sparse.as_chroma()]
    for one in (ChromaCloudEmbeddings(), sparse, SparseRetriever(sparse_encoder=sparse), *adapters):
        assert "model='" in repr(one), one
    assert "model_name='prithivida/Splade_PP_en_v1'" in repr(ChromaCloudSparseEmbedding())
    assert repr(InvertedIndex()) == "InvertedIndex(0 documents, idf=False)"
