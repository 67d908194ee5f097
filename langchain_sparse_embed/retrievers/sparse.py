"""Sparse retrieval in this process, without a store: `SparseRetriever`.

Decides how documents are kept in an `InvertedIndex`. Leaves vectors to the encoder, and the search to the index.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from pydantic import Field

from langchain_sparse_embed._protocol import SparseEmbedder
from langchain_sparse_embed.retrievers._base import EncoderRetriever, check_texts
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.filters import Filter, Predicate, to_predicate

if TYPE_CHECKING:
    from sparse_embed.index import InvertedIndex
else:  # pydantic evaluates it when the class is created; that must not import numpy
    InvertedIndex = Any

TEXT, METADATA = "page_content", "metadata"


class SparseRetriever(EncoderRetriever):
    """Documents with the greatest inner product of sparse vectors: exact, incremental, in memory. Needs numpy.

    May be used from any number of threads and event loops, while documents are added and deleted.

    Example:
        >>> from langchain_sparse_embed import ChromaCloudSparseEmbeddings
        >>> from langchain_sparse_embed.retrievers import SparseRetriever
        >>> retriever = SparseRetriever.from_texts(["a red fox", "a blue dog"], ChromaCloudSparseEmbeddings(), k=1)
        ...     # doctest: +SKIP
        >>> retriever.invoke("fox")  # doctest: +SKIP
    """

    idf: bool = Field(
        default=False,
        description="Weigh the query's terms by their rarity, for models whose vectors leave that to the store,"
        " as BM25.",
    )
    filter: Filter | None = Field(
        default=None,
        description="Only documents whose metadata this accepts: a predicate, or a mapping of fields to the "
        "values that they must equal. A filter given to ``invoke`` replaces it.",
    )
    index: InvertedIndex | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="The documents: a new index, or another retriever's, to share its documents. A field, since"
        " ``configurable_fields`` builds a new retriever from the fields for every call (langchain-"
        "core 1.7).",
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # as in `Retriever`
        """Start without documents, or with those of ``index``.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        from sparse_embed.index import InvertedIndex

        super().__init__(**fields)
        if self.index is None:
            self.index = InvertedIndex(idf=self.idf)
        elif not isinstance(self.index, InvertedIndex) or self.index.idf is not self.idf:
            raise ConfigurationError(f"index must be an InvertedIndex with idf={self.idf}, like the retriever")
        self._accepts(None)  # a wrong filter is refused here, and not by the first query

    def __repr_args__(self) -> Any:  # noqa: ANN401  # pydantic's
        yield from super().__repr_args__()
        yield "documents", len(self)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self._index)

    def __bool__(self) -> bool:
        """True, also without documents: code that tests ``if retriever`` asks whether there is one."""
        return True

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        sparse_encoder: SparseEmbedder,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str] | None = None,
        k: int = 4,
        idf: bool = False,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
        score_key: str | None = None,
        terms_key: str | None = None,
        **fields: Any,  # noqa: ANN401  # of several types
    ) -> Self:
        """A retriever over these texts.

        Args:
            texts: The texts.
            sparse_encoder: Embeds them and the queries.
            metadatas: One mapping per text.
            ids: One per text; else random ones.
            k: As the field of this class, like the next four.
            idf: As the field.
            filter: As the field.
            score_key: As the field.
            terms_key: As the field.
            **fields: LangChain's own: ``name``, ``tags``, ``metadata``.

        Raises:
            ConfigurationError: Bad input.
            SparseEmbedError: The vectors could not be obtained.
        """
        kept = zip(*check_texts(texts, metadatas), strict=True)
        documents = [Document(page_content=text, metadata=metadata) for text, metadata in kept]
        fields |= {"k": k, "idf": idf, "filter": filter, "score_key": score_key, "terms_key": terms_key}
        return cls.from_documents(documents, sparse_encoder, ids=ids, **fields)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        sparse_encoder: SparseEmbedder,
        *,
        ids: Iterable[str] | None = None,
        k: int = 4,
        idf: bool = False,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
        score_key: str | None = None,
        terms_key: str | None = None,
        **fields: Any,  # noqa: ANN401  # of several types
    ) -> Self:
        """A retriever over these documents; see `from_texts` and `add_documents`."""
        fields |= {"k": k, "idf": idf, "filter": filter, "score_key": score_key, "terms_key": terms_key}
        retriever = cls(sparse_encoder=sparse_encoder, **fields)
        retriever.add_documents(documents, ids=ids)
        return retriever

    def add_documents(self, documents: Iterable[Document], *, ids: Iterable[str] | None = None) -> list[str]:
        """Embed and add documents, or replace those whose id is there already.

        Args:
            documents: They are copied.
            ids: One per document; else each document's own id, else a random one.

        Returns:
            The ids.

        Raises:
            ConfigurationError: Bad input; nothing is added.
            SparseEmbedError: The vectors could not be obtained; nothing is added.
        """
        texts, keys, kept = _prepare(documents, ids)
        self._add(keys, self.sparse_encoder.embed_documents(texts), kept)
        return keys

    async def aadd_documents(self, documents: Iterable[Document], *, ids: Iterable[str] | None = None) -> list[str]:
        """Like `add_documents`, on the running event loop."""
        texts, keys, kept = _prepare(documents, ids)
        vectors = await self.sparse_encoder.aembed_documents(texts)
        await asyncio.to_thread(self._add, keys, vectors, kept)
        return keys

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents; unknown ids are ignored.

        Returns:
            How many were deleted.
        """
        return self._index.delete(ids)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write documents and vectors to one file, which is replaced as a whole or not at all. It holds no pickle.

        Raises:
            ConfigurationError: Some metadata is not JSON; the message names the document.
        """
        self._index.save(path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        sparse_encoder: SparseEmbedder,
        *,
        check_model: bool = True,
        **fields: Any,  # noqa: ANN401  # of several types
    ) -> Self:
        """A retriever over what `save` wrote; ``idf`` is as it was.

        Args:
            path: The file.
            sparse_encoder: Embeds the queries, with the model that embedded the documents.
            check_model: Refuse an encoder of another provider or model than the file records.
            **fields: ``k``, ``filter`` and the other fields of this class.

        Raises:
            ConfigurationError: The file is damaged, was saved by something else, or holds vectors of another model.
        """
        from sparse_embed.index import InvertedIndex, Origin

        expected = Origin.of(sparse_encoder) if check_model else None
        index = InvertedIndex.load_for("LangChain", path, expected=expected)
        return cls(sparse_encoder=sparse_encoder, index=index, **{"idf": index.idf} | fields)

    def similarity_search_with_score(
        self,
        query: str,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
    ) -> list[tuple[Document, float]]:
        """Documents with their scores, best first; ``k`` and ``filter`` as in ``invoke``."""
        accepts, limit = self._accepts(filter), self._choose_k(k)  # refused before anything is sent
        return self._search(self.sparse_encoder.embed_query(query), limit, accepts)

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
    ) -> list[tuple[Document, float]]:
        """Like `similarity_search_with_score`, on the running event loop."""
        accepts, limit = self._accepts(filter), self._choose_k(k)
        vector = await self.sparse_encoder.aembed_query(query)
        return await asyncio.to_thread(self._search, vector, limit, accepts)  # a predicate may be slow

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, filter)]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
    ) -> list[Document]:
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, filter)]

    @property
    def _index(self) -> InvertedIndex:
        return cast(InvertedIndex, self.index)  # set by the constructor

    def _add(self, keys: list[str], vectors: list[SparseVector], kept: list[dict[str, Any]]) -> None:
        from sparse_embed.index import Origin

        self._index.add(keys, vectors, kept)
        self._index.origin = self._index.origin or Origin.of(self.sparse_encoder)

    def _accepts(self, given: Filter | None) -> Predicate | None:
        """The filter, applied to what the index keeps."""
        chosen = self.filter if given is None else given
        if chosen is None:
            return None
        accepts = to_predicate(chosen)
        return lambda kept: accepts(kept[METADATA])

    def _search(self, vector: SparseVector, k: int, accepts: Predicate | None) -> list[tuple[Document, float]]:
        found = []
        for hit in self._index.search(vector, k, filter=accepts, terms=self.terms_key is not None):
            terms = {} if hit.terms is None else dict(hit.terms.top(hit.terms.nnz))
            text, metadata = hit.metadata[TEXT], deepcopy(hit.metadata[METADATA])
            found.append((self._make_document(hit.id, text, metadata, hit.score, terms), hit.score))
        return found


def _prepare(
    documents: Iterable[Document], ids: Iterable[str] | None
) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Texts, ids, and what the index keeps of each document."""
    documents = list(documents)
    for at, document in enumerate(documents):
        if not isinstance(document, Document):
            hint = ": use from_texts" if isinstance(document, str) else ""
            raise ConfigurationError(f"document {at} is {type(document).__name__}, not Document{hint}")
    keys = [document.id or str(uuid4()) for document in documents] if ids is None else list(ids)
    if len(keys) != len(documents):
        raise ConfigurationError(f"{len(documents)} documents and {len(keys)} ids")
    texts = [document.page_content for document in documents]
    kept = [{TEXT: document.page_content, METADATA: deepcopy(document.metadata)} for document in documents]
    return texts, keys, kept
