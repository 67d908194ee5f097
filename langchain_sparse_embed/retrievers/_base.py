"""What the retrievers share: their settings' checks, and what they write into the metadata of documents on request."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, ValidationError

from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.explain import explain
from sparse_embed.settings import check_kind
from sparse_embed.texts import check_text, list_texts

T = TypeVar("T")


@runtime_checkable
class SparseEmbedder(Protocol):
    """What a retriever asks of a sparse encoder: the sparse classes of this package have it, and `SparseEncoder`."""

    def embed_documents(self, texts: list[str], /) -> list[SparseVector]:
        """One vector a text."""
        ...

    async def aembed_documents(self, texts: list[str], /) -> list[SparseVector]:
        """One vector a text."""
        ...

    def embed_query(self, text: str, /) -> SparseVector:
        """The vector of a query."""
        ...

    async def aembed_query(self, text: str, /) -> SparseVector:
        """The vector of a query."""
        ...


class Retriever(BaseRetriever):
    """What all of them have."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    sparse_encoder: SparseEmbedder
    """A sparse class of this package, or a `SparseEncoder`."""
    k: int = Field(default=4, ge=1)
    """Documents to return, unless ``invoke`` is given another ``k``."""
    score_key: str | None = None
    """Write the score (greater is better) into each document's metadata under this name."""
    terms_key: str | None = None
    """Write into each document's metadata, under this name, what each matched term adds to the inner product of the
    sparse vectors: a dict by token (see ``return_tokens``) or index, the greatest first."""

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # the fields; subclasses' signatures are generated
        """Check the settings.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            said = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
            raise ConfigurationError(f"{type(self).__name__}: {said}") from None

    def _wanted(self, k: int | None) -> int:
        if k is None:
            return self.k
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigurationError(f"k must be a whole number of at least 1, not {k!r}")
        return k

    def _document(
        self, key: str, text: str, metadata: Mapping[str, Any], score: float, terms: Mapping[str | int, float]
    ) -> Document:
        extra: dict[str, Any] = {} if self.score_key is None else {self.score_key: score}
        if self.terms_key is not None:
            extra[self.terms_key] = dict(terms)
        return Document(page_content=text, metadata={**metadata, **extra}, id=key)


def checked_texts(
    texts: Iterable[str], metadatas: Iterable[Mapping[str, Any]] | None
) -> tuple[list[str], list[dict[str, Any]]]:
    """The texts, and a copy of the metadata of each."""
    texts = list_texts(texts)
    for at, text in enumerate(texts):
        check_text(text, at)
    described = [{} for _ in texts] if metadatas is None else list(metadatas)
    for at, one in enumerate(described):
        check_kind(f"metadata {at}", one, Mapping)
    if len(described) != len(texts):
        raise ConfigurationError(f"{len(texts)} texts and {len(described)} metadatas")
    return texts, [dict(one) for one in described]


class HybridRetriever(Retriever):
    """What the two over a store with dense and sparse vectors have."""

    embeddings: Embeddings
    """The dense model of the store."""

    def _embedded(self, query: str) -> tuple[list[float], SparseVector]:
        return self.embeddings.embed_query(query), self.sparse_encoder.embed_query(query)

    async def _aembedded(self, query: str) -> tuple[list[float], SparseVector]:
        return await both(self.embeddings.aembed_query(query), self.sparse_encoder.aembed_query(query))


U = TypeVar("U")


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Await two at the same time; when one fails, the other is cancelled."""
    tasks = asyncio.create_task(one), asyncio.create_task(other)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def matched(query: SparseVector, document: SparseVector | None) -> dict[str | int, float]:
    """What each shared term adds to the inner product, by token or index, the greatest first."""
    if document is None:
        return {}
    return {part.term: part.product for part in explain(query, document).contributions}
