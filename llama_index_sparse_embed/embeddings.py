"""Dense embeddings for LlamaIndex: indexes, ingestion pipelines and ``Settings.embed_model``.

The private methods embed: LlamaIndex's public ones add events, its cache and its rate limiter. Only the batch methods
are written anew, for speed, with the same events.
"""

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, dispatcher
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.utils import iter_batch
from pydantic import Field, PrivateAttr

from llama_index_sparse_embed._delegating import ChromaSettings, Delegating, PineconeSettings
from llama_index_sparse_embed._windows import embed_windows, progress_bar, without_span
from sparse_embed import DenseEncoder
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone
from sparse_embed.texts import list_texts


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

    @dispatcher.span
    def get_text_embedding_batch(
        self,
        texts: list[str],
        show_progress: bool = False,
        **kwargs: Any,  # noqa: ANN401  # as the base
    ) -> list[list[float]]:
        """Vectors of documents, one per text, in order.

        All texts are one call of the core. LlamaIndex's events, with `embed_batch_size` texts each, are the same as
        those of its own method, but their vectors are those that are returned, not copies. With LlamaIndex's
        `embeddings_cache` or `rate_limiter`, each window waits for the one before it.

        Raises:
            ConfigurationError: Bad input or settings.
            SparseEmbedError: The vectors cannot be had; ``error.partial`` holds the ones received before.
        """
        texts = list_texts(texts)
        if self._acts_per_window:
            return without_span(super().get_text_embedding_batch)(texts, show_progress, **kwargs)
        model = self._described
        vectors: list[list[float]] = []
        windows = embed_windows(self._encoder.embed_documents, texts, self.embed_batch_size, show_progress)
        for chunks in iter_batch(texts, self.embed_batch_size):
            dispatcher.event(EmbeddingStartEvent(model_dict=model))
            with self.callback_manager.event(CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: model}) as event:
                embeddings = next(windows)
                event.on_end(payload={EventPayload.CHUNKS: chunks, EventPayload.EMBEDDINGS: embeddings})
            dispatcher.event(EmbeddingEndEvent.model_construct(chunks=chunks, embeddings=embeddings))
            vectors += embeddings
        return vectors

    @dispatcher.span
    async def aget_text_embedding_batch(
        self,
        texts: list[str],
        show_progress: bool = False,
        **kwargs: Any,  # noqa: ANN401  # as the base
    ) -> list[list[float]]:
        """Like `get_text_embedding_batch`, on the running event loop.

        As in LlamaIndex's own method, all windows start before the first one ends. With `num_workers` over 1, that many
        are sent at the same time.
        """
        texts = list_texts(texts)
        if self._acts_per_window or (self.num_workers or 0) > 1:
            return await without_span(super().aget_text_embedding_batch)(texts, show_progress, **kwargs)
        model = self._described
        windows = list(iter_batch(texts, self.embed_batch_size))
        event_ids = []
        for _ in windows:
            dispatcher.event(EmbeddingStartEvent(model_dict=model))
            event_ids.append(
                self.callback_manager.on_event_start(CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: model})
            )
        with progress_bar(len(windows), show_progress):
            vectors = await self._encoder.aembed_documents(texts)
        for event_id, chunks, embeddings in zip(
            event_ids, windows, iter_batch(vectors, self.embed_batch_size), strict=True
        ):
            dispatcher.event(EmbeddingEndEvent.model_construct(chunks=chunks, embeddings=embeddings))
            self.callback_manager.on_event_end(
                CBEventType.EMBEDDING,
                payload={EventPayload.CHUNKS: chunks, EventPayload.EMBEDDINGS: embeddings},
                event_id=event_id,
            )
        return vectors

    @property
    def _acts_per_window(self) -> bool:
        """Whether something that LlamaIndex does in each window must come before the next window is sent."""
        limiter = getattr(self, "rate_limiter", None)  # llama-index-core 0.14.10 has none
        return self.embeddings_cache is not None or limiter is not None

    @property
    def _described(self) -> dict[str, Any]:
        """What events say about this object."""
        described: dict[str, Any] = getattr(self, "to_payload", self.to_dict)()  # to_dict in llama-index-core 0.14.10
        return described


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
