"""What the retrievers share: vectors from either kind of encoder, and additions to the metadata of nodes."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.schema import BaseNode

from sparse_embed import ConfigurationError, SparseEncoder, SparseVector
from sparse_embed.convert import from_dict

AnySparse = BaseSparseEmbedding | SparseEncoder


def check_sparse(sparse: AnySparse) -> AnySparse:
    """Refuse anything but a sparse encoder, such as a dense embedding."""
    if not isinstance(sparse, BaseSparseEmbedding | SparseEncoder):
        raise ConfigurationError(f"a sparse embedding or SparseEncoder is needed, not {type(sparse).__name__}")
    return sparse


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
    """One vector per text, in order."""
    if isinstance(sparse, SparseEncoder):
        return sparse.embed_documents(texts)
    return [from_dict(weights) for weights in sparse.get_text_embedding_batch(texts)]


async def aembed_documents(sparse: AnySparse, texts: list[str]) -> list[SparseVector]:
    """Like `embed_documents`, on the running event loop."""
    if isinstance(sparse, SparseEncoder):
        return await sparse.aembed_documents(texts)
    return [from_dict(weights) for weights in await sparse.aget_text_embedding_batch(texts)]


def copy_with(node: BaseNode, extra: Mapping[str | None, Any]) -> BaseNode:
    """A copy of the node with more metadata, which is hidden from language models and embeddings.

    Args:
        node: It is not changed, and the copy's metadata shares nothing with it.
        extra: By name; None as a name is ignored.
    """
    named = {name: value for name, value in extra.items() if name is not None}
    return node.model_copy(
        update={
            "metadata": deepcopy(node.metadata | named),
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, *named],
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, *named],
        }
    )
