"""A pipeline step that computes sparse vectors before a store needs them.

LlamaIndex's stores request sparse vectors while they write: Milvus for one node at a time, Qdrant on the event loop.
With this step, all texts are sent beforehand in few concurrent requests, and the store finds the vectors in the cache.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Literal

from llama_index.core.schema import BaseNode, MetadataMode, TransformComponent

from llama_index_sparse_embed.sparse import ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from sparse_embed import ConfigurationError
from sparse_embed.cache import MemoryStore

# Milvus embeds `node.text` (llama-index-vector-stores-milvus 1.2), which is the content without metadata.
MODES: Final = {"embed": MetadataMode.EMBED, "text": MetadataMode.NONE, "none": MetadataMode.NONE}


class SparsePrefetch(TransformComponent):
    """Fills the cache of a sparse embedding with the vectors of nodes; the nodes pass through as they are.

    Make it the last step, since it must see the nodes' final text, and give the store the same embedding. With
    ``num_workers``, or when the pipeline's own cache outlives the process (a step that is found there does not run),
    the embedding's cache must be one that processes share: a path, or a store outside.

    Example:
        >>> from llama_index.core.ingestion import IngestionPipeline
        >>> from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding
        >>> sparse = ChromaCloudSparseEmbedding(cache="vectors.sqlite")
        >>> pipeline = IngestionPipeline(transformations=[ChromaCloudEmbedding(), SparsePrefetch(sparse)])
    """

    embedding: ChromaCloudSparseEmbedding | PineconeInferenceSparseEmbedding
    """Its cache is filled."""
    text: Literal["embed", "text", "none"] = "embed"
    """What the store will embed: ``"embed"``, the text with the metadata that is meant for embedding (Qdrant,
    Pinecone); ``"text"``, ``node.text`` (Milvus); ``"none"``, the text without metadata (Chroma)."""

    def __init__(
        self,
        embedding: ChromaCloudSparseEmbedding | PineconeInferenceSparseEmbedding,
        text: Literal["embed", "text", "none"] = "embed",
    ) -> None:
        """Check that there is a cache to fill; nothing is sent.

        Raises:
            ConfigurationError: The embedding is not of this package or has no cache, or `text` is unknown.
        """
        if not isinstance(embedding, ChromaCloudSparseEmbedding | PineconeInferenceSparseEmbedding):
            raise ConfigurationError(f"a sparse embedding of this package is needed, not {type(embedding).__name__}")
        if embedding.cache is None:
            raise ConfigurationError(
                "the embedding has no cache to fill: give it cache=, a number of entries or a path"
            )
        if text not in MODES:
            raise ConfigurationError(f"text must be one of {', '.join(MODES)}, not {text!r}")
        super().__init__(embedding=embedding, text=text)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ANN401  # as the base
        """Embed what is not in the cache yet.

        Raises:
            ConfigurationError: The cache cannot serve the store: it is too small, or exists in this worker only.
            SparseEmbedError: A vector could not be obtained.
        """
        deque(self.embedding._encoder.stream_documents(self._texts(nodes)), maxlen=0)  # to hold few vectors
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ANN401  # as the base
        """Like calling it, on the running event loop."""
        async for _ in self.embedding._encoder.astream_documents(self._texts(nodes)):
            pass
        return nodes

    def _texts(self, nodes: Sequence[BaseNode]) -> list[str]:
        texts = list(dict.fromkeys(node.get_content(MODES[self.text]) for node in nodes))
        cache = self.embedding.cache
        if self.embedding._from_another_process and isinstance(cache, int | MemoryStore):
            raise ConfigurationError(
                "the embedding's cache exists in this worker process only, and the store is in another: "
                "give the embedding cache=, the path of a file that processes share, or, on Ray, use "
                "llama_index_sparse_embed.ray.RaySparsePrefetch"
            )
        if isinstance(cache, int) and cache < len(texts):
            raise ConfigurationError(f"cache={cache} is too small for {len(texts)} texts: the first would be forgotten")
        return texts

    # Not LlamaIndex's __getstate__ (core 0.14), which drops what cannot be pickled and only logs it.
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.embedding, self.text)

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps."""
        return cls.__name__
