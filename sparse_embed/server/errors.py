"""How a refusal looks on each wire.

Decides which wire a request speaks and the JSON of its errors. Leaves the reasons to the modules that raise `Refusal`.
Messages name fields and limits, never a key and never a text.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import to_json

Wire = Literal["chroma", "pinecone"]

CHROMA_KEY = "x-chroma-token"
CHROMA_MODEL = "x-chroma-embedding-model"
PINECONE_KEY = "api-key"

# `code` of Pinecone's ErrorResponse (API 2025-10, read 2026-11); what is not here is the client's fault.
_PINECONE_CODES = {
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    429: "RESOURCE_EXHAUSTED",
    500: "UNKNOWN",
    503: "UNAVAILABLE",
}


class Refusal(Exception):  # noqa: N818  # an answer that the protocol provides for
    """A request that gets no vectors.

    Attributes:
        status: HTTP status.
        message: What to change, in one sentence; shown to the caller.
        retry_after: Seconds after which the same request may do better; None where it will not.
    """

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


def wire_of(path: str, headers: Mapping[str, str]) -> Wire:
    """Return the wire that a request speaks, so that even an unknown route answers in its client's shape.

    Args:
        path: Path of the URL.
        headers: Request headers, looked up in lower case.
    """
    if path in {"/", "/embed_sparse"}:
        return "chroma"
    return (
        "chroma" if PINECONE_KEY not in headers and (CHROMA_KEY in headers or CHROMA_MODEL in headers) else "pinecone"
    )


def error_body(wire: Wire, status: int, message: str) -> bytes:
    """Return the JSON of an error: ``{"error": str}`` for Chroma, status, code and message for Pinecone."""
    if wire == "chroma":
        return to_json({"error": message})
    code = _PINECONE_CODES.get(status, "INVALID_ARGUMENT")
    return to_json({"status": status, "error": {"code": code, "message": message}})


def explain(error: ValidationError) -> str:
    """Return a sentence on the first thing wrong with a body, without any of its content."""
    first: Any = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def clip(name: str) -> str:
    """Return a caller's name for something, quoted, short enough for a message."""
    return repr(name if len(name) <= 80 else name[:77] + "...")
