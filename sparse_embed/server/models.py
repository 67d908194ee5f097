"""The models that the local provider knows: which wire, which vectors, which engine, which parameters.

Decides what an id stands for and describes it as Pinecone's ``GET /models`` does. Leaves vectors to the engines.
Facts on the providers' models: their documentation, read 2026-11.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sparse_embed.server.batching import Job
from sparse_embed.server.engines import (
    NO_LIMIT,
    DenseAnswer,
    DenseEngine,
    Question,
    Role,
    SparseAnswer,
    SparseEngine,
    VectorType,
    bm25,
    hashing,
)
from sparse_embed.server.engines.weights import ModelError
from sparse_embed.server.errors import Refusal, Wire, clip
from sparse_embed.server.served import ENGINE, HUB_IDS, Served

PINECONE_MAX_INPUTS = 96
SHORTEST_LIMIT = 8  # tokens: room for the special ones of any model, and for a word


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

    def role_of(self, asked: Role | None) -> Role:
        """Return the role of a request's texts.

        Args:
            asked: What the request says, None when it does not.

        Raises:
            Refusal: 400, the model is made for the other role: its vectors would have the right form and no use.
        """
        if self.role is not None and asked not in {None, self.role}:
            raise Refusal(400, f"{self.name} is the {self.role} encoder of a pair: {asked} texts go to the other one")
        return self.role or asked or "document"

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


def find_models(options: Sequence[str], *, revision: str | None = None, download: bool = False) -> tuple[Served, ...]:
    """Find the files of models; nothing is loaded.

    Args:
        options: ``NAME`` or ``NAME=PATH`` each, see `Served.find`.
        revision: Branch, tag or commit on the hub, of one model only.
        download: Whether to fetch from the hub what is not here.

    Raises:
        ModelError: One cannot be served, or two have one name.
    """
    if revision is not None and len(options) != 1:
        raise ModelError("--revision goes with one --model")
    found = tuple(Served.find(option, revision=revision, download=download) for option in options)
    for served in found:
        check_offer(served)
    if len({served.name for served in found}) < len(found):
        raise ModelError("two models have one name")
    return found


def check_offer(served: Served) -> None:
    """Refuse a model that cannot be what its name says.

    Raises:
        ModelError: A provider's id, and files that give other vectors; a name that the server gives itself.
    """
    known = next((model for model in MODELS if model.name == served.name), None)
    if known is None:
        return
    if not known.official:
        raise ModelError(f"model {served.name}: the name is taken")
    if known.vector_type != served.files.kind:
        raise ModelError(
            f"model {served.name} gives {known.vector_type} vectors, {served.files.source} {served.files.kind} ones:"
            " serve it under another name"
        )
    if served.ready and known.dimension and served.encoder.size not in (known.dimension, *known.dimensions):
        raise ModelError(
            f"model {served.name} gives {known.dimension} numbers per text, {served.files.source}"
            f" {served.encoder.size}: serve it under another name"
        )


def describe_served(served: Served) -> Model:
    """Return what clients may ask of a model with weights; both wires have it."""
    known = next((model for model in MODELS if model.name == served.name), None)
    encoder = served.encoder
    limit = max(encoder.limits.values())
    parameters = [_INPUT_TYPE, _TRUNCATE]
    if limit < NO_LIMIT:
        limits = (SHORTEST_LIMIT, limit)
        parameters.append(Parameter("max_tokens_per_sequence", int, default=limit, within=limits))
    lengths = served.dimensions
    if encoder.vector_type == "sparse":
        parameters.append(Parameter("return_tokens", bool, default=False))
    elif isinstance(lengths, range):
        parameters.append(Parameter("dimension", int, default=encoder.size, within=(lengths[0], lengths[-1])))
    elif len(lengths) > 1:
        parameters.append(Parameter("dimension", int, tuple(lengths), default=encoder.size))
    return Model(
        served.name,
        _BOTH,
        encoder.vector_type,
        known.description if known else f"{served.files.source}, {encoder.vector_type}.",
        official=False,
        dimension=encoder.size if encoder.vector_type == "dense" else 0,
        dimensions=() if isinstance(lengths, range) else tuple(lengths),
        max_tokens=limit if limit < NO_LIMIT else None,
        parameters=tuple(parameters),
        role=known.role if known else None,
        own_engine=ENGINE,
    )


def check_names(own_bm25: Sequence[bm25.Bm25], models: Sequence[Served] = ()) -> None:
    """Refuse a further BM25 model whose name another model has.

    Raises:
        ValueError: There is one.
    """
    taken = {model.name for model in MODELS} | {model.name for model in models}
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
        dense: Engine of every dense model that has none of its own.
        with_weights: Models with weights, loaded; each takes the place of a provider's own model of its name.
        own_bm25: Further BM25 models, each under its own name.
    """

    stand_in: bool = False
    sparse: SparseEngine = field(default_factory=bm25.Bm25)
    dense: DenseEngine = field(default_factory=hashing.Hashing)
    with_weights: tuple[Served, ...] = ()
    own_bm25: tuple[bm25.Bm25, ...] = ()

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """Every model that the server knows, whether or not it can answer for it."""
        described = {served.name: describe_served(served) for served in self.with_weights}
        known = [described.pop(model.name, model) for model in MODELS]
        return (*known, *map(_describe_bm25, self.own_bm25), *described.values())

    def served(self, wire: Wire) -> list[Model]:
        """Return the models that a client of this wire can use."""
        return [model for model in self.models if wire in model.wires and (self.stand_in or not model.official)]

    def ask(self, model: Model, question: Question) -> SparseAnswer | DenseAnswer | tuple[Served, Job]:
        """Return the vectors of a request, or its place in the queue of a model with weights.

        Raises:
            Refusal: The model cannot do this, or not now.
        """
        served = next((served for served in self.with_weights if served.name == model.name), None)
        if served is not None and question.texts:
            return served, served.submit(question)
        if model.vector_type == "sparse":
            engine = next((engine for engine in self.own_bm25 if engine.name == model.name), self.sparse)
            return engine.embed(question.texts, question.role)
        return self.dense.embed(question.texts, question.role, dimension=question.dimension or model.dimension)

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
            is_open = "/" in name or name in HUB_IDS
            load = f"here: start the server with --model {name}, ask" if is_open else "open: ask"
            raise Refusal(
                absent,
                f"the weights of {name} are not {load} for {model.engine}, or start the server with --stand-in to have"
                f" {model.engine} answer for it",
            )
        return model
