"""Hybrid retrieval from one Pinecone index of dense and sparse vectors: `PineconeHybridRetriever`."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from pydantic import Field

from langchain_sparse_embed.retrievers._base import StoreRetriever, check_texts
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.convert import convert_all, from_pinecone, to_pinecone
from sparse_embed.explanation import match_terms
from sparse_embed.fusion import run_together

Filter = Mapping[str, Any]
UPSERT: Final = 32  # records per request: 2 MB are allowed, and one may have 40 kB of metadata beside its vectors


class PineconeHybridRetriever(StoreRetriever):
    """Documents by the weighted sum of dense and sparse inner products, from one dot-product index.

    The successor of langchain-community's ``PineconeHybridSearchRetriever``, over the same index: records have the same
    ids and fields. What is different: ``top_k`` is called ``k``, the score is in the metadata only on request
    (``score_key="score"``), and ``sparse_encoder`` is one of this package's. The index must hold vectors of the same
    sparse model: for one that was filled with another, add the texts again.

    Example:
        >>> from pinecone import Pinecone
        >>> from langchain_sparse_embed import PineconeInferenceEmbeddings, PineconeInferenceSparseEmbeddings
        >>> from langchain_sparse_embed.retrievers import PineconeHybridRetriever
        >>> retriever = PineconeHybridRetriever(
        ...     index=Pinecone().Index(host="https://docs-abc123.svc.pinecone.io"),
        ...     embeddings=PineconeInferenceEmbeddings(),
        ...     sparse_encoder=PineconeInferenceSparseEmbeddings(),
        ... )  # doctest: +SKIP
        >>> retriever.add_texts(["a red fox", "a blue dog"])  # doctest: +SKIP
        >>> retriever.invoke("fox", k=1, filter={"lang": "en"})  # doctest: +SKIP
    """

    index: Any = Field(
        default=None,
        repr=False,
        description="A ``pinecone.Index``, for the sync methods; and for the async ones, in a thread, where "
        "there is no `async_index`. Its metric must be dotproduct.",
    )
    async_index: Any = Field(
        default=None,
        repr=False,
        description="A ``pinecone.IndexAsyncio``, for the async methods; you open and close it, in the event "
        "loop that uses it.",
    )
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the dense vectors; the sparse ones have 1 - alpha."
    )
    namespace: str | None = Field(default=None, description="Pinecone's namespace.")
    text_key: str = Field(
        default="context",
        description="The field of a record's metadata that holds its text; left out of documents' metadata.",
    )
    filter: Filter | None = Field(
        default=None, description="Pinecone's metadata filter. A filter given to ``invoke`` replaces it."
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # as in `Retriever`
        """Check the settings; nothing is sent.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        super().__init__(**fields)
        if self.index is None and self.async_index is None:
            raise ConfigurationError("PineconeHybridRetriever needs index= or async_index=")

    def add_texts(
        self,
        texts: Iterable[str],
        ids: Iterable[str] | None = None,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        namespace: str | None = None,
    ) -> list[str]:
        """Embed texts and upsert them.

        Args:
            texts: The texts.
            ids: One per text; else the SHA-256 of each text, so that a text that is added again is stored once.
            metadatas: One mapping per text, of Pinecone's types.
            namespace: Another namespace than the retriever's own.

        Returns:
            The ids.

        Raises:
            ConfigurationError: Bad input; nothing is stored.
            SparseEmbedError: The vectors could not be obtained; nothing is stored.
        """
        index = self._sync_index()
        texts, keys, fields = self._prepare(texts, ids, metadatas)
        dense, sparse = self.embeddings.embed_documents(texts), self.sparse_encoder.embed_documents(texts)
        for records in _batches(keys, fields, dense, sparse):
            index.upsert(vectors=records, namespace=self.namespace if namespace is None else namespace)
        return keys

    async def aadd_texts(
        self,
        texts: Iterable[str],
        ids: Iterable[str] | None = None,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        namespace: str | None = None,
    ) -> list[str]:
        """Like `add_texts`, on the running event loop."""
        texts, keys, fields = self._prepare(texts, ids, metadatas)
        vectors = await run_together(
            self.embeddings.aembed_documents(texts), self.sparse_encoder.aembed_documents(texts)
        )
        for records in _batches(keys, fields, *vectors):
            await self._acall("upsert", vectors=records, namespace=self.namespace if namespace is None else namespace)
        return keys

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
        alpha: float | None = None,
        namespace: str | None = None,
    ) -> list[Document]:
        index = self._sync_index()
        dense, sparse = self._scale(*self._embed(query), alpha)
        return self._read(sparse, index.query(**self._make_query(dense, sparse, self._choose_k(k), filter, namespace)))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
        alpha: float | None = None,
        namespace: str | None = None,
    ) -> list[Document]:
        dense, sparse = self._scale(*await self._aembed(query), alpha)
        arguments = self._make_query(dense, sparse, self._choose_k(k), filter, namespace)
        return self._read(sparse, await self._acall("query", **arguments))

    def _sync_index(self) -> Any:  # noqa: ANN401  # the type would need the pinecone package
        if self.index is None:
            raise ConfigurationError("this retriever has an async_index only: use the async methods, or give it index=")
        return self.index

    async def _acall(self, method: str, **arguments: Any) -> Any:  # noqa: ANN401  # of the SDK
        if self.async_index is not None:
            return await getattr(self.async_index, method)(**arguments)
        return await asyncio.to_thread(getattr(self.index, method), **arguments)

    def _prepare(
        self, texts: Iterable[str], ids: Iterable[str] | None, metadatas: Iterable[Mapping[str, Any]] | None
    ) -> tuple[list[str], list[str], list[dict[str, Any]]]:
        texts, fields = check_texts(texts, metadatas)
        keys = [sha256(text.encode()).hexdigest() for text in texts] if ids is None else list(ids)
        if len(keys) != len(texts):
            raise ConfigurationError(f"{len(texts)} texts and {len(keys)} ids")
        for at, (text, one) in enumerate(zip(texts, fields, strict=True)):
            if self.text_key in one:
                raise ConfigurationError(
                    f"metadata {at} has a field {self.text_key!r}, where the text goes: choose another text_key"
                )
            one[self.text_key] = text
        return texts, keys, fields

    def _scale(self, dense: list[float], sparse: SparseVector, alpha: float | None) -> tuple[list[float], SparseVector]:
        """The weighted vectors of the query: an inner product is linear, so the index adds the weighted scores."""
        if alpha is None:
            alpha = self.alpha
        if not 0 <= alpha <= 1:
            raise ConfigurationError(f"alpha must be from 0 to 1, not {alpha!r}")
        return [value * alpha for value in dense], sparse.scaled(1 - alpha)

    def _make_query(
        self, dense: list[float], sparse: SparseVector, k: int, given: Filter | None, namespace: str | None
    ) -> dict[str, Any]:
        arguments = {
            "vector": dense,
            "top_k": k,
            "namespace": self.namespace if namespace is None else namespace,
            "filter": self.filter if given is None else given,
            "include_metadata": True,
            "include_values": self.terms_key is not None,
        }
        return arguments | {"sparse_vector": to_pinecone(sparse)} if sparse.indices else arguments

    def _read(self, query: SparseVector, result: Any) -> list[Document]:  # noqa: ANN401  # of the SDK
        documents = []
        for match in result.matches:
            metadata = dict(match.metadata or {})
            text = metadata.pop(self.text_key, None)
            if not isinstance(text, str):
                raise ConfigurationError(
                    f"record {match.id!r} has no text under {self.text_key!r}: set text_key to the field that holds it"
                )
            held = getattr(match, "sparse_values", None)  # only with include_values, and only if the record has any
            terms = match_terms(query, from_pinecone(held) if held else None)
            documents.append(self._make_document(match.id, text, metadata, match.score, terms))
        return documents


def _batches(
    keys: list[str], fields: list[dict[str, Any]], dense: list[list[float]], sparse: list[SparseVector]
) -> Iterator[list[dict[str, Any]]]:
    """Records for the index, in batches that fit one request."""
    records: list[dict[str, Any]] = [
        {"id": key, "values": values, "metadata": metadata}
        for key, values, metadata in zip(keys, dense, fields, strict=True)
    ]
    for record, held in zip(records, convert_all(to_pinecone, sparse, on_empty="skip"), strict=True):
        if held is not None:  # Pinecone refuses empty ones
            record["sparse_values"] = held
    for start in range(0, len(records), UPSERT):
        yield records[start : start + UPSERT]
