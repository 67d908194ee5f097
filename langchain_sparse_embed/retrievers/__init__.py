"""Retrievers for LangChain: sparse in this process, and hybrid over Chroma Cloud or a Pinecone index.

None of them needs a store's package to be imported.
"""

from langchain_sparse_embed.retrievers.chroma import ChromaHybridRetriever
from langchain_sparse_embed.retrievers.pinecone import PineconeHybridRetriever
from langchain_sparse_embed.retrievers.sparse import SparseRetriever

__all__ = ["ChromaHybridRetriever", "PineconeHybridRetriever", "SparseRetriever"]
