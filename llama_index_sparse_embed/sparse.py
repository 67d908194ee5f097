"""Sparse embeddings for LlamaIndex: dicts of term id and weight, for every store that takes a `BaseSparseEmbedding`.

Only the private methods are implemented: LlamaIndex's public ones add events and progress bars. A blank text has the
empty dict, and costs no request.
"""

from typing import TYPE_CHECKING

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from pydantic import Field, PrivateAttr

from llama_index_sparse_embed._delegating import ChromaSettings, Delegating, PineconeSettings
from sparse_embed import SparseEncoder
from sparse_embed.convert import to_dict
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone

if TYPE_CHECKING:
    from llama_index_sparse_embed.stores.milvus import MilvusSparseEmbeddingFunction
    from llama_index_sparse_embed.stores.qdrant import QdrantKwargs
    from sparse_embed.stores.chroma import EncoderFunction


class _Sparse(Delegating, BaseSparseEmbedding):
    _encoder_class = SparseEncoder
    _encoder: SparseEncoder = PrivateAttr()

    def _get_query_embedding(self, query: str) -> dict[int, float]:
        return to_dict(self._encoder.embed_query(query))

    async def _aget_query_embedding(self, query: str) -> dict[int, float]:
        return to_dict(await self._encoder.aembed_query(query))

    def _get_text_embedding(self, text: str) -> dict[int, float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> dict[int, float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return [to_dict(vector) for vector in self._encoder.embed_documents(texts)]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return [to_dict(vector) for vector in await self._encoder.aembed_documents(texts)]

    def qdrant_kwargs(self) -> "QdrantKwargs":
        """What ``QdrantVectorStore`` needs for hybrid and sparse search with this model, and without FastEmbed.

        The store's async methods call these functions on the event loop and block it meanwhile
        (llama-index-vector-stores-qdrant 0.10).

        Example:
            >>> sparse = ChromaCloudSparseEmbedding()
            >>> store = QdrantVectorStore("docs", client=client, **sparse.qdrant_kwargs())  # doctest: +SKIP
        """
        from llama_index_sparse_embed.stores.qdrant import qdrant_kwargs

        return qdrant_kwargs(self)

    def as_milvus(self) -> "MilvusSparseEmbeddingFunction":
        """What ``MilvusVectorStore`` needs for hybrid and sparse search with this model.

        The store requests the vectors of one node at a time (llama-index-vector-stores-milvus 1.2): put
        `SparsePrefetch` with ``text="text"`` before it, and 100 nodes cost at most two requests. Its SPARSE mode drops
        the lowest fifth of a query's weights; its HYBRID mode uses them all.

        Example:
            >>> sparse = ChromaCloudSparseEmbedding()
            >>> MilvusVectorStore(
            ...     uri, dim=1024, enable_sparse=True, sparse_embedding_function=sparse.as_milvus()
            ... )  # doctest: +SKIP
        """
        from llama_index_sparse_embed.stores.milvus import MilvusSparseEmbeddingFunction

        return MilvusSparseEmbeddingFunction(self)

    def as_chroma(self) -> "EncoderFunction":
        """For ``SparseVectorIndexConfig(embedding_function=...)`` of a collection in Chroma Cloud.

        `sparse_embed.stores.chroma.open_collection` opens or creates such a collection, to which ``ChromaVectorStore``
        then writes; `ChromaHybridRetriever` searches it. Every process that adds to it or searches it must ``import
        sparse_embed.stores.chroma``.
        """
        from sparse_embed.stores.chroma import EncoderFunction

        return EncoderFunction(self._encoder)


class ChromaCloudSparseEmbedding(ChromaSettings, _Sparse):
    """Sparse embeddings from Chroma Cloud.

    Example:
        >>> from llama_index_sparse_embed import ChromaCloudSparseEmbedding
        >>> sparse = ChromaCloudSparseEmbedding()  # with CHROMA_API_KEY set
        >>> sparse.get_text_embedding_batch(["the quick brown fox", "a lazy dog"])  # doctest: +SKIP
    """

    model_name: str = Field(
        default=Chroma.default_models["sparse"],
        description="Chroma's model id. The default will not change: it would invalidate your index.",
    )


class PineconeInferenceSparseEmbedding(PineconeSettings, _Sparse):
    """Sparse embeddings from Pinecone Inference.

    Example:
        >>> from llama_index_sparse_embed import PineconeInferenceSparseEmbedding
        >>> sparse = PineconeInferenceSparseEmbedding()  # with PINECONE_API_KEY set
        >>> sparse.get_query_embedding("quick fox")  # doctest: +SKIP
    """

    model_name: str = Field(
        default=Pinecone.default_models["sparse"],
        description="Pinecone's model id. The default will not change: it would invalidate your index.",
    )
    max_tokens_per_sequence: int | None = Field(
        default=None, description="Tokens used of each text: 512 (the default of pinecone-sparse-english-v0) or 2048."
    )
