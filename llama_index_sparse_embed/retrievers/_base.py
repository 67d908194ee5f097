"""What the retrievers share: vectors from either kind of encoder, and what is written into the metadata of nodes."""

import asyncio
from collections.abc import Coroutine, Mapping
from copy import deepcopy
from typing import Any

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.schema import BaseNode

from sparse_embed import ConfigurationError, SparseEncoder, SparseVector
from sparse_embed.convert import from_dict

AnySparse = BaseSparseEmbedding | SparseEncoder


def checked_encoder(sparse: AnySparse) -> AnySparse:
    """Refuse what is no sparse encoder, such as a dense embedding."""
    if not isinstance(sparse, BaseSparseEmbedding | SparseEncoder):
        raise ConfigurationError(f"a sparse embedding or SparseEncoder is needed, not {type(sparse).__name__}")
    return sparse


def checked_top_k(top_k: int) -> int:
    """Refuse what is no count."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ConfigurationError(f"similarity_top_k must be a whole number of at least 1, not {top_k!r}")
    return top_k


def embed_query(sparse: AnySparse, text: str) -> SparseVector:
    """The vector of a query."""
    if isinstance(sparse, SparseEncoder):
        return sparse.embed_query(text)
    return from_dict(sparse.get_query_embedding(text))


async def aembed_query(sparse: AnySparse, text: str) -> SparseVector:
    """Like `embed_query`, on the running event loop."""
    if isinstance(sparse, SparseEncoder):
        return await sparse.aembed_query(text)
    return from_dict(await sparse.aget_query_embedding(text))


def embed_documents(sparse: AnySparse, texts: list[str]) -> list[SparseVector]:
    """One vector a text."""
    if isinstance(sparse, SparseEncoder):
        return sparse.embed_documents(texts)
    return [from_dict(weights) for weights in sparse.get_text_embedding_batch(texts)]


async def aembed_documents(sparse: AnySparse, texts: list[str]) -> list[SparseVector]:
    """Like `embed_documents`, on the running event loop."""
    if isinstance(sparse, SparseEncoder):
        return await sparse.aembed_documents(texts)
    return [from_dict(weights) for weights in await sparse.aget_text_embedding_batch(texts)]


async def side_by_side(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of all; when one fails, the others are cancelled."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def copy_with(node: BaseNode, extra: Mapping[str | None, Any]) -> BaseNode:
    """A copy of the node with more metadata, which neither a language model nor an embedding gets to read.

    Args:
        node: It is not changed, and the copy's metadata shares nothing with it.
        extra: By name; what has no name is left out.
    """
    named = {name: value for name, value in extra.items() if name is not None}
    return node.model_copy(
        update={
            "metadata": deepcopy(node.metadata | named),
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, *named],
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, *named],
        }
    )
