"""Qdrant: the pair of functions from which ``QdrantVectorStore`` takes its sparse vectors.

Both functions must be given: for a missing one, the store loads a FastEmbed model.
"""

from collections.abc import Callable
from functools import partial
from typing import TypedDict

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding

Columns = tuple[list[list[int]], list[list[float]]]


class QdrantKwargs(TypedDict):
    """Keyword arguments for ``QdrantVectorStore``."""

    sparse_doc_fn: Callable[[list[str]], Columns]
    sparse_query_fn: Callable[[list[str]], Columns]
    enable_hybrid: bool


def qdrant_kwargs(embedding: BaseSparseEmbedding) -> QdrantKwargs:
    """Arguments that let the store use any sparse embedding. The functions can be pickled if the embedding can."""
    return {
        "sparse_doc_fn": partial(encode_documents, embedding),
        "sparse_query_fn": partial(encode_queries, embedding),
        "enable_hybrid": True,  # without it a sparse query silently runs dense (llama-index-vector-stores-qdrant 0.10)
    }


def encode_documents(embedding: BaseSparseEmbedding, texts: list[str]) -> Columns:
    """Indices and values of documents, one list per text in each."""
    return _to_columns(embedding.get_text_embedding_batch(texts))


def encode_queries(embedding: BaseSparseEmbedding, texts: list[str]) -> Columns:
    """Indices and values of queries, one list per text in each."""
    return _to_columns([embedding.get_query_embedding(text) for text in texts])


def _to_columns(vectors: list[dict[int, float]]) -> Columns:
    return [list(vector) for vector in vectors], [list(vector.values()) for vector in vectors]
