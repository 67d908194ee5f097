"""Retrievers for LangChain: sparse in this process, fused from several others, hybrid over Chroma Cloud or Pinecone.

Importing them imports no store's package.
"""

from langchain_sparse_embed.retrievers.chroma import ChromaHybridRetriever
from langchain_sparse_embed.retrievers.hybrid import HybridRetriever
from langchain_sparse_embed.retrievers.pinecone import PineconeHybridRetriever
from langchain_sparse_embed.retrievers.sparse import SparseRetriever

__all__ = ["ChromaHybridRetriever", "HybridRetriever", "PineconeHybridRetriever", "SparseRetriever"]
