"""Chroma Cloud Embed: what its wire says.

Source: https://docs.trychroma.com (generate sparse embeddings), and the official clients in chromadb 1.5.9; 2026-11.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic_core import SchemaValidator, to_json
from pydantic_core import core_schema as schema

from sparse_embed.errors import ConfigurationError
from sparse_embed.providers.base import (
    ANYTHING,
    DENSE,
    INDICES,
    VALUES,
    Answer,
    DenseVector,
    Provider,
    Request,
    dense_vectors,
    loads,
    record,
    sparse_vector,
    token_count,
)
from sparse_embed.settings import Endpoint, Kind, Role
from sparse_embed.vectors import SparseVector

# Official clients spell the documents' target in the plural (chromadb 1.5.9, 2026-11).
TARGETS: Mapping[Role, str] = {"document": "documents", "query": "query"}
PATHS: Mapping[Kind, str] = {"sparse": "/embed_sparse", "dense": "/embed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chroma(Provider):
    """Chroma Cloud Embed.

    Attributes:
        task: Task name, sent with a target that follows the role. Excludes both instructions.
        instructions: Instruction text for documents, and for queries unless `query_instructions` is given.
        query_instructions: Instruction text for queries.
        query_model: Model for queries; from a ``…-doc`` model it follows by itself.
    """

    name: ClassVar[str] = "chroma"
    title: ClassVar[str] = "Chroma Cloud"
    endpoint: ClassVar[Endpoint] = Endpoint("https://embed.trychroma.com", "CHROMA_EMBED_URL", "CHROMA_API_KEY")
    key_header: ClassVar[str] = "x-chroma-token"
    max_batch_size: ClassVar[int] = 100  # more is refused with 413 (Chroma documentation, 2026-11)
    default_models: ClassVar[Mapping[Kind, str]] = MappingProxyType(
        {"sparse": "prithivida/Splade_PP_en_v1", "dense": "Qwen/Qwen3-Embedding-0.6B"}
    )

    task: str | None = None
    instructions: str | None = None
    query_instructions: str | None = None
    query_model: str | None = None

    def __post_init__(self) -> None:
        if self.task is not None and (self.instructions is not None or self.query_instructions is not None):
            raise ConfigurationError("Chroma takes either task or instructions, not both")

    def model_for(self, role: Role) -> str:
        """Documents and queries of an asymmetric pair go to two encoders of one vector space."""
        if role == "document":
            return self.model
        if self.query_model is not None:
            return self.query_model
        return f"{self.model.removesuffix('-doc')}-query" if self.model.endswith("-doc") else self.model

    def encode(self, texts: Sequence[str], role: Role) -> Request:
        """Exactly one of the two forms, and never a null: ``instructions``, or ``task`` with ``target``."""
        body: dict[str, Any] = {"texts": texts}
        if self.task is not None:
            body |= {"task": self.task, "target": TARGETS[role]}
        elif self.instructions is not None or self.query_instructions is not None:
            chosen = self.query_instructions if role == "query" else None
            body["instructions"] = (self.instructions or "") if chosen is None else chosen
        elif self.kind == "sparse":  # what the official clients send when nothing is configured
            body |= {"task": "", "target": ""}
        else:
            body["instructions"] = ""
        if self.return_tokens:
            body["fetch_labels"] = True
        headers = {"x-chroma-embedding-model": self.model_for(role)}
        return Request(PATHS[self.kind], headers, to_json(body))

    def decode_sparse(self, content: bytes) -> Answer[SparseVector]:
        """``labels`` is the documented name of the tokens; ``tokens`` is tolerated."""
        answer = loads(_SPARSE, content)
        vectors = [
            sparse_vector(at, item["indices"], item["values"], item.get("labels") or item.get("tokens"))
            for at, item in enumerate(answer["embeddings"])
        ]
        return Answer(vectors, token_count(answer.get("num_tokens")))

    def decode_dense(self, content: bytes) -> Answer[DenseVector]:
        """``num_tokens`` may be missing."""
        answer = loads(_DENSE, content)
        return Answer(dense_vectors(answer["embeddings"]), token_count(answer.get("num_tokens")))


_ITEM = record({"indices": INDICES, "values": VALUES}, {"labels": ANYTHING, "tokens": ANYTHING})
_SPARSE = SchemaValidator(record({"embeddings": schema.list_schema(_ITEM)}, {"num_tokens": ANYTHING}))
_DENSE = SchemaValidator(record({"embeddings": schema.list_schema(DENSE)}, {"num_tokens": ANYTHING}))
