"""The classes from a configuration: ``"provider:model"``, or a mapping read from YAML, TOML or JSON.

LangChain's own `init_embeddings` knows a fixed list of providers and cannot be told of others (langchain 1.4).
"""

from collections.abc import Mapping
from typing import Any

from langchain_sparse_embed.embeddings import ChromaCloudEmbeddings, PineconeInferenceEmbeddings
from langchain_sparse_embed.sparse import ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings
from sparse_embed.providers import provider_named, read_config


def init_embeddings(
    config: str | Mapping[str, Any],
    **settings: Any,  # noqa: ANN401  # of several types
) -> ChromaCloudEmbeddings | PineconeInferenceEmbeddings:
    """Dense embeddings from a configuration; `SparseEncoder.from_config` takes the same.

    Example:
        >>> init_embeddings("pinecone:llama-text-embed-v2", dimension=512).dimension
        512

    Args:
        config: ``"provider"``, ``"provider:model"``, or a mapping with ``provider`` and any fields of its class. The
            key comes from the environment, and a file cannot send it to another host.
        **settings: Further fields; they win over the mapping's.

    Raises:
        ConfigurationError: An unknown provider or field, or a value that cannot work.
    """
    given = read_config(config) | settings
    provider = provider_named(given.pop("provider"))
    classes = (ChromaCloudEmbeddings, PineconeInferenceEmbeddings)
    return next(cls for cls in classes if cls._provider is provider)(**given)


def init_sparse_embeddings(
    config: str | Mapping[str, Any],
    **settings: Any,  # noqa: ANN401  # of several types
) -> ChromaCloudSparseEmbeddings | PineconeInferenceSparseEmbeddings:
    """Sparse embeddings from a configuration; see `init_embeddings`.

    Example:
        >>> init_sparse_embeddings("chroma").model
        'prithivida/Splade_PP_en_v1'
    """
    given = read_config(config) | settings
    provider = provider_named(given.pop("provider"))
    classes = (ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings)
    return next(cls for cls in classes if cls._provider is provider)(**given)
