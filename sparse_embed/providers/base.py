"""What the two wires have in common: a request, a reply, an answer, and how an error body is read.

Pure functions of bytes. Decides what a well-formed answer is. Leaves retries and statuses to ``transport``.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from pydantic_core import CoreSchema, SchemaValidator, ValidationError
from pydantic_core import core_schema as schema

from sparse_embed.errors import ConfigurationError, InvalidResponseError
from sparse_embed.settings import UNKNOWN_ROUTE, Endpoint, Kind, Role, Route
from sparse_embed.vectors import SparseVector

DenseVector = list[float]
V = TypeVar("V")

MAX_ERROR_TEXT = 500
ENGINE_HEADER = "x-sparse-embed-engine"  # sent by the local provider alone
REQUEST_ID_HEADERS = ("x-pinecone-request-id", "x-request-id")


class Request(NamedTuple):
    """One POST, without its key: that is written last, where the request leaves. Names of headers are lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """One complete answer, body read.

    Attributes:
        hide: Removes the key, and values of `default_headers`, from a text that may quote them.
        route: Where the answer came from.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    hide: Callable[[str], str] = str
    route: Route = UNKNOWN_ROUTE


class Answer(NamedTuple, Generic[V]):
    """A decoded and checked answer."""

    vectors: list[V]
    total_tokens: int
    engine: str | None = None  # named by the local provider alone

    @property
    def dimension(self) -> int | None:
        """Length of the vectors if they are dense."""
        first = self.vectors[0] if self.vectors else None
        return len(first) if isinstance(first, list) else None


class Undecodable(Exception):  # noqa: N818  # a signal inside the package: sending again may help
    """The body of a 200 is not JSON: cut off or replaced on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider(ABC):
    """One model of one provider, with the options that travel in its requests."""

    name: ClassVar[str]
    title: ClassVar[str]
    endpoint: ClassVar[Endpoint]
    key_header: ClassVar[str]
    max_batch_size: ClassVar[int]
    default_models: ClassVar[Mapping[Kind, str]]
    only_for: ClassVar[Mapping[str, Kind]] = MappingProxyType({"return_tokens": "sparse"})
    """The options that only one kind of vector has."""

    kind: Kind
    model: str
    return_tokens: bool = False

    @abstractmethod
    def encode(self, texts: Sequence[str], role: Role) -> Request:
        """The request that asks for these texts' vectors."""

    @abstractmethod
    def decode_sparse(self, content: bytes) -> Answer[SparseVector]:
        """Read and check a sparse answer."""

    @abstractmethod
    def decode_dense(self, content: bytes) -> Answer[DenseVector]:
        """Read and check a dense answer."""

    def model_for(self, role: Role) -> str:  # only asymmetric models look at the role
        """The model that answers for a role."""
        return self.model

    def is_permanent_limit(self, message: str) -> bool:  # overridden by a provider that has such a 429
        """Whether waiting does not help after a 429 with this message."""
        return False


# Answers are parsed by pydantic's own core without a model class: no slower, and pydantic's models would cost more at
# import than all the rest of this package.
INDICES: Final = schema.tuple_schema([schema.int_schema()], variadic_item_index=0)  # tuples, as `SparseVector` keeps
VALUES: Final = schema.tuple_schema([schema.float_schema()], variadic_item_index=0)
DENSE: Final = schema.list_schema(schema.float_schema())  # lists, as both frameworks return them
ANYTHING: Final = schema.any_schema()  # read by hand, since an odd one must not cost a vector


def record(required: Mapping[str, CoreSchema], optional: Mapping[str, CoreSchema]) -> CoreSchema:
    """The schema of a JSON object; other fields are ignored, and a null counts as absent where one is optional."""
    fields = {name: schema.typed_dict_field(kind) for name, kind in required.items()}
    for name, kind in optional.items():
        fields[name] = schema.typed_dict_field(schema.nullable_schema(kind), required=False)
    return schema.typed_dict_schema(fields)


def loads(validator: SchemaValidator, content: bytes) -> dict[str, Any]:
    """Parse an answer strictly: no text, bool or fraction passes as an index.

    Raises:
        Undecodable: The body is not JSON.
        InvalidResponseError: It is JSON of another shape. The message names the place and never echoes the content.
    """
    try:
        answer: dict[str, Any] = validator.validate_json(content, strict=True)
        return answer
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise Undecodable("the answer is not valid JSON")
    place = ".".join(map(str, first["loc"])) or "top level"
    raise InvalidResponseError(f"unexpected answer at {place}: {first['msg']}")


def sparse_vector(
    at: int,
    indices: tuple[int, ...],
    values: tuple[float, ...],
    tokens: Any,  # noqa: ANN401  # raw JSON
) -> SparseVector:
    """Check one sparse item of an answer. Tokens that do not fit are dropped, pairs never."""
    if tokens is not None and not (
        isinstance(tokens, list) and len(tokens) == len(indices) and all(isinstance(token, str) for token in tokens)
    ):
        tokens = None
    if not tokens:
        tokens = None
    try:
        return SparseVector.from_pairs(indices, values, tokens)
    except ConfigurationError as error:
        raise InvalidResponseError(f"item {at} of the answer is not a sparse vector: {error.message}") from None


def dense_vectors(vectors: list[list[float]]) -> list[DenseVector]:
    """Check all dense vectors of an answer: finite, of one dimension, not empty."""
    for at, vector in enumerate(vectors):
        if not vector or len(vector) != len(vectors[0]):
            raise InvalidResponseError(f"item {at} of the answer has {len(vector)} values, item 0 {len(vectors[0])}")
        if not math.isfinite(sum(vector)) and not all(map(math.isfinite, vector)):
            raise InvalidResponseError(f"item {at} of the answer holds a value that is not finite")
    return vectors


def token_count(raw: Any) -> int:  # noqa: ANN401  # raw JSON
    """A usage figure as an int; what is missing or odd counts as 0, since it must not cost a vector."""
    return raw if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0 else 0


def read_error(reply: Reply) -> tuple[str, str | None]:
    """The message and code of an error body: both providers' JSON, FastAPI's ``detail``, plain text or HTML.

    At most 500 characters are kept; validation details keep place and reason and lose the echoed input.
    """
    code = None
    message = ""
    try:
        body = json.loads(reply.content)
    except (ValueError, RecursionError):
        # Hidden before it is cut and loses its tags, which would leave a part of a secret.
        text = reply.hide(reply.content.decode(errors="replace"))[: 20 * MAX_ERROR_TEXT]
        message = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    else:
        error = body.get("error", body.get("detail", body.get("message"))) if isinstance(body, dict) else None
        if isinstance(error, Mapping):
            code = reply.hide(str(error["code"]))[:100] if error.get("code") is not None else None
            error = error.get("message")
        if isinstance(error, list):
            error = "; ".join(_detail(item) for item in error)
        message = error if isinstance(error, str) else ""
    # Hidden before and after spaces are changed: a secret may hold two spaces, or be quoted with a line break for one.
    return reply.hide(" ".join(reply.hide(message).split()))[:MAX_ERROR_TEXT], code


def _detail(item: object) -> str:
    if not isinstance(item, Mapping):
        return ""
    place = item.get("loc")
    at = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{at}: {item.get('msg', '')}"


def request_id(reply: Reply) -> str | None:
    """The provider's id of a request, if it sent one."""
    return next((reply.hide(reply.headers[name])[:200] for name in REQUEST_ID_HEADERS if name in reply.headers), None)
