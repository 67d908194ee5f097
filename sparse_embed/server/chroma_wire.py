"""Chroma Cloud Embed, the server's side: bytes of a request in, bytes of an answer out.

Decides what a body may hold and what the answer looks like (OpenAPI of embed.trychroma.com and chromadb 1.5.9, read
2026-11). Leaves authentication and transport to ``app``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import to_json

from sparse_embed.server.engines import DenseAnswer, Question, Role, SparseAnswer, SparseTerms, VectorType
from sparse_embed.server.errors import Refusal, explain
from sparse_embed.server.models import Catalogue, Model

TARGETS: dict[str, Role] = {"query": "query", "documents": "document"}
MAX_TEXTS = 100  # docs.trychroma.com, read 2026-11; more is refused with 413


def _read_flag(value: object) -> object:
    """Official clients send the strings "true" and "false" where the specification says boolean."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Flag = Annotated[bool | None, BeforeValidator(_read_flag)]


class EmbedRequestBody(BaseModel):
    """Body of both endpoints: `texts` with `instructions`, or with `task` and `target`."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    texts: list[str]
    task: str | None = None
    target: str | None = None
    instructions: str | None = None
    fetch_labels: Flag = None
    fetch_tokens: Flag = None  # what official clients send for `fetch_labels`

    @property
    def role(self) -> Role | None:
        """Role of the texts, None when neither of the targets that official clients know tells it."""
        return TARGETS.get(self.target or "")


def read(body: bytes) -> EmbedRequestBody:
    """Return the body, checked.

    Raises:
        Refusal: 400 for a malformed body, 413 for more than 100 texts.
    """
    try:
        request = EmbedRequestBody.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(400, explain(error)) from None
    if "instructions" not in request.model_fields_set and not {"task", "target"} <= request.model_fields_set:
        raise Refusal(400, "give either instructions, or both task and target")
    if len(request.texts) > MAX_TEXTS:
        raise Refusal(413, f"{len(request.texts)} texts in one request; at most {MAX_TEXTS} are taken")
    return request


def ask(body: bytes, model_name: str, vector_type: VectorType, catalogue: Catalogue) -> tuple[Model, Question]:
    """Return what a request asks for, and of which model.

    Args:
        body: The request's body.
        model_name: Its model header.
        vector_type: What the endpoint is for.
        catalogue: The models that are there.

    Raises:
        Refusal: 400, 413, or 501 for a model that cannot do this here.
    """
    model = catalogue.find(model_name, "chroma", unknown=400, absent=501, vector_type=vector_type)
    request = read(body)
    return model, Question(
        request.texts,
        model.role_of(request.role),
        instructions=request.instructions or "",
        task=request.task or "",
        labelled=bool(request.fetch_labels or request.fetch_tokens),
    )


def write(answer: SparseAnswer | DenseAnswer, question: Question) -> bytes:
    """Return the JSON of an answer."""
    embeddings: list[Any] = answer.vectors
    if isinstance(answer, SparseAnswer):
        embeddings = [_sparse_item(terms, question.labelled) for terms in answer.vectors]
    return to_json({"embeddings": embeddings, "num_tokens": answer.num_tokens})


def _sparse_item(terms: SparseTerms, labelled: bool) -> dict[Literal["indices", "values", "labels"], object]:
    return {"indices": terms.indices, "values": terms.values, "labels": terms.tokens if labelled else None}
