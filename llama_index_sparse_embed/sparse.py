"""Sparse embeddings for LlamaIndex: dicts of term id and weight, for every store that takes a `BaseSparseEmbedding`.

The private methods embed: LlamaIndex's public ones add events. Only the batch methods are written anew, for speed, with
the same events. A blank text has the empty dict, and costs no request.
"""

import os
import platform
from typing import TYPE_CHECKING, Any

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding, dispatcher
from llama_index.core.instrumentation.events.embedding import SparseEmbeddingEndEvent, SparseEmbeddingStartEvent
from llama_index.core.utils import iter_batch
from pydantic import Field, PrivateAttr

from llama_index_sparse_embed._delegating import ChromaSettings, Delegating, PineconeSettings
from llama_index_sparse_embed._windows import embed_windows, progress_bar, without_span
from sparse_embed import SparseEncoder
from sparse_embed.convert import to_dict
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone
from sparse_embed.texts import list_texts

if TYPE_CHECKING:
    from llama_index_sparse_embed.stores.milvus import MilvusSparseEmbeddingFunction
    from llama_index_sparse_embed.stores.qdrant import QdrantKwargs
    from sparse_embed.stores.chroma import EncoderFunction


class _Sparse(Delegating, BaseSparseEmbedding):
    _encoder_class = SparseEncoder
    _encoder: SparseEncoder = PrivateAttr()
    _from_another_process: bool = PrivateAttr(default=False)  # by a pickle: its cache in memory was left there

    def __getstate__(self) -> dict[Any, Any]:
        return super().__getstate__() | {"process": _this_process()}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        process = state.pop("process")
        super().__setstate__(state)
        self._from_another_process |= process != _this_process()

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

    @dispatcher.span
    def get_text_embedding_batch(
        self,
        texts: list[str],
        show_progress: bool = False,
        **kwargs: Any,  # noqa: ANN401  # as the base
    ) -> list[dict[int, float]]:
        """Weights of documents by term id, one dict per text, in order.

        All texts are one call of the core. LlamaIndex's events, with `embed_batch_size` texts each, are the same as
        those of its own method, but their vectors are those that are returned, not copies.

        Raises:
            ConfigurationError: Bad input or settings.
            SparseEmbedError: The vectors cannot be had; ``error.partial`` holds the ones received before.
        """
        texts = list_texts(texts)
        model = self._described
        vectors: list[dict[int, float]] = []
        windows = embed_windows(self._encoder.embed_documents, texts, self.embed_batch_size, show_progress)
        for chunks in iter_batch(texts, self.embed_batch_size):
            dispatcher.event(SparseEmbeddingStartEvent(model_dict=model))
            embeddings = [to_dict(vector) for vector in next(windows)]
            dispatcher.event(SparseEmbeddingEndEvent.model_construct(chunks=chunks, embeddings=embeddings))
            vectors += embeddings
        return vectors

    @dispatcher.span
    async def aget_text_embedding_batch(self, texts: list[str], show_progress: bool = False) -> list[dict[int, float]]:
        """Like `get_text_embedding_batch`, on the running event loop.

        As in LlamaIndex's own method, all windows start before the first one ends. With `num_workers` over 1, that many
        are sent at the same time.
        """
        texts = list_texts(texts)
        if (self.num_workers or 0) > 1:
            return await without_span(super().aget_text_embedding_batch)(texts, show_progress)
        model = self._described
        windows = list(iter_batch(texts, self.embed_batch_size))
        for _ in windows:
            dispatcher.event(SparseEmbeddingStartEvent(model_dict=model))
        with progress_bar(len(windows), show_progress):
            vectors = await self._aget_text_embeddings(texts)
        for chunks, embeddings in zip(windows, iter_batch(vectors, self.embed_batch_size), strict=True):
            dispatcher.event(SparseEmbeddingEndEvent.model_construct(chunks=chunks, embeddings=embeddings))
        return vectors

    @property
    def _described(self) -> dict[str, Any]:
        """What events say about this object."""
        described: dict[str, Any] = getattr(self, "to_payload", self.model_dump)()  # model_dump in core 0.14.10
        return described

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


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


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
