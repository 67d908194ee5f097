"""Pinecone Inference: what its wire says.

Source: https://docs.pinecone.io/reference/api/2025-10/inference/generate-embeddings, the model pages, and the official
SDKs 7.3 and 10; 2026-11.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic_core import CoreSchema, SchemaValidator, to_json
from pydantic_core import core_schema as schema

from sparse_embed.errors import ConfigurationError, InvalidResponseError
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

API_VERSION = "2025-10"  # /embed is the same on the wire from 2025-04 to 2026-04; 2025-01 had signed indices
INPUT_TYPES: Mapping[Role, str] = {"document": "passage", "query": "query"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinecone(Provider):
    """Pinecone Inference.

    Attributes:
        truncate: What happens to a text over the model's limit: ``"END"`` cuts it, ``"NONE"`` refuses it with 400,
            ``"START"`` (llama-text-embed-v2 only) cuts its beginning.
        max_tokens_per_sequence: 512 or 2048, for pinecone-sparse-english-v0.
        dimension: Length of a dense vector, where the model offers several.
        parameters: Any further model parameter, sent as it is.
        api_version: Value of ``X-Pinecone-Api-Version``.
    """

    name: ClassVar[str] = "pinecone"
    title: ClassVar[str] = "Pinecone"
    endpoint: ClassVar[Endpoint] = Endpoint("https://api.pinecone.io", "PINECONE_CONTROLLER_HOST", "PINECONE_API_KEY")
    key_header: ClassVar[str] = "api-key"
    max_batch_size: ClassVar[int] = 96  # for each of the three models (Pinecone model pages, 2026-11)
    default_models: ClassVar[Mapping[Kind, str]] = MappingProxyType(
        {"sparse": "pinecone-sparse-english-v0", "dense": "llama-text-embed-v2"}
    )
    only_for: ClassVar[Mapping[str, Kind]] = MappingProxyType(  # the model pages, 2026-11
        {"return_tokens": "sparse", "max_tokens_per_sequence": "sparse", "dimension": "dense"}
    )

    truncate: str = "END"
    max_tokens_per_sequence: int | None = None
    dimension: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    api_version: str = API_VERSION

    def __post_init__(self) -> None:
        if "input_type" in self.parameters:
            raise ConfigurationError("parameters must not hold input_type: it follows from the method that is called")

    def encode(self, texts: Sequence[str], role: Role) -> Request:
        """Only parameters that were chosen are sent: a model refuses ones that it does not know."""
        parameters: dict[str, Any] = {"input_type": INPUT_TYPES[role], "truncate": self.truncate}
        if self.return_tokens:
            parameters["return_tokens"] = True
        if self.max_tokens_per_sequence is not None:
            parameters["max_tokens_per_sequence"] = self.max_tokens_per_sequence
        if self.dimension is not None:
            parameters["dimension"] = self.dimension
        parameters |= self.parameters
        body = {"model": self.model, "inputs": [{"text": text} for text in texts], "parameters": parameters}
        return Request("/embed", {"x-pinecone-api-version": self.api_version}, to_json(body))

    def decode_sparse(self, content: bytes) -> Answer[SparseVector]:
        """Items carry ``sparse_indices`` and ``sparse_values``."""
        answer = loads(_SPARSE, content)
        vectors = []
        for at, item in enumerate(answer["data"]):
            indices, values = item.get("sparse_indices"), item.get("sparse_values")
            if indices is None or values is None or _kind(answer, item) == "dense":
                raise self._wrong_kind(answer, item, at)
            vectors.append(sparse_vector(at, indices, values, item.get("sparse_tokens")))
        return Answer(vectors, _total_tokens(answer))

    def decode_dense(self, content: bytes) -> Answer[DenseVector]:
        """Items carry ``values``."""
        answer = loads(_DENSE, content)
        vectors = []
        for at, item in enumerate(answer["data"]):
            values = item.get("values")
            if values is None or _kind(answer, item) == "sparse":
                raise self._wrong_kind(answer, item, at)
            vectors.append(values)
        return Answer(dense_vectors(vectors), _total_tokens(answer))

    def _wrong_kind(self, answer: "_Json", item: "_Json", at: int) -> InvalidResponseError:
        got = _kind(answer, item)
        if got is None or got == self.kind:
            return InvalidResponseError(f"item {at} of the answer holds no {self.kind} vector")
        return InvalidResponseError(
            f"{self.model} answers with {got} vectors: use the {got} class, or a model that gives {self.kind} ones"
        )

    def is_permanent_limit(self, message: str) -> bool:
        """The monthly quota; the quota per minute is worth waiting for (wording of 2026-11)."""
        return "for the current month" in message.lower()


def _answer_of(**checked: CoreSchema) -> SchemaValidator:
    """An answer whose items have these fields; those of the other kind of vector may hold anything."""
    fields = ("sparse_indices", "sparse_values", "sparse_tokens", "values", "vector_type")
    item = record({}, {**dict.fromkeys(fields, ANYTHING), **checked})
    return SchemaValidator(record({"data": schema.list_schema(item)}, {"vector_type": ANYTHING, "usage": ANYTHING}))


_SPARSE = _answer_of(sparse_indices=INDICES, sparse_values=VALUES)
_DENSE = _answer_of(values=DENSE)
_Json = Mapping[str, Any]


def _kind(answer: _Json, item: _Json) -> Kind | None:
    """The answer says it on top, else in the item, else by the keys that are there: Pinecone's example omits both."""
    for said in (answer.get("vector_type"), item.get("vector_type")):
        if said == "sparse":
            return "sparse"
        if said == "dense":
            return "dense"
    if item.get("sparse_indices") is not None:
        return "sparse"
    return None if item.get("values") is None else "dense"


def _total_tokens(answer: _Json) -> int:
    usage = answer.get("usage")
    return token_count(usage.get("total_tokens")) if isinstance(usage, dict) else 0
