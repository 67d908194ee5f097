"""The exception tree: what went wrong, where, and what was already paid for.

Decides which class an HTTP status becomes. Leaves to ``transport.retry`` what is worth another attempt, and to the
providers how an error body is read. No error carries a key, a header or a full text.
"""

from collections.abc import Mapping
from typing import Any


class SparseEmbedError(Exception):
    """Base of everything that this package raises on purpose.

    Attributes:
        message: What happened, in one sentence, without the details below (``str(error)`` adds them).
        provider: ``"chroma"``, ``"pinecone"`` or None when no provider was involved yet.
        status: HTTP status of the last answer, None when there was none.
        code: The provider's own error code, an opaque string, or None.
        request_id: The provider's id of the failed request, for its support desk, or None.
        attempts: How often the request was sent.
        elapsed: Seconds from the start of the request group to the error, waits included.
        retry_after: Seconds that the provider asked to wait, or None.
        texts: Positions, in the caller's list, of the first and last text of the failed request, as a range; positions
            between them that were blank, cached or repeated were not part of it. None when unknown. Requests run at the
            same time: texts before it may be missing, and texts after it may be in ``partial``.
        partial: Vectors received in this call before the error, by the caller's position. Already billed: keep them.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        attempts: int = 0,
        elapsed: float = 0.0,
        retry_after: float | None = None,
        texts: range | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.status = status
        self.code = code
        self.request_id = request_id
        self.attempts = attempts
        self.elapsed = elapsed
        self.retry_after = retry_after
        self.texts = texts
        self.partial: dict[int, Any] = {}

    def __str__(self) -> str:
        details = [
            f"status {self.status}" if self.status else "",
            f"code {self.code}" if self.code else "",
            _name_texts(self.texts) if self.texts else "",
            f"attempts {self.attempts}" if self.attempts else "",
            f"after {self.elapsed:.1f} s" if self.elapsed else "",
            f"retry after {self.retry_after:g} s" if self.retry_after is not None else "",
            f"request id {self.request_id}" if self.request_id else "",
            f"{len(self.partial)} vectors in .partial" if self.partial else "",
        ]
        said = ", ".join(filter(None, details))
        return f"{self.message} [{said}]" if said else self.message


def _name_texts(texts: range) -> str:
    return f"text {texts.start}" if len(texts) == 1 else f"texts {texts.start} to {texts.stop - 1}"


class ConfigurationError(SparseEmbedError, ValueError):
    """A setting or an argument that cannot work. Raised before any request is sent."""


class APIStatusError(SparseEmbedError):
    """The provider answered with a status that is not success."""


class AuthenticationError(APIStatusError):
    """401: the key is missing or wrong."""


class PermissionDeniedError(APIStatusError):
    """402 or 403: the account may not do this (unpaid, or not allowed)."""


class NotFoundError(APIStatusError):
    """404: no such model or address."""


class BadRequestError(APIStatusError):
    """400, 409, 412 or 422: the provider refuses what was asked."""


class PayloadTooLargeError(APIStatusError):
    """413 for a single text: it cannot be split any further."""


class RateLimitError(APIStatusError):
    """429: too many requests or tokens, and waiting did not help or would take too long."""


class UnsupportedModelError(APIStatusError):
    """501: this model cannot give this kind of vector. Permanent."""


class ServerError(APIStatusError):
    """5xx: the provider failed."""


class APIConnectionError(SparseEmbedError):
    """No answer: refused, reset, cut off, or a broken transfer."""


class APITimeoutError(APIConnectionError):
    """No progress for ``timeout`` seconds, or the deadline of the call passed."""


class InvalidResponseError(SparseEmbedError):
    """An answer with status 200 that does not hold what was asked: never passed on, not even in part."""


STATUS_ERRORS: Mapping[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PermissionDeniedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: BadRequestError,
    412: BadRequestError,
    413: PayloadTooLargeError,
    422: BadRequestError,
    429: RateLimitError,
    500: ServerError,
    501: UnsupportedModelError,
    502: ServerError,
    503: ServerError,
    504: ServerError,
}


def error_for_status(status: int) -> type[APIStatusError]:
    """The class for a status; unlisted ones become `ServerError` from 500 up, else plain `APIStatusError`."""
    return STATUS_ERRORS.get(status, ServerError if status >= 500 else APIStatusError)
