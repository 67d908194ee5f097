"""Sparse (and dense) embeddings from Chroma Cloud and Pinecone Inference: the core without a framework."""

from sparse_embed.encoder import DenseEncoder, SparseEncoder
from sparse_embed.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    InvalidResponseError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    SparseEmbedError,
    UnsupportedModelError,
)
from sparse_embed.explanation import explain
from sparse_embed.quota import Quota
from sparse_embed.vectors import SparseVector, Usage

__version__ = "0.1.0"  # pyproject.toml reads it here

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "DenseEncoder",
    "InvalidResponseError",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Quota",
    "RateLimitError",
    "ServerError",
    "SparseEmbedError",
    "SparseEncoder",
    "SparseVector",
    "UnsupportedModelError",
    "Usage",
    "explain",
]
