"""Sparse embeddings for LangChain, which has no base class for them; ``QdrantVectorStore`` accepts these unchanged.

Not subclasses of `Embeddings`: caches and stores would treat their vectors as dense ones.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING

from pydantic import Field, PrivateAttr

from langchain_sparse_embed._delegating import ChromaSettings, Delegating, PineconeSettings, progress_bar, report
from sparse_embed import SparseEncoder, SparseVector
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone

if TYPE_CHECKING:
    from langchain_sparse_embed.stores.milvus import MilvusSparseEmbeddings
    from langchain_sparse_embed.stores.pinecone import PineconeStoreEmbeddings
    from langchain_sparse_embed.stores.pinecone_text import PineconeTextEncoder
    from langchain_sparse_embed.stores.qdrant import QdrantSparseEmbeddings
    from sparse_embed.stores.chroma import EncoderFunction


class _Sparse(Delegating):
    _encoder_class = SparseEncoder
    _encoder: SparseEncoder = PrivateAttr()

    return_tokens: bool = Field(default=False, description="Ask for the terms behind the indices.")

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Vectors of documents, one per text, in order; a blank text has the empty vector.

        Raises:
            ConfigurationError: Bad input; no request was sent.
            SparseEmbedError: The vectors could not be obtained; ``error.partial`` holds the ones received before.
        """
        with progress_bar(self.show_progress_bar):
            vectors = self._encoder.embed_documents(texts)
            report(len(vectors), len(vectors))
        return vectors

    async def aembed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Like `embed_documents`, on the running event loop."""
        with progress_bar(self.show_progress_bar):
            vectors = await self._encoder.aembed_documents(texts)
            report(len(vectors), len(vectors))
        return vectors

    def embed_query(self, text: str) -> SparseVector:
        """Vector of a query.

        Raises:
            ConfigurationError: Bad input; no request was sent.
            SparseEmbedError: The vector could not be obtained.
        """
        return self._encoder.embed_query(text)

    async def aembed_query(self, text: str) -> SparseVector:
        """Like `embed_query`, on the running event loop."""
        return await self._encoder.aembed_query(text)

    def stream_documents(self, texts: Iterable[str]) -> Iterator[SparseVector]:
        """Vectors of any number of documents, one per text, in order, in bounded memory."""
        return self._encoder.stream_documents(texts)

    def astream_documents(self, texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[SparseVector]:
        """Like `stream_documents`, on the running event loop; `texts` may be an async iterable."""
        return self._encoder.astream_documents(texts)

    def as_qdrant(self) -> "QdrantSparseEmbeddings":
        """For ``QdrantVectorStore(sparse_embedding=...)``, as the type that its signature names."""
        from langchain_sparse_embed.stores.qdrant import QdrantSparseEmbeddings

        return QdrantSparseEmbeddings(self)

    def as_milvus(self) -> "MilvusSparseEmbeddings":
        """For ``Milvus(embedding_function=...)``, alone or in a list with a dense one.

        Pass ``index_params`` and ``search_params`` to the store: its defaults drop the lowest fifth of the weights
        (langchain-milvus 0.3), which Milvus Lite 3 refuses.
        """
        from langchain_sparse_embed.stores.milvus import MilvusSparseEmbeddings

        return MilvusSparseEmbeddings(self)

    def as_pinecone(self, *, placeholder: SparseVector | None = None) -> "PineconeStoreEmbeddings":
        """For ``PineconeSparseVectorStore(embedding=...)``.

        Args:
            placeholder: Stored for a text without terms, since Pinecone refuses an empty vector; for instance a tiny
                weight at an index that no text has. None: such a text is refused, by its position in the store's batch.
        """
        from langchain_sparse_embed.stores.pinecone import PineconeStoreEmbeddings

        return PineconeStoreEmbeddings(self, placeholder)

    def as_pinecone_text(self, *, placeholder: SparseVector | None = None) -> "PineconeTextEncoder":
        """For ``PineconeHybridSearchRetriever(sparse_encoder=...)``, with the interface of pinecone-text's encoders.

        Args:
            placeholder: As in `as_pinecone`.
        """
        from langchain_sparse_embed.stores.pinecone_text import PineconeTextEncoder

        return PineconeTextEncoder(self, placeholder)

    def as_chroma(self) -> "EncoderFunction":
        """For ``SparseVectorIndexConfig(embedding_function=...)`` of a collection in Chroma Cloud.

        `sparse_embed.stores.chroma.open_collection` opens or creates such a collection. Every process that adds to it
        or searches it must ``import sparse_embed.stores.chroma``.
        """
        from sparse_embed.stores.chroma import EncoderFunction

        return EncoderFunction(self._encoder)


class ChromaCloudSparseEmbeddings(ChromaSettings, _Sparse):
    """Sparse embeddings from Chroma Cloud.

    Example:
        >>> from langchain_sparse_embed import ChromaCloudSparseEmbeddings
        >>> sparse = ChromaCloudSparseEmbeddings()  # with CHROMA_API_KEY set
        >>> store = QdrantVectorStore.from_texts(
        ...     texts, dense, sparse_embedding=sparse, retrieval_mode=RetrievalMode.HYBRID, location=":memory:"
        ... )  # doctest: +SKIP
    """

    model: str = Field(
        default=Chroma.default_models["sparse"],
        description="Chroma's model id. The default will not change: it would invalidate your index.",
    )


class PineconeInferenceSparseEmbeddings(PineconeSettings, _Sparse):
    """Sparse embeddings from Pinecone Inference.

    Example:
        >>> from langchain_sparse_embed import PineconeInferenceSparseEmbeddings
        >>> sparse = PineconeInferenceSparseEmbeddings(return_tokens=True)  # with PINECONE_API_KEY set
        >>> sparse.embed_query("quick fox").top(2)  # doctest: +SKIP
    """

    model: str = Field(
        default=Pinecone.default_models["sparse"],
        description="Pinecone's model id. The default will not change: it would invalidate your index.",
    )
    max_tokens_per_sequence: int | None = Field(
        default=None, description="Tokens used of each text: 512 (the default of pinecone-sparse-english-v0) or 2048."
    )
