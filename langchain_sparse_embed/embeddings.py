"""Dense embeddings for LangChain: any store, retriever or cache that takes `Embeddings`."""

from langchain_core.embeddings import Embeddings
from pydantic import Field, PrivateAttr

from langchain_sparse_embed._delegating import ChromaSettings, Delegating, PineconeSettings, progress_bar, report
from sparse_embed import DenseEncoder
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone


class _Dense(Delegating, Embeddings):
    _encoder_class = DenseEncoder
    _encoder: DenseEncoder = PrivateAttr()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of documents, one per text, in order.

        Raises:
            ConfigurationError: Bad input (a blank text has no dense vector); no request was sent.
            SparseEmbedError: The vectors could not be obtained; ``error.partial`` holds the ones received before.
        """
        with progress_bar(self.show_progress_bar):
            vectors = self._encoder.embed_documents(texts)
            report(len(vectors), len(vectors))
        return vectors

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Like `embed_documents`, on the running event loop."""
        with progress_bar(self.show_progress_bar):
            vectors = await self._encoder.aembed_documents(texts)
            report(len(vectors), len(vectors))
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Vector of a query.

        Raises:
            ConfigurationError: Bad input; no request was sent.
            SparseEmbedError: The vector could not be obtained.
        """
        return self._encoder.embed_query(text)

    async def aembed_query(self, text: str) -> list[float]:
        """Like `embed_query`, on the running event loop."""
        return await self._encoder.aembed_query(text)


class ChromaCloudEmbeddings(ChromaSettings, _Dense):
    """Dense embeddings from Chroma Cloud.

    Example:
        >>> from langchain_sparse_embed import ChromaCloudEmbeddings
        >>> embeddings = ChromaCloudEmbeddings()  # with CHROMA_API_KEY set
        >>> vectors = embeddings.embed_documents(["the quick brown fox", "a lazy dog"])  # doctest: +SKIP
    """

    model: str = Field(
        default=Chroma.default_models["dense"],
        description="Chroma's model id. The default will not change: it would invalidate your index.",
    )


class PineconeInferenceEmbeddings(PineconeSettings, _Dense):
    """Dense embeddings from Pinecone Inference.

    Example:
        >>> from langchain_sparse_embed import PineconeInferenceEmbeddings
        >>> embeddings = PineconeInferenceEmbeddings(dimension=512)  # with PINECONE_API_KEY set
        >>> vectors = embeddings.embed_documents(["the quick brown fox", "a lazy dog"])  # doctest: +SKIP
    """

    model: str = Field(
        default=Pinecone.default_models["dense"],
        description="Pinecone's model id. The default will not change: it would invalidate your index.",
    )
    dimension: int | None = Field(default=None, description="Length of a vector, where the model offers several.")
