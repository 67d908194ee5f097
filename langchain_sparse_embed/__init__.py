"""Sparse and dense embeddings from Chroma Cloud and Pinecone Inference for LangChain."""

from typing import TYPE_CHECKING

from sparse_embed.extras import requires

with requires("langchain-core", "langchain"):
    import langchain_core  # noqa: F401  # imported here so that its absence is one clear sentence

if TYPE_CHECKING:
    from langchain_sparse_embed.config import init_embeddings, init_sparse_embeddings
    from langchain_sparse_embed.embeddings import ChromaCloudEmbeddings, PineconeInferenceEmbeddings
    from langchain_sparse_embed.sparse import ChromaCloudSparseEmbeddings, PineconeInferenceSparseEmbeddings

__all__ = [
    "ChromaCloudEmbeddings",
    "ChromaCloudSparseEmbeddings",
    "PineconeInferenceEmbeddings",
    "PineconeInferenceSparseEmbeddings",
    "init_embeddings",
    "init_sparse_embeddings",
]


def __getattr__(name: str) -> object:
    """Load a class with its first use: LangChain's own `Embeddings` takes twice as long to import as all the rest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    part = "config" if name.startswith("init_") else "sparse" if "Sparse" in name else "embeddings"
    return getattr(import_module(f"{__name__}.{part}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
