"""The models that the local provider knows: which wire, which vectors, which engine, which parameters.

Decides what an id stands for and describes it as Pinecone's ``GET /models`` does. Leaves vectors to the engines.
Facts on the providers' models: their documentation, read 2026-11.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sparse_embed.server.engines import DenseEngine, Role, SparseEngine, VectorType, bm25, hashing
from sparse_embed.server.errors import Refusal, Wire, clip

PINECONE_MAX_INPUTS = 96


@dataclass(frozen=True)
class Parameter:
    """One key of Pinecone's ``parameters``.

    Attributes:
        name: The key.
        kind: Type of its value; a bool is not an int.
        allowed: The values accepted; empty for all of that type.
        required: Whether it must be there.
        default: What its absence means.
        within: Smallest and largest integer accepted; None for no bounds.
    """

    name: str
    kind: type[str] | type[int] | type[bool]
    allowed: tuple[str | int, ...] = ()
    required: bool = False
    default: str | int | bool | None = None
    within: tuple[int, int] | None = None

    def check(self, value: object) -> None:
        """Refuse a value of the wrong type or outside the choice.

        Raises:
            Refusal: 400, saying what is accepted.
        """
        if type(value) is not self.kind:
            raise Refusal(400, f"parameters.{self.name} must be {_KINDS[self.kind]}")
        if self.allowed and value not in self.allowed:
            raise Refusal(400, f"parameters.{self.name} must be one of {', '.join(map(str, self.allowed))}")
        if self.within is not None and isinstance(value, int) and not self.within[0] <= value <= self.within[1]:
            raise Refusal(400, f"parameters.{self.name} must be from {self.within[0]} to {self.within[1]}")

    def describe(self) -> dict[str, Any]:
        """Return an item of Pinecone's ``supported_parameters``."""
        least, most = self.within or (None, None)
        described = {
            "parameter": self.name,
            "type": "one_of" if self.allowed else "numeric_range" if self.within else "any",
            "value_type": _KINDS[self.kind].split()[-1],
            "required": self.required,
            "allowed_values": list(self.allowed) or None,
            "min": least,
            "max": most,
            "default": self.default,
        }
        return {key: value for key, value in described.items() if value is not None}


_KINDS = {str: "a string", int: "an integer", bool: "a boolean"}

_INPUT_TYPE = Parameter("input_type", str, ("query", "passage"), required=True)
_TRUNCATE = Parameter("truncate", str, ("END", "NONE"), default="END")
_TRUNCATE_BOTH_ENDS = Parameter("truncate", str, ("END", "NONE", "START"), default="END")
_SPARSE_PARAMETERS = (
    _INPUT_TYPE,
    _TRUNCATE,
    Parameter("return_tokens", bool, default=False),
    Parameter("max_tokens_per_sequence", int, (512, 2048), default=512),
)


@dataclass(frozen=True)
class Model:
    """One id that a client may ask for.

    Attributes:
        name: The id.
        wires: The wires on which it exists.
        vector_type: What it gives.
        description: One sentence.
        official: Whether it is a provider's own model, of which there are no weights here.
        dimension: Length of its dense vectors, 0 for sparse.
        dimensions: All lengths it can give; empty when it has one only.
        max_tokens: Longest text it reads, in its own tokens; None for no limit.
        parameters: What Pinecone's ``parameters`` may hold.
        role: The one role it is made for, None when the request says.
        own_engine: Name of an engine that answers for this model alone, None for one of the two that all share.
    """

    name: str
    wires: frozenset[Wire]
    vector_type: VectorType
    description: str
    official: bool = True
    dimension: int = 0
    dimensions: tuple[int, ...] = ()
    max_tokens: int | None = None
    parameters: tuple[Parameter, ...] = ()
    role: Role | None = None
    own_engine: str | None = None

    @property
    def engine(self) -> str:
        """Name of the engine that answers for it."""
        if self.own_engine is not None:
            return self.own_engine
        return bm25.Bm25.name if self.vector_type == "sparse" else hashing.Hashing.name

    def describe(self) -> dict[str, Any]:
        """Return Pinecone's ``ModelInfo``, as its SDKs 7.3 and 10.2 decode it."""
        described: dict[str, Any] = {
            "model": self.name,
            "short_description": self.description + (f" Answered by {self.engine}." if self.official else ""),
            "type": "embed",
            "vector_type": self.vector_type,
            "modality": "text",
            "max_batch_size": PINECONE_MAX_INPUTS,
            "provider_name": "sparse-embed (local)",
            "supported_metrics": ["dotproduct"]
            if self.vector_type == "sparse"
            else ["cosine", "euclidean", "dotproduct"],
            "supported_parameters": [parameter.describe() for parameter in self.parameters],
        }
        if self.max_tokens is not None:
            described["max_sequence_length"] = self.max_tokens
        if self.dimension:
            described["default_dimension"] = self.dimension
            if not any(parameter.within for parameter in self.parameters):  # a range is not a list
                described["supported_dimensions"] = list(self.dimensions or [self.dimension])
        return described


_BOTH: frozenset[Wire] = frozenset({"chroma", "pinecone"})
_CHROMA: frozenset[Wire] = frozenset({"chroma"})
_PINECONE: frozenset[Wire] = frozenset({"pinecone"})
_LLAMA_DIMENSIONS = (384, 512, 768, 1024, 2048)

MODELS = (
    Model(
        bm25.Bm25.name,
        _BOTH,
        "sparse",
        "BM25 term weights without a model.",
        official=False,
        parameters=_SPARSE_PARAMETERS,
    ),
    Model(
        hashing.Hashing.name,
        _BOTH,
        "dense",
        "Hashed character n-grams: the shape of a dense model, without semantics.",
        official=False,
        dimension=hashing.DEFAULT_DIMENSION,
        parameters=(
            _INPUT_TYPE,
            _TRUNCATE_BOTH_ENDS,
            Parameter("dimension", int, default=hashing.DEFAULT_DIMENSION, within=(1, hashing.MAX_DIMENSION)),
        ),
    ),
    Model("prithivida/Splade_PP_en_v1", _CHROMA, "sparse", "SPLADE++ for English."),
    Model("naver/efficient-splade-VI-BT-large-doc", _CHROMA, "sparse", "SPLADE, document encoder.", role="document"),
    Model("naver/efficient-splade-VI-BT-large-query", _CHROMA, "sparse", "SPLADE, query encoder.", role="query"),
    Model("BAAI/bge-m3", _CHROMA, "dense", "Multilingual dense embeddings.", dimension=1024),
    Model("Qwen/Qwen3-Embedding-0.6B", _CHROMA, "dense", "Instruction-aware dense embeddings.", dimension=1024),
    Model("sentence-transformers/all-MiniLM-L6-v2", _CHROMA, "dense", "Small dense embeddings.", dimension=384),
    Model(
        "pinecone-sparse-english-v0",
        _PINECONE,
        "sparse",
        "Learned sparse embeddings for English.",
        max_tokens=512,
        parameters=_SPARSE_PARAMETERS,
    ),
    Model(
        "multilingual-e5-large",
        _PINECONE,
        "dense",
        "Multilingual dense embeddings.",
        dimension=1024,
        max_tokens=507,
        parameters=(_INPUT_TYPE, _TRUNCATE),
    ),
    Model(
        "llama-text-embed-v2",
        _PINECONE,
        "dense",
        "Multilingual dense embeddings of several lengths.",
        dimension=1024,
        dimensions=_LLAMA_DIMENSIONS,
        max_tokens=2048,
        parameters=(
            _INPUT_TYPE,
            _TRUNCATE_BOTH_ENDS,
            Parameter("dimension", int, _LLAMA_DIMENSIONS, default=1024),
        ),
    ),
)


def check_names(own_bm25: Sequence[bm25.Bm25]) -> None:
    """Refuse a further BM25 model whose name another model has.

    Raises:
        ValueError: There is one.
    """
    taken = {model.name for model in MODELS}
    for engine in own_bm25:
        if engine.name in taken:
            raise ValueError(f"the name {engine.name} is taken by another model")
        taken.add(engine.name)


def _describe_bm25(engine: bm25.Bm25) -> Model:
    return Model(
        engine.name,
        _BOTH,
        "sparse",
        f"BM25 term weights for {engine.language.name.capitalize()},"
        f" {engine.average_length:g} words in an average document.",
        official=False,
        parameters=_SPARSE_PARAMETERS,
        own_engine=engine.name,
    )


@dataclass(frozen=True)
class Catalogue:
    """The models that one server answers for, and the engines that answer.

    Attributes:
        stand_in: Whether the engines answer for the providers' own models too.
        sparse: Engine of every sparse model that has none of its own.
        dense: Engine of every dense model.
        own_bm25: Further BM25 models, each under its own name.
    """

    stand_in: bool = False
    sparse: SparseEngine = field(default_factory=bm25.Bm25)
    dense: DenseEngine = field(default_factory=hashing.Hashing)
    own_bm25: tuple[bm25.Bm25, ...] = ()

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """Every model that the server knows, whether or not it can answer for it."""
        return MODELS + tuple(map(_describe_bm25, self.own_bm25))

    def sparse_engine(self, model: Model) -> SparseEngine:
        """Return the engine that answers for a sparse model."""
        return next((engine for engine in self.own_bm25 if engine.name == model.name), self.sparse)

    def served(self, wire: Wire) -> list[Model]:
        """Return the models that a client of this wire can use."""
        return [model for model in self.models if wire in model.wires and (self.stand_in or not model.official)]

    def find(self, name: str, wire: Wire, *, unknown: int, absent: int, vector_type: VectorType | None = None) -> Model:
        """Return a model that can answer now.

        Args:
            name: The id asked for.
            wire: The wire on which it was asked.
            unknown: HTTP status for an id that this wire does not have.
            absent: HTTP status for a provider's own model, and for one that gives the other kind of vector.
            vector_type: The kind of vector wanted; None for whatever it gives.

        Raises:
            Refusal: There is none; the message says what to do.
        """
        model = next((model for model in self.models if model.name == name and wire in model.wires), None)
        if model is None:
            known = ", ".join(model.name for model in self.served(wire))
            raise Refusal(unknown, f"unknown model {clip(name)}; this server has {known}")
        if vector_type is not None and model.vector_type != vector_type:
            raise Refusal(absent, f"model {name} gives {model.vector_type} vectors, not {vector_type} ones")
        if model.official and not self.stand_in:
            raise Refusal(
                absent,
                f"the weights of {name} are not here: ask for {model.engine},"
                f" or start the server with --stand-in to have {model.engine} answer for it",
            )
        return model
