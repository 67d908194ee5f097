"""What the ``as_…`` methods return keeps the promises of a sparse encoder, in the store's own types.

Milvus is in ``tests/milvus``, which has an environment of its own.
"""

import asyncio

import pytest
from langchain_qdrant.sparse_embeddings import SparseEmbeddings
from langchain_qdrant.sparse_embeddings import SparseVector as QdrantVector
from pinecone import SparseValues

from langchain_sparse_embed import ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.convert import from_chroma, from_pinecone
from sparse_embed.testing.conformance import SparseConformance


class TestQdrant(SparseConformance):
    def make_encoder(self, **settings):
        adapter = ChromaCloudSparseEmbeddings(task="search", **settings).as_qdrant()
        assert isinstance(adapter, SparseEmbeddings)
        return adapter

    def back(self, vector):
        assert type(vector) is QdrantVector
        return SparseVector(vector.indices, vector.values)

    def embed_documents(self, encoder, texts):
        return [self.back(vector) for vector in encoder.embed_documents(texts)]

    def embed_query(self, encoder, text):
        return self.back(encoder.embed_query(text))

    async def aembed_documents(self, encoder, texts):
        return [self.back(vector) for vector in await encoder.aembed_documents(texts)]

    async def aembed_query(self, encoder, text):
        return self.back(await encoder.aembed_query(text))


class WithPlaceholder(SparseConformance):
    """Pinecone keeps no empty vector, so another stands for it; here it is turned back."""

    placeholder = SparseVector([4_294_967_295], [2.0**-100])

    def back(self, vector):
        vector = from_pinecone(vector)
        return SparseVector([], []) if vector == self.placeholder else vector


class TestPinecone(WithPlaceholder):
    def make_encoder(self, **settings):
        return PineconeInferenceSparseEmbeddings(**settings).as_pinecone(placeholder=self.placeholder)

    def back(self, vector):
        assert type(vector) is SparseValues
        return super().back(vector)

    def embed_documents(self, encoder, texts):
        return [self.back(vector) for vector in encoder.embed_documents(texts)]

    def embed_query(self, encoder, text):
        return self.back(encoder.embed_query(text))

    async def aembed_documents(self, encoder, texts):
        return [self.back(vector) for vector in await encoder.aembed_documents(texts)]

    async def aembed_query(self, encoder, text):
        return self.back(await encoder.aembed_query(text))


class TestPineconeText(WithPlaceholder):
    takes_whole_lists = False  # a bare text is one document, as in pinecone-text

    def make_encoder(self, **settings):
        return PineconeInferenceSparseEmbeddings(**settings).as_pinecone_text(placeholder=self.placeholder)

    def embed_documents(self, encoder, texts):
        return [self.back(vector) for vector in encoder.encode_documents(texts)]

    def embed_query(self, encoder, text):
        if isinstance(text, list):
            [vector] = encoder.encode_queries([text])
            return self.back(vector)
        return self.back(encoder.encode_queries(text))

    async def aembed_documents(self, encoder, texts):
        return await asyncio.to_thread(self.embed_documents, encoder, texts)  # this shape has no async methods

    async def aembed_query(self, encoder, text):
        return await asyncio.to_thread(self.embed_query, encoder, text)


class TestChroma(SparseConformance):
    def make_encoder(self, **settings):
        return ChromaCloudSparseEmbeddings(task="search", **settings).as_chroma()

    def embed_documents(self, encoder, texts):
        return [from_chroma(vector) for vector in encoder(texts)]

    def embed_query(self, encoder, text):
        [vector] = encoder.embed_query([text])
        return from_chroma(vector)

    async def aembed_documents(self, encoder, texts):
        return await asyncio.to_thread(self.embed_documents, encoder, texts)  # chromadb's functions are sync

    async def aembed_query(self, encoder, text):
        return await asyncio.to_thread(self.embed_query, encoder, text)

    def test_no_texts_have_no_vectors_and_cost_no_request(self, encoder, call, provider):
        with pytest.raises(ValueError, match="non-empty"):  # chromadb's own check; a collection never asks for none
            call.documents(encoder, [])
        assert not provider.received


@pytest.mark.parametrize("method", ["encode_documents", "encode_queries"])
def test_pinecone_text_gives_a_fresh_dict_for_a_text_and_a_list_of_them_for_a_list(local, method):
    sparse = PineconeInferenceSparseEmbeddings(model="local/bm25", base_url=local, api_key="any", cache=10)
    encode = getattr(sparse.as_pinecone_text(), method)
    one = encode("quick fox")
    expected = dict(one, values=list(one["values"]))
    one["values"] *= 2  # what PineconeHybridSearchRetriever may do to weigh the two halves
    assert encode(["quick fox", "quick fox"]) == [expected, expected]


def test_pinecone_text_refuses_a_text_without_terms(local):
    encoder = PineconeInferenceSparseEmbeddings(model="local/bm25", base_url=local, api_key="any").as_pinecone_text()
    with pytest.raises(ConfigurationError, match="vector 1: the vector is empty"):
        encoder.encode_documents(["fox", "the of and"])
    with pytest.raises(ConfigurationError, match="the vector is empty"):
        encoder.encode_queries(" ")
