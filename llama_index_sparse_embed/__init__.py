"""Sparse and dense embeddings from Chroma Cloud and Pinecone Inference for LlamaIndex."""

from sparse_embed.extras import requires

with requires("llama-index-core", "llama-index"):
    import llama_index.core  # noqa: F401  # imported here so that its absence is one clear sentence

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
