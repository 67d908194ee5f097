"""Pinecone Inference, the server's side: bytes of a request in, bytes of an answer out.

Decides what a body may hold and what the answer looks like (API 2025-10, read 2026-11). Leaves authentication and
transport to ``app``. BM25 and hashing read whole texts: for them `truncate` and `max_tokens_per_sequence` are checked,
and change nothing.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import to_json

from sparse_embed.server.engines import DenseAnswer, Question, SparseAnswer, SparseTerms
from sparse_embed.server.errors import Refusal, Wire, clip, explain
from sparse_embed.server.models import PINECONE_MAX_INPUTS, Catalogue, Model


class EmbedInput(BaseModel):
    """One text."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    text: str


class EmbedRequest(BaseModel):
    """Body of ``POST /embed``."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    model: str
    inputs: list[EmbedInput] = Field(min_length=1)
    parameters: dict[str, JsonValue] = {}


def check_parameters(model: Model, parameters: dict[str, JsonValue]) -> None:
    """Check `parameters` against what the model takes.

    Raises:
        Refusal: 400 for the first that is missing, unknown or wrong.
    """
    known = {parameter.name: parameter for parameter in model.parameters}
    for name, value in parameters.items():
        if name not in known:
            raise Refusal(400, f"parameters: unknown {clip(name)}; {model.name} takes {', '.join(known)}")
        known[name].check(value)
    for parameter in model.parameters:
        if parameter.required and parameter.name not in parameters:
            raise Refusal(400, f"parameters.{parameter.name} is required: {', '.join(map(str, parameter.allowed))}")


def ask(body: bytes, catalogue: Catalogue) -> tuple[Model, Question]:
    """Return what a request asks for, and of which model.

    Args:
        body: The request's body.
        catalogue: The models that are there.

    Raises:
        Refusal: 400, or 404 for a model that is not here.
    """
    try:
        request = EmbedRequest.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(400, explain(error)) from None
    model = catalogue.find(request.model, "pinecone", unknown=404, absent=404)
    if len(request.inputs) > PINECONE_MAX_INPUTS:
        raise Refusal(400, f"{len(request.inputs)} inputs in one request; at most {PINECONE_MAX_INPUTS} are taken")
    check_parameters(model, request.parameters)
    parameters: dict[str, Any] = request.parameters
    return model, Question(
        [item.text for item in request.inputs],
        model.role_of("query" if parameters["input_type"] == "query" else "document"),
        dimension=parameters.get("dimension"),
        max_tokens=parameters.get("max_tokens_per_sequence"),
        cut=parameters.get("truncate") != "NONE",
        labelled=parameters.get("return_tokens", False),
    )


def write(answer: SparseAnswer | DenseAnswer, model: Model, question: Question) -> bytes:
    """Return the JSON of an answer."""
    if isinstance(answer, SparseAnswer):
        data = [_sparse_item(terms, question.labelled) for terms in answer.vectors]
    else:
        data = [{"vector_type": "dense", "values": values} for values in answer.vectors]
    answered = {"model": model.name, "vector_type": model.vector_type, "data": data}
    return to_json(answered | {"usage": {"total_tokens": answer.num_tokens}})


def list_models(catalogue: Catalogue, wire: Wire, *, kind: str | None, vector_type: str | None) -> bytes:
    """Return the JSON of ``GET /models``: what a client of this wire can use.

    Args:
        catalogue: The models that are there.
        wire: The wire of the asking client.
        kind: "embed" or "rerank" (there are none), None for all; query parameter `type`.
        vector_type: "dense" or "sparse", None for both.

    Raises:
        Refusal: 400 for another value.
    """
    if kind not in {None, "embed", "rerank"}:
        raise Refusal(400, "type must be embed or rerank")
    if vector_type not in {None, "dense", "sparse"}:
        raise Refusal(400, "vector_type must be dense or sparse")
    served = [] if kind == "rerank" else catalogue.served(wire)
    return to_json({"models": [model.describe() for model in served if vector_type in {None, model.vector_type}]})


def describe_model(model: Model) -> bytes:
    """Return the JSON of ``GET /models/{name}``."""
    return to_json(model.describe())


def _sparse_item(terms: SparseTerms, with_tokens: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "vector_type": "sparse",
        "sparse_indices": terms.indices,
        "sparse_values": terms.values,
    }
    return item | {"sparse_tokens": terms.tokens} if with_tokens and terms.tokens is not None else item
