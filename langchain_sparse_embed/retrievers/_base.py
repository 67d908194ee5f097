"""What the retrievers share: checks of their settings, and what they add to the metadata of documents on request."""

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from langchain_sparse_embed._protocol import SparseEmbedder
from sparse_embed import ConfigurationError, SparseVector
from sparse_embed.fusion import run_together
from sparse_embed.options import check_count, document_fields, init_model
from sparse_embed.settings import check_kind
from sparse_embed.texts import check_text, list_texts


class Retriever(BaseRetriever):
    """What all retrievers of this package have."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    k: int = Field(default=4, ge=1, description="Documents to return, unless ``invoke`` is given another ``k``.")
    score_key: str | None = Field(
        default=None,
        description="Write the score (greater is better) into each document's metadata under this name.",
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # the fields; subclasses' signatures are generated
        """Check the settings.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        init_model(super().__init__, type(self), fields)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401  # pydantic's
        document_fields(cls)

    def _choose_k(self, k: int | None) -> int:
        return self.k if k is None else check_count("k", k)


class EncoderRetriever(Retriever):
    """What the retrievers with a sparse encoder have."""

    sparse_encoder: SparseEmbedder = Field(description="A sparse class of this package, or a `SparseEncoder`.")
    terms_key: str | None = Field(
        default=None,
        description="Write into each document's metadata, under this name, what each matched term adds to the inner "
        "product of the sparse vectors: a dict by token (see ``return_tokens``) or index, the greatest first.",
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # as in `Retriever`
        """Check the settings; a dense class has the methods of a sparse one, and is refused by its type.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        encoder = fields.get("sparse_encoder")
        if encoder is not None and (isinstance(encoder, Embeddings) or not isinstance(encoder, SparseEmbedder)):
            raise ConfigurationError(
                f"sparse_encoder must be a sparse class of langchain_sparse_embed or a SparseEncoder, not "
                f"{type(encoder).__name__}"
            )
        super().__init__(**fields)

    def _make_document(
        self, key: str, text: str, metadata: Mapping[str, Any], score: float, terms: Mapping[str | int, float]
    ) -> Document:
        extra: dict[str, Any] = {} if self.score_key is None else {self.score_key: score}
        if self.terms_key is not None:
            extra[self.terms_key] = dict(terms)
        return Document(page_content=text, metadata={**metadata, **extra}, id=key)


class StoreRetriever(EncoderRetriever):
    """What the retrievers over a store with dense and sparse vectors have."""

    embeddings: Embeddings = Field(description="The dense model of the store.")

    def _embed(self, query: str) -> tuple[list[float], SparseVector]:
        return self.embeddings.embed_query(query), self.sparse_encoder.embed_query(query)

    async def _aembed(self, query: str) -> tuple[list[float], SparseVector]:
        return await run_together(self.embeddings.aembed_query(query), self.sparse_encoder.aembed_query(query))


def check_texts(
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
