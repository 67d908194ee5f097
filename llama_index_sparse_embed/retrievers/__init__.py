"""Retrievers for LlamaIndex: sparse in this process, fused from several others, and hybrid over Chroma Cloud.

None of them needs a language model, and importing them imports no store's package.
"""

from llama_index_sparse_embed.retrievers.chroma import ChromaHybridRetriever
from llama_index_sparse_embed.retrievers.hybrid import HybridRetriever
from llama_index_sparse_embed.retrievers.sparse import SparseRetriever

__all__ = ["ChromaHybridRetriever", "HybridRetriever", "SparseRetriever"]
