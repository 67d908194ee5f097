"""LlamaIndex's `RayIngestionPipeline`, with sparse vectors that are paid for once.

The pipeline's store asks for sparse vectors in the process that runs the pipeline, and Ray's actors have caches of
their own. `RaySparsePrefetch` lets actors embed the nodes, and puts what they received into the cache of that process.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import PrivateAttr

from llama_index_sparse_embed.ingestion import SparsePrefetch
from llama_index_sparse_embed.sparse import ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from sparse_embed import ConfigurationError
from sparse_embed.cache import ByteStore, open_cache
from sparse_embed.extras import requires

with requires("llama-index-ingestion-ray", "llama-index-ray"):
    import pyarrow as pa
    from llama_index.ingestion.ray import RayTransformComponent
    from llama_index.ingestion.ray.utils import ray_deserialize_node_batch


class RaySparsePrefetch(RayTransformComponent):  # type: ignore[misc]  # without Ray, it has no type
    """A step of `RayIngestionPipeline` that fills the cache of a sparse embedding; the nodes pass through as they are.

    Make it the last step, since it must see the nodes' final text, and give the store the same embedding. Actors send
    each text once, and the store finds all vectors in the cache. The step ends when all nodes are embedded; ``arun``
    waits for it on the event loop.

    Example:
        >>> from llama_index.ingestion.ray import RayIngestionPipeline, RayTransformComponent
        >>> from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding
        >>> sparse = ChromaCloudSparseEmbedding(cache=100_000)
        >>> pipeline = RayIngestionPipeline(
        ...     transformations=[
        ...         RayTransformComponent(ChromaCloudEmbedding, map_batches_kwargs={"batch_size": 1600}),
        ...         RaySparsePrefetch(sparse),
        ...     ],
        ...     vector_store=QdrantVectorStore("docs", client=client, **sparse.qdrant_kwargs()),
        ... )  # doctest: +SKIP
    """

    _embedding: ChromaCloudSparseEmbedding | PineconeInferenceSparseEmbedding = PrivateAttr()

    def __init__(
        self,
        embedding: ChromaCloudSparseEmbedding | PineconeInferenceSparseEmbedding,
        text: Literal["embed", "text", "none"] = "embed",
        map_batches_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Check that there is a cache to fill; nothing is sent.

        Args:
            embedding: Its cache is filled. Without a key in it, each actor looks up the key in its own environment.
            text: What the store will embed, as in `SparsePrefetch`.
            map_batches_kwargs: Further arguments of ``Dataset.map_batches``. Default: as many nodes per batch as keep
                all requests in flight, in one actor.

        Raises:
            ConfigurationError: The embedding is not of this package or has no cache, or `text` is unknown.
        """
        SparsePrefetch(embedding, text)
        super().__init__(
            transform_class=SparsePrefetch,
            transform_kwargs={"embedding": embedding, "text": text},
            map_batches_kwargs={"batch_size": embedding.embed_batch_size, "num_cpus": 0.25}
            | (map_batches_kwargs or {}),
        )
        self._embedding = embedding

    def __call__(self, dataset: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # Ray's datasets
        """Embed what is not in the cache yet, before the next step begins.

        Raises:
            ConfigurationError: The cache is too small: the first vectors would be forgotten before the store asks.
            Exception: What Ray makes of the error of an actor.
        """
        nodes = dataset.materialize()
        size = self._embedding.cache
        if isinstance(size, int) and size < nodes.count():
            raise ConfigurationError(
                f"cache={size} is too small for {nodes.count()} nodes: the first would be forgotten"
            )
        entries = nodes.map_batches(
            _Prefetch, fn_constructor_kwargs=self.transform_kwargs, batch_format="pyarrow", **self.map_batches_kwargs
        )
        cache = self._embedding._encoder._resources.cache
        assert cache is not None  # noqa: S101  # the constructor refuses an embedding without one
        for table in entries.iter_batches(batch_format="pyarrow", batch_size=None):
            cache.store.mset(list(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True)))
        return nodes


class _Prefetch:
    """Turns a batch of nodes into entries of the cache, in an actor."""

    def __init__(
        self,
        embedding: ChromaCloudSparseEmbedding | PineconeInferenceSparseEmbedding,
        text: Literal["embed", "text", "none"],
    ) -> None:
        cache = open_cache(embedding.cache)
        assert cache is not None  # noqa: S101  # as above
        self._store = _Recorder(cache.store)
        self._prefetch = SparsePrefetch(embedding.model_copy(update={"cache": self._store}), text)

    def __call__(self, batch: pa.Table) -> pa.Table:
        self._store.entries.clear()
        self._prefetch(ray_deserialize_node_batch(batch))
        entries = self._store.entries
        return pa.table(
            {"key": pa.array(entries.keys(), pa.string()), "value": pa.array(entries.values(), pa.binary())}
        )


class _Recorder:
    """A byte store that remembers what is read from another and written to it."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self.entries: dict[str, bytes] = {}

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        values = self._store.mget(keys)
        self.entries.update((key, value) for key, value in zip(keys, values, strict=True) if value is not None)
        return values

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        self._store.mset(key_value_pairs)
        self.entries.update(key_value_pairs)
