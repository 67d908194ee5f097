"""What came of a request: vectors, or an error and how often sending again may help. Pure.

Decides the class and the words of every error that a provider or the network causes. Leaves waiting and counting to
``flow``.
"""

import sys
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit

from sparse_embed.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    InvalidResponseError,
    NotFoundError,
    RateLimitError,
    SparseEmbedError,
    error_for_status,
)
from sparse_embed.providers.base import ENGINE_HEADER, Answer, Provider, Reply, Undecodable, read_error, request_id
from sparse_embed.settings import Route
from sparse_embed.transport.batching import Batch
from sparse_embed.transport.retry import LONGEST_RETRY_AFTER, RETRIED_STATUSES, parse_retry_after

V = TypeVar("V")

NEVER: Final = 0
# A refused connection is most often a server that is not running, seldom one that is being restarted: two more attempts
# take 1.5 s at most.
BRIEFLY: Final = 2
ALWAYS: Final = sys.maxsize  # as often as the call's policy allows

FaultKind = Literal["timeout", "connection", "refused", "unknown host", "untrusted", "not tls"]
NOT_SENT: Final[frozenset[FaultKind]] = frozenset({"refused", "unknown host", "untrusted", "not tls"})
RETRIES: Final[dict[FaultKind, int]] = {
    "timeout": ALWAYS,
    "connection": ALWAYS,
    "refused": BRIEFLY,
    "unknown host": NEVER,
    "untrusted": NEVER,
    "not tls": NEVER,
}


class Fault(NamedTuple):
    """Sending ended without a complete answer."""

    kind: FaultKind
    message: str
    route: Route


Outcome: TypeAlias = Reply | Fault


def classify(
    provider: Provider, decode: Callable[[bytes], Answer[V]], batch: Batch, outcome: Outcome
) -> Answer[V] | tuple[SparseEmbedError, int]:
    """A checked answer, or an error and how many retries it allows."""
    if isinstance(outcome, Fault):
        error = APITimeoutError if outcome.kind == "timeout" else APIConnectionError
        return error(_describe(provider, outcome)), RETRIES[outcome.kind]
    if outcome.status != 200:
        return _classify_status(provider, outcome)
    try:
        answer = decode(outcome.content)
        if len(answer.vectors) == len(batch.texts):
            return answer._replace(engine=outcome.headers.get(ENGINE_HEADER))
        raise InvalidResponseError(f"{len(answer.vectors)} vectors for {len(batch.texts)} texts")
    except (Undecodable, InvalidResponseError) as problem:
        detail = str(problem)
        if isinstance(problem, InvalidResponseError):  # some gateways answer 200 with an error
            detail = ": ".join(filter(None, (problem.message, read_error(outcome)[0])))
        # Cut-off JSON may arrive whole the next time; a well-formed wrong answer would only be billed again.
        who = _who_answers(provider, outcome.route)
        invalid = InvalidResponseError(f"{who}: {detail}", status=200, request_id=request_id(outcome))
        return invalid, ALWAYS if isinstance(problem, Undecodable) else NEVER


def _classify_status(provider: Provider, reply: Reply) -> tuple[SparseEmbedError, int]:
    message, code = read_error(reply)
    kind = error_for_status(reply.status)
    who = _who_answers(provider, reply.route)
    said = f"{who} answered {reply.status}: {message.strip() or 'no message'}"
    if reply.status // 100 == 3:
        said = (
            f"{who} answered {reply.status}: redirects{_target(reply)} are not followed, so that the key is "
            f"sent to no other host. {message}"
        ).strip()
    elif kind is AuthenticationError:
        where = "it" if reply.route.loopback else reply.route.origin
        said += f" ({where} refused the key from {reply.route.key_source})"
    elif kind is NotFoundError:
        address = f", and the address in {reply.route.url_source}" if reply.route.url_source else ""
        said += f" (check the model's name{address})"
    retry_after = parse_retry_after(reply.headers)
    error = kind(said, status=reply.status, code=code, request_id=request_id(reply), retry_after=retry_after)
    worth_retrying = (
        reply.status in RETRIED_STATUSES
        and (retry_after or 0.0) <= LONGEST_RETRY_AFTER
        and not (reply.status == 429 and provider.is_permanent_limit(message))
    )
    return error, ALWAYS if worth_retrying else NEVER


def error_for_pause(provider: Provider, batch: Batch, pause: float) -> RateLimitError:
    """The error of a call that cannot wait for the end of a pause."""
    return RateLimitError(
        f"{provider.title} limits the rate, and the pause it asked for outlasts the deadline of this call",
        provider=provider.name,
        status=429,
        retry_after=pause,
        texts=batch.span,
    )


def error_for_deadline(provider: Provider, batch: Batch) -> APITimeoutError:
    """The error of a call whose deadline has passed while a request waited to be sent."""
    return APITimeoutError(
        f"the deadline of the call passed before a request to {provider.title} could be sent",
        provider=provider.name,
        texts=batch.span,
    )


def error_for_quota(provider: Provider, batch: Batch, wait: float, left: float) -> RateLimitError:
    """The error of a call that cannot wait until its quota allows another request."""
    return RateLimitError(
        f"the quota for {provider.title} allows the next request of this call in {wait:.1f} s, which is after the "
        f"deadline of the call, of which {max(left, 0):.1f} s are left",
        provider=provider.name,
        retry_after=wait,
        texts=batch.span,
    )


def _who_answers(provider: Provider, route: Route) -> str:
    """Whom to name: on loopback it is not the provider, most often `sparse-embed serve`."""
    return f"the server at {route.origin}" if route.loopback else provider.title


def _describe(provider: Provider, fault: Fault) -> str:
    """What happened, where, and what to do about it."""
    origin, source, _, loopback = fault.route
    host = urlsplit(origin).hostname
    who = _who_answers(provider, fault.route) if loopback else f"{provider.title} at {origin}"
    setting = f"the address in {source}" if source else "the network"
    if loopback:
        refused = (
            f"nothing listens on {origin}: start `sparse-embed serve` (with --stand-in for the provider's own models), "
            f"or correct {setting}"
        )
    else:
        refused = f"{origin} refused the connection: check {setting} and, if there is one, the proxy"
    descriptions: dict[FaultKind, str] = {
        "timeout": f"{who} did not answer: {fault.message}",
        "connection": f"no complete answer from {who}: {fault.message}",
        "refused": refused,
        "unknown host": f"the host name {host} is unknown: check {setting}",
        "untrusted": f"the certificate of {origin} is not trusted ({fault.message}): set SSL_CERT_FILE to its "
        "authority's certificate, or pass http_client= and http_async_client= that trust it",
        "not tls": f"{origin} does not speak TLS ({fault.message}): if it serves plain http, write http:// in {source}",
    }
    return descriptions[fault.kind]


def _target(reply: Reply) -> str:
    try:
        host = urlsplit(reply.hide(reply.headers.get("location", ""))).hostname
    except ValueError:
        host = None
    return f" (here to {host[:100]})" if host else ""
