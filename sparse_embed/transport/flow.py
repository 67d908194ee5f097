"""The policy of one batch, from its texts to its vectors, as a generator that does no I/O.

It yields what it needs next (`Permit`, `Sleep`, `Send`) and is sent what came of it. Decides order, retries, halving
and errors; ``run`` drives it, once with threads and once with asyncio.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit

from sparse_embed.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidResponseError,
    RateLimitError,
    SparseEmbedError,
    error_for_status,
)
from sparse_embed.locks import ForkSafeLock
from sparse_embed.providers.base import Answer, Provider, Reply, Request, Undecodable, read_error, request_id
from sparse_embed.settings import Role
from sparse_embed.transport.batching import Batch
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import (
    LONGEST_RETRY_AFTER,
    RETRIED_STATUSES,
    UPWARD_JITTER,
    Patience,
    backoff,
    parse_retry_after,
)
from sparse_embed.vectors import Usage

V = TypeVar("V")
T = TypeVar("T")


class Permit(NamedTuple):
    """Wait in line for one of the encoder's places.

    The driver takes it back as soon as the flow wants anything but to `Send`: what sleeps, holds no place.
    """

    again: bool = False  # for the same attempt: the caller's rate limiter has been asked


class Sleep(NamedTuple):
    """Wait."""

    seconds: float


class Send(NamedTuple):
    """Send, and read the whole answer."""

    request: Request
    timeout: float | None


class Fault(NamedTuple):
    """Sending ended without an answer."""

    kind: Literal["timeout", "connection"]
    message: str


Effect: TypeAlias = Permit | Sleep | Send
Outcome: TypeAlias = Reply | Fault
Flow: TypeAlias = Generator[Effect, Outcome | None, T]

PERMIT: Final = Permit()
PERMIT_AGAIN: Final = Permit(again=True)
LONGEST_NAP: Final = 0.2  # seconds until a request that waits for its place looks whether the pace has changed


class Meter:
    """Counts what an encoder uses, from any thread."""

    def __init__(self, start: Usage = Usage()) -> None:  # noqa: B008  # frozen
        self._usage = start
        self._lock = ForkSafeLock()

    def add(self, *, total_tokens: int = 0, requests: int = 0, retries: int = 0, texts: int = 0, hits: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            was = self._usage
            self._usage = Usage(
                was.total_tokens + total_tokens,
                was.requests + requests,
                was.retries + retries,
                was.texts + texts,
                was.cache_hits + hits,
            )

    @property
    def usage(self) -> Usage:
        """The counts now."""
        return self._usage


@dataclass(slots=True, kw_only=True)
class Call(Generic[V]):
    """What the batches of one call share.

    Attributes:
        found: Vectors by text: where the batches put what they receive.
        received: The texts of those vectors, for whoever keeps them.
        progressed: When the call last received a vector.
    """

    provider: Provider
    decode: Callable[[bytes], Answer[V]]
    role: Role
    patience: Patience
    timeout: float | None
    pace: Pace
    meter: Meter
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    found: dict[str, V] = field(default_factory=dict)
    received: deque[str] = field(default_factory=deque)
    progressed: float = float("-inf")


class _Deadline:
    """How long one batch has gone on without the call making progress.

    Standing in line behind the encoder's other requests is not the provider's failure, and does not count.
    """

    def __init__(self, call: Call[V]) -> None:
        self._call = call
        self._since = call.clock()
        self._paused = 0.0

    def pause(self, seconds: float) -> Sleep:
        """Count a pause."""
        self._paused += seconds
        return Sleep(seconds)

    def excuse(self, seconds: float) -> None:
        """Do not count a time."""
        self._since += seconds

    def left(self) -> float:
        """Seconds until the call gives up."""
        if self._call.progressed > self._since:
            self._since, self._paused = self._call.progressed, 0.0
        # The clock counts pauses too, except where `sparse_embed.testing.no_wait` lets them take no time.
        return self._call.patience.deadline - max(self._call.clock() - self._since, self._paused)


def embed(call: Call[V], batch: Batch) -> Flow[Batch]:
    """Receive the vectors of a batch into ``call.found``.

    Raises:
        SparseEmbedError: The batch cannot be had; what was received before stays in ``call.found``.
    """
    request = call.provider.encode(batch.texts, call.role)
    error: SparseEmbedError | None = None
    deadline = _Deadline(call)
    started = call.clock()
    sent = failures = 0
    while True:
        yield from _wait_for_turn(call, deadline, error, batch)
        left = deadline.left()
        if left <= 0:
            raise error or _held_too_long(call, batch, 0.0)
        start = call.clock()
        outcome = yield Send(request, left if call.timeout is None else min(call.timeout, left))
        call.meter.add(requests=1, retries=int(sent > 0))
        sent += 1
        if isinstance(outcome, Reply) and outcome.status == 413 and len(batch.texts) > 1:
            for half in batch.halves():
                yield from embed(call, half)
            return batch
        result = _judge(call, batch, outcome)
        now = call.clock()
        if isinstance(result, Answer):
            call.found.update(zip(batch.texts, result.vectors, strict=True))
            call.received.extend(batch.texts)
            call.progressed = now
            call.pace.succeeded(start)
            call.meter.add(total_tokens=result.total_tokens, texts=len(batch.texts))
            return batch
        error, worth_retrying = result
        error.provider = call.provider.name
        error.texts = batch.span
        error.attempts = sent
        error.elapsed = now - started
        limited = isinstance(error, RateLimitError)
        if call.patience.counts_rate_limits or not limited:
            failures += 1
        wait = error.retry_after and error.retry_after * (1 + UPWARD_JITTER * call.random())
        if limited and worth_retrying:
            call.pace.refused(now, start, wait, call.random())  # for every other call too, whatever becomes of this one
            wait = call.pace.paused_until(now) - now
        wait = wait or backoff(sent, call.random())
        if not worth_retrying or failures > call.patience.max_retries or wait >= deadline.left():
            raise error
        if not limited:
            yield deadline.pause(wait)


def _wait_for_turn(
    call: Call[V], deadline: _Deadline, error: SparseEmbedError | None, batch: Batch
) -> Generator[Effect, None, None]:
    """Wait until the encoder's pace lets a request start, then for a place; anew when the pace changes meanwhile."""
    permit, now = PERMIT, call.clock()
    while True:
        slot = call.pace.book(now)
        while now < slot.start and call.pace.epoch == slot.epoch:
            # A pause that outlasts the deadline fails at once; a place in a moving line is kept while the line moves.
            pause = call.pace.paused_until(now) - now
            if pause >= deadline.left():
                raise error or _held_too_long(call, batch, pause)
            nap = min(slot.start - now, max(LONGEST_NAP, (slot.start - now) / 4))
            yield deadline.pause(nap)
            now += nap
        if call.pace.epoch == slot.epoch:
            came = call.clock()
            yield permit
            stood = call.clock() - came
            deadline.excuse(stood)
            if call.pace.epoch == slot.epoch:
                return
            permit, now = PERMIT_AGAIN, now + stood


def _held_too_long(call: Call[V], batch: Batch, pause: float) -> RateLimitError:
    return RateLimitError(
        f"{call.provider.title} limits the rate, and the pause it asked for outlasts the deadline of this call",
        provider=call.provider.name,
        status=429,
        retry_after=pause,
        texts=batch.span,
    )


def _judge(call: Call[V], batch: Batch, outcome: Outcome | None) -> Answer[V] | tuple[SparseEmbedError, bool]:
    """A checked answer, or an error and whether sending again may help."""
    title = call.provider.title
    if isinstance(outcome, Fault):
        if outcome.kind == "timeout":
            return APITimeoutError(f"{title} did not answer: {outcome.message}"), True
        return APIConnectionError(f"no complete answer from {title}: {outcome.message}"), True
    assert outcome is not None  # noqa: S101  # a driver answers every Send
    trace = request_id(outcome)
    if outcome.status != 200:
        message, code = read_error(outcome)
        if outcome.status // 100 == 3:
            message = f"redirects{_target(outcome)} are not followed, so that the key stays with its host. {message}"
        retry_after = parse_retry_after(outcome.headers)
        error = error_for_status(outcome.status)(
            f"{title} answered {outcome.status}: {message.strip() or 'no message'}",
            status=outcome.status,
            code=code,
            request_id=trace,
            retry_after=retry_after,
        )
        return error, (
            outcome.status in RETRIED_STATUSES
            and (retry_after or 0.0) <= LONGEST_RETRY_AFTER
            and not (outcome.status == 429 and call.provider.waiting_is_useless(message))
        )
    try:
        answer = call.decode(outcome.content)
        if len(answer.vectors) == len(batch.texts):
            return answer
        raise InvalidResponseError(f"{len(answer.vectors)} vectors for {len(batch.texts)} texts")
    except (Undecodable, InvalidResponseError) as problem:
        detail = str(problem)
        if isinstance(problem, InvalidResponseError):  # some gateways answer 200 with an error
            detail = ": ".join(filter(None, (problem.message, read_error(outcome)[0])))
        # Cut-off JSON may arrive whole the next time; a well-formed wrong answer would only be billed again.
        invalid = InvalidResponseError(f"{title}: {detail}", status=200, request_id=trace)
        return invalid, isinstance(problem, Undecodable)


def _target(reply: Reply) -> str:
    try:
        host = urlsplit(reply.headers.get("location", "")).hostname
    except ValueError:
        host = None
    return reply.hide(f" (here to {host[:100]})") if host else ""
