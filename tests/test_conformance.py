"""Every sparse encoder of the core and of the LangChain plugin keeps the promises that we offer as a test suite."""

from langchain_sparse_embed import ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings
from sparse_embed import SparseEncoder
from sparse_embed.testing.conformance import SparseConformance


class TestChroma(SparseConformance):
    def make_encoder(self, **settings):
        return SparseEncoder("chroma", task="search", **settings)


class TestPinecone(SparseConformance):
    def make_encoder(self, **settings):
        return SparseEncoder("pinecone", **settings)


class TestLangChainChroma(SparseConformance):
    def make_encoder(self, **settings):
        return ChromaCloudSparseEmbeddings(task="search", **settings)


class TestLangChainPinecone(SparseConformance):
    def make_encoder(self, **settings):
        return PineconeInferenceSparseEmbeddings(**settings)
