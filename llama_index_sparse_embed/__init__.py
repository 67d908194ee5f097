"""Sparse and dense embeddings from Chroma Cloud and Pinecone Inference for LlamaIndex."""

try:
    import llama_index.core  # noqa: F401  # asked here, once, so that its absence is one clear sentence
except ModuleNotFoundError as missing:
    if missing.name not in ("llama_index", "llama_index.core"):
        raise
    raise ImportError(
        "llama_index_sparse_embed needs llama-index-core: pip install 'sparse-embed[llama-index]'"
    ) from None

from llama_index_sparse_embed.config import init_embedding, init_sparse_embedding
from llama_index_sparse_embed.embeddings import ChromaCloudEmbedding, PineconeInferenceEmbedding
from llama_index_sparse_embed.sparse import ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding

__all__ = [
    "ChromaCloudEmbedding",
    "ChromaCloudSparseEmbedding",
    "PineconeInferenceEmbedding",
    "PineconeInferenceSparseEmbedding",
    "init_embedding",
    "init_sparse_embedding",
]
