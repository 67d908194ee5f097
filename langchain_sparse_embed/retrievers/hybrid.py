"""One ranking from several retrievers: `HybridRetriever`."""

from collections.abc import Hashable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import Field

from langchain_sparse_embed.retrievers._base import Retriever
from sparse_embed.errors import ConfigurationError
from sparse_embed.fusion import RRF_K, Fusion, run_together


class HybridRetriever(Retriever):
    """Runs any retrievers at the same time, in threads or as tasks, and fuses their rankings by reciprocal rank.

    Only what a retriever returns takes part: let each return more than ``k``. The documents are copies; metadata that
    only one retriever gives a document (such as `SparseRetriever`'s ``terms_key``) is kept.

    Example:
        >>> dense = store.as_retriever(search_kwargs={"k": 50})  # doctest: +SKIP
        >>> sparse = SparseRetriever.from_documents(documents, encoder, k=50)  # doctest: +SKIP
        >>> HybridRetriever(retrievers=[dense, sparse], weights=[1.0, 0.5], k=10).invoke("fox")  # doctest: +SKIP
    """

    retrievers: list[BaseRetriever] = Field(description="At least one.")
    weights: list[float] | None = Field(default=None, description="One per retriever, greater than 0. None: 1 each.")
    rrf_k: int = Field(
        default=RRF_K,
        description="A document's score is the sum of weight / (``rrf_k`` + rank): the smaller, the more the first "
        "ranks count.",
    )
    id_key: str | None = Field(
        default=None,
        description="Documents are the same when their metadata is equal under this name. None: when their text is.",
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # as in `Retriever`
        """Check the settings.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        super().__init__(**fields)
        self._fusion()

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        k = self._choose_k(k)
        with ContextThreadPoolExecutor(len(self.retrievers)) as threads:
            calls = [
                threads.submit(retriever.invoke, query, {"callbacks": run_manager.get_child(f"retriever_{at}")})
                for at, retriever in enumerate(self.retrievers, 1)
            ]
            return self._fuse([call.result() for call in calls], k)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        k = self._choose_k(k)
        calls = [
            retriever.ainvoke(query, {"callbacks": run_manager.get_child(f"retriever_{at}")})
            for at, retriever in enumerate(self.retrievers, 1)
        ]
        return self._fuse(await run_together(*calls), k)

    def _fusion(self) -> Fusion:
        return Fusion.of(len(self.retrievers), self.weights, rrf_k=self.rrf_k)

    def _fuse(self, rankings: Sequence[Sequence[Document]], k: int) -> list[Document]:
        documents = []
        for score, hits in self._fusion().fuse(rankings, self._identify)[:k]:
            copies = [hit for hit in hits if hit is not None]
            metadata: dict[str, Any] = {}
            for copy in copies:
                metadata = copy.metadata | metadata
            if self.score_key is not None:
                metadata[self.score_key] = score
            documents.append(copies[0].model_copy(update={"metadata": metadata}))
        return documents

    def _identify(self, document: Document) -> Hashable:
        if self.id_key is None:
            return document.page_content
        if self.id_key not in document.metadata:
            raise ConfigurationError(
                f"a document has no field {self.id_key!r} in its metadata: set id_key to one it has"
            )
        identity: Hashable = document.metadata[self.id_key]
        return identity
