"""The sparse classes keep the promises that we offer as a test suite."""

from llama_index_sparse_embed import ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from sparse_embed import SparseVector
from sparse_embed.testing.conformance import SparseConformance


def vector(weights):
    return SparseVector(list(weights), list(weights.values()))


class LlamaIndexConformance(SparseConformance):
    takes_whole_lists = False

    def embed_documents(self, encoder, texts):
        return [vector(weights) for weights in encoder.get_text_embedding_batch(texts)]

    def embed_query(self, encoder, text):
        return vector(encoder.get_query_embedding(text))

    async def aembed_documents(self, encoder, texts):
        return [vector(weights) for weights in await encoder.aget_text_embedding_batch(texts)]

    async def aembed_query(self, encoder, text):
        return vector(await encoder.aget_query_embedding(text))


class TestChroma(LlamaIndexConformance):
    def make_encoder(self, **settings):
        return ChromaCloudSparseEmbedding(task="search", **settings)


class TestPinecone(LlamaIndexConformance):
    def make_encoder(self, **settings):
        return PineconeInferenceSparseEmbedding(**settings)
