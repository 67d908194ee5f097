"""The interface through which stores and retrievers use a sparse encoder."""

from typing import Protocol, runtime_checkable

from sparse_embed.vectors import SparseVector


@runtime_checkable
class SparseEmbedder(Protocol):
    """A sparse encoder: this package's sparse classes, `SparseEncoder`, or any class with these names."""

    @property
    def model(self) -> str:
        """The model that answers for documents."""
        ...

    def embed_documents(self, texts: list[str], /) -> list[SparseVector]:
        """One vector per text, in order."""
        ...

    async def aembed_documents(self, texts: list[str], /) -> list[SparseVector]:
        """One vector per text, in order."""
        ...

    def embed_query(self, text: str, /) -> SparseVector:
        """The vector of a query."""
        ...

    async def aembed_query(self, text: str, /) -> SparseVector:
        """The vector of a query."""
        ...
