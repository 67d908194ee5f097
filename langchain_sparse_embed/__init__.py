"""Sparse and dense embeddings from Chroma Cloud and Pinecone Inference for LangChain."""

try:
    import langchain_core  # noqa: F401  # asked here, once, so that its absence is one clear sentence
except ModuleNotFoundError as missing:
    if missing.name != "langchain_core":
        raise
    raise ImportError("langchain_sparse_embed needs langchain-core: pip install 'sparse-embed[langchain]'") from None

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
