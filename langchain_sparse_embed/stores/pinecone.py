"""Pinecone: for ``PineconeSparseVectorStore(embedding=...)``, which accepts only its own class.

A blank text has no terms, and Pinecone refuses an empty vector. Such a text is refused here, by its position in the
batch that the store passes (1,000 texts), unless a placeholder vector is given.
"""

from typing import Any, Self

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from langchain_sparse_embed._protocol import SparseEmbedder
from sparse_embed.convert import convert_all, to_pinecone
from sparse_embed.extras import requires
from sparse_embed.vectors import SparseVector

with requires("langchain-pinecone", "pinecone"):
    from langchain_pinecone import PineconeSparseEmbeddings
    from pinecone import SparseValues


class PineconeStoreEmbeddings(PineconeSparseEmbeddings):
    """langchain-pinecone's `PineconeSparseEmbeddings` as a type; requests and key are the encoder's."""

    _sparse: SparseEmbedder = PrivateAttr()
    _placeholder: SparseVector | None = PrivateAttr()

    pinecone_api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]
    """Not used: the encoder has the key."""

    def __init__(self, sparse: SparseEmbedder, placeholder: SparseVector | None = None) -> None:
        super().__init__(model=sparse.model)
        self._sparse = sparse
        self._placeholder = placeholder

    # The next three override the parent's validators by name: one fetches the list of models, one requires a key in the
    # environment, and one adds parameters that are never sent (langchain-pinecone 0.2.13).

    @model_validator(mode="before")
    @classmethod
    def set_default_config(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Add nothing."""
        return values

    @model_validator(mode="after")
    def validate_model_supported(self) -> Self:
        """The encoder's provider knows its models."""
        return self

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """The encoder looks its key up when sending."""
        return self

    # Like the parent's methods, these return another type than `Embeddings` declares.

    def embed_documents(self, texts: list[str]) -> list[SparseValues]:  # type: ignore[override]
        """Vectors of documents, one per text, in order.

        Raises:
            ConfigurationError: Bad input, or a text without terms.
            SparseEmbedError: The vectors cannot be had.
        """
        return self._to_sdk(self._sparse.embed_documents(texts))

    async def aembed_documents(self, texts: list[str]) -> list[SparseValues]:  # type: ignore[override]
        """Like `embed_documents`, on the running event loop."""
        return self._to_sdk(await self._sparse.aembed_documents(texts))

    def embed_query(self, text: str) -> SparseValues:  # type: ignore[override]
        """Vector of a query."""
        return self._to_sdk([self._sparse.embed_query(text)])[0]

    async def aembed_query(self, text: str) -> SparseValues:  # type: ignore[override]
        """Like `embed_query`, on the running event loop."""
        return self._to_sdk([await self._sparse.aembed_query(text)])[0]

    def _to_sdk(self, vectors: list[SparseVector]) -> list[SparseValues]:
        dicts = convert_all(to_pinecone, vectors, on_empty="raise" if self._placeholder is None else self._placeholder)
        return [SparseValues(**one) for one in dicts]
