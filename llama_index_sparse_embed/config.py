"""The classes from a configuration: ``"provider:model"``, or a mapping read from YAML, TOML or JSON."""

from collections.abc import Mapping
from typing import Any

from llama_index_sparse_embed.embeddings import ChromaCloudEmbedding, PineconeInferenceEmbedding
from llama_index_sparse_embed.sparse import ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding
from sparse_embed.providers import provider_named, read_config
from sparse_embed.providers.base import Provider


def init_embedding(
    config: str | Mapping[str, Any],
    **settings: Any,  # noqa: ANN401  # of several types
) -> ChromaCloudEmbedding | PineconeInferenceEmbedding:
    """A dense embedding from a configuration; `SparseEncoder.from_config` takes the same.

    Example:
        >>> Settings.embed_model = init_embedding("chroma:BAAI/bge-m3")  # doctest: +SKIP

    Args:
        config: ``"provider"``, ``"provider:model"``, or a mapping with ``provider``, ``model`` and any fields of the
            provider's class. The key comes from the environment, and a file cannot send it to another host.
        **settings: Further fields; they win over the mapping's.

    Raises:
        ConfigurationError: An unknown provider or field, or a value that cannot work.
    """
    provider, fields = _read(config, settings)
    classes = (ChromaCloudEmbedding, PineconeInferenceEmbedding)
    return next(cls for cls in classes if cls._provider is provider)(**fields)


def init_sparse_embedding(
    config: str | Mapping[str, Any],
    **settings: Any,  # noqa: ANN401  # of several types
) -> ChromaCloudSparseEmbedding | PineconeInferenceSparseEmbedding:
    """A sparse embedding from a configuration; see `init_embedding`."""
    provider, fields = _read(config, settings)
    classes = (ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding)
    return next(cls for cls in classes if cls._provider is provider)(**fields)


def _read(config: str | Mapping[str, Any], settings: dict[str, Any]) -> tuple[type[Provider], dict[str, Any]]:
    given = read_config(config) | settings
    if "model" in given:  # one file for the core and for both frameworks
        given.setdefault("model_name", given.pop("model"))
    return provider_named(given.pop("provider")), given
