"""Dense embeddings for LlamaIndex: indexes, ingestion pipelines and ``Settings.embed_model``.

Only the private methods are implemented: LlamaIndex's public ones add events, progress bars, its cache and its rate
limiter.
"""

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import Field, PrivateAttr

from llama_index_sparse_embed._delegating import ChromaSettings, Delegating, PineconeSettings
from sparse_embed import DenseEncoder
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone


class _Dense(Delegating, BaseEmbedding):
    _encoder_class = DenseEncoder
    _encoder: DenseEncoder = PrivateAttr()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._encoder.embed_query(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._encoder.aembed_query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._encoder.embed_documents([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._encoder.aembed_documents([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._encoder.embed_documents(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._encoder.aembed_documents(texts)


class ChromaCloudEmbedding(ChromaSettings, _Dense):
    """Dense embeddings from Chroma Cloud.

    Example:
        >>> from llama_index.core import Settings
        >>> from llama_index_sparse_embed import ChromaCloudEmbedding
        >>> Settings.embed_model = ChromaCloudEmbedding()  # with CHROMA_API_KEY set
    """

    model_name: str = Field(
        default=Chroma.default_models["dense"],
        description="Chroma's model id. The default will not change: it would invalidate your index.",
    )


class PineconeInferenceEmbedding(PineconeSettings, _Dense):
    """Dense embeddings from Pinecone Inference.

    Example:
        >>> from llama_index.core import Settings
        >>> from llama_index_sparse_embed import PineconeInferenceEmbedding
        >>> Settings.embed_model = PineconeInferenceEmbedding(dimension=512)  # with PINECONE_API_KEY set
    """

    model_name: str = Field(
        default=Pinecone.default_models["dense"],
        description="Pinecone's model id. The default will not change: it would invalidate your index.",
    )
    dimension: int | None = Field(default=None, description="Length of a vector, where the model offers several.")
