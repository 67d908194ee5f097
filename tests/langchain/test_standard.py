"""LangChain's own standard tests, on both dense classes, against the local provider."""

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from langchain_sparse_embed import ChromaCloudEmbeddings, PineconeInferenceEmbeddings


class TestChromaOffline(EmbeddingsUnitTests):
    embeddings_class = ChromaCloudEmbeddings
    init_from_env_params = {"CHROMA_API_KEY": "from the environment"}, {}, {"api_key": "from the environment"}


class TestPineconeOffline(EmbeddingsUnitTests):
    embeddings_class = PineconeInferenceEmbeddings
    init_from_env_params = {"PINECONE_API_KEY": "from the environment"}, {}, {"api_key": "from the environment"}


class OverTheWire(EmbeddingsIntegrationTests):
    @pytest.fixture
    def model(self, local):
        return self.embeddings_class(model="local/hashing", api_key="any", base_url=local)


class TestChroma(OverTheWire):
    embeddings_class = ChromaCloudEmbeddings


class TestPinecone(OverTheWire):
    embeddings_class = PineconeInferenceEmbeddings
