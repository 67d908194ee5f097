"""The policy of one request, from its texts to its vectors, as a generator that does no I/O.

It yields what it needs next and is sent what came of it; `run` does the I/O with threads, `arun` with asyncio::

    outcome = None
    with suppress(StopIteration):  # its value is the flow's result
        while True:
            match flow.send(outcome):
                case Send() as request: outcome = http.send(request)
                case Sleep(seconds): outcome = time.sleep(seconds)

(and so on for `Permit`, `Recall` and `Remember`). Decides order, retries and splitting. Leaves what an answer means to
``classify``, and how fast to send to ``pace`` and ``quota``.
"""

from collections.abc import Generator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from sparse_embed.cache import CacheKey
from sparse_embed.errors import RateLimitError, SparseEmbedError
from sparse_embed.events import Paused, RequestSent, Retrying
from sparse_embed.providers.base import Answer, Reply, Request
from sparse_embed.quota import LATE, Turn
from sparse_embed.transport.batching import Batch, even_batches
from sparse_embed.transport.call import Call, Chunk
from sparse_embed.transport.classify import (
    NOT_SENT,
    Fault,
    Outcome,
    classify,
    error_for_deadline,
    error_for_pause,
    error_for_quota,
)
from sparse_embed.transport.retry import backoff, lengthen

V = TypeVar("V")
T = TypeVar("T")


class Permit(NamedTuple):
    """Wait in line for one of the encoder's permits to send, unless the flow has one; see `gives_back_permit`."""

    again: bool = False  # for the same attempt: the caller's rate limiter has been asked


class Sleep(NamedTuple):
    """Wait."""

    seconds: float
    keeps_permit: bool = False


class Send(NamedTuple):
    """Send, and read the whole answer."""

    request: Request
    timeout: float | None


class Recall(NamedTuple):
    """Look texts up in the cache; what it holds is sent back, by text."""

    key: CacheKey
    texts: list[str]


class Remember(NamedTuple):
    """Put vectors into the cache."""

    key: CacheKey
    vectors: dict[str, Any]


Effect: TypeAlias = Permit | Sleep | Send | Recall | Remember
Flow: TypeAlias = Generator[Effect, Outcome | Mapping[str, Any] | None, T]

PERMIT: Final = Permit()
PERMIT_AGAIN: Final = Permit(again=True)
LONGEST_NAP: Final = 0.2  # seconds until a waiting request checks its wait again; or a part of a longer wait


def gives_back_permit(effect: Effect) -> bool:
    """Whether the driver takes the flow's permit back: a request that waits holds none, with one exception."""
    return not isinstance(effect, Send | Permit) and not (isinstance(effect, Sleep) and effect.keeps_permit)


class _Deadline:
    """How long one request has gone on without the call making progress.

    Waiting in line behind the encoder's other requests is not the provider's failure, and does not count.
    """

    def __init__(self, call: Call[V]) -> None:
        self._call = call
        self._since = call.clock()
        self._paused = 0.0

    def pause(self, seconds: float, *, keeps_permit: bool = False) -> Sleep:
        """Count a pause."""
        self._paused += seconds
        return Sleep(seconds, keeps_permit)

    def excuse(self, seconds: float) -> None:
        """Do not count a time."""
        self._since += seconds

    def left(self) -> float:
        """Seconds until the call gives up."""
        if self._call.progressed > self._since:
            self._since, self._paused = self._call.progressed, 0.0
        # The clock counts pauses too, except where `sparse_embed.testing.no_wait` lets them take no time.
        return self._call.retry.deadline - max(self._call.clock() - self._since, self._paused)


def look_up(chunk: Chunk[V], size: int) -> Flow[list[Batch]]:
    """Take what the cache holds, and split the other texts into batches of at most `size`."""
    missing = chunk.missing()
    if missing and chunk.call.cache_key is not None:
        hits = yield Recall(chunk.call.cache_key, list(missing))
        assert isinstance(hits, dict)  # noqa: S101  # what a driver answers to Recall
        chunk.found.update(hits)
        chunk.call.meter.add(hits=len(hits))
        missing = chunk.missing()
    return list(even_batches(missing, size))


def embed_or_split(chunk: Chunk[V], size: int) -> Flow[list[Batch]]:
    """Receive all vectors if the cache and one request are enough; otherwise return the batches to send."""
    batches = yield from look_up(chunk, size)
    if len(batches) > 1:
        return batches
    for batch in batches:
        yield from embed(chunk, batch)
    return []


def embed_all(chunk: Chunk[V], size: int) -> Flow[Chunk[V]]:
    """Receive all vectors, one batch after another."""
    for batch in (yield from look_up(chunk, size)):
        yield from embed(chunk, batch)
    return chunk


def embed(chunk: Chunk[V], batch: Batch) -> Flow[Batch]:
    """Receive the vectors of a batch into ``chunk.found``.

    Raises:
        SparseEmbedError: The vectors cannot be had; what was received before stays in ``chunk.found``.
    """
    call = chunk.call
    if call.quota is None:
        yield from _embed(chunk, batch, None)
        return batch
    turn = Turn(call.quota, batch.texts, call)
    if len(batch.texts) > 1 and turn.is_too_large():
        for half in batch.halves():
            yield from embed(chunk, half)
        return batch
    try:
        yield from _embed(chunk, batch, turn)
    finally:  # also of a flow that is closed before the answer
        turn.end(call.clock())
    return batch


def _embed(chunk: Chunk[V], batch: Batch, turn: Turn | None) -> Flow[None]:
    call = chunk.call
    request = call.provider.encode(batch.texts, call.role)
    error: SparseEmbedError | None = None
    deadline = _Deadline(call)
    started = call.clock()
    sent = failures = 0
    while True:
        yield from _wait_to_start(call, deadline, error, batch, turn)
        seconds = _choose_timeout(call, deadline, error, batch, turn)
        start = call.clock()
        if call.notify is not None:
            call.notify(RequestSent, len(batch.texts), sent + 1)
        outcome = yield Send(request, seconds)
        assert isinstance(outcome, Reply | Fault)  # noqa: S101  # what a driver answers to Send
        call.meter.add(requests=1, retries=int(sent > 0))
        sent += 1
        result = classify(call.provider, call.decode, batch, outcome)
        now = call.clock()
        if isinstance(result, Answer):
            received = _keep(chunk, batch, result, start, now)
            if turn is not None:  # not earlier: others of the call wait for this answer before they fail
                turn.end(now, result.total_tokens or None)
            if call.cache_key is not None:  # on arrival: a vector that was paid for survives whatever comes next
                yield Remember(call.cache_key, received)
            return
        error, retries_allowed = result
        error.provider = call.provider.name
        error.texts = batch.span
        error.attempts = sent
        error.elapsed = now - started
        halve = error.status == 413 and len(batch.texts) > 1
        if not halve:  # before the turn ends: others of the call that wait for it may fail with this error then
            call.failure = error
        if turn is not None:
            _end_turn(turn, now, outcome, error)
        if halve:
            for half in batch.halves():
                yield from embed(chunk, half)
            return
        limited = isinstance(error, RateLimitError)
        if call.retry.counts_rate_limits or not limited:
            failures += 1
        wait = _choose_wait(call, error, start, now) if retries_allowed else 0.0
        if failures > min(call.retry.max_retries, retries_allowed) or not retries_allowed or wait >= deadline.left():
            raise error
        call.warn(Retrying, type(error).__name__, error.status, sent, wait)
        if not limited:
            yield deadline.pause(wait)


def _end_turn(turn: Turn, now: float, outcome: Outcome, error: SparseEmbedError) -> None:
    """Count an attempt that failed."""
    if isinstance(outcome, Fault) and outcome.kind in NOT_SENT:
        turn.end(now, 0, requests=0)
    else:
        turn.end(now, 0 if 400 <= (error.status or 0) < 500 else None)  # what is refused uses no tokens


def _choose_timeout(
    call: Call[V], deadline: _Deadline, error: SparseEmbedError | None, batch: Batch, turn: Turn | None
) -> float:
    """Seconds that a request may take."""
    left = deadline.left()
    if left <= 0:
        raise error or call.failure or error_for_deadline(call.provider, batch)
    if turn is not None and turn.accompanied and error is None:
        left = call.retry.deadline  # the other's answer restarts the deadline; without one, it ends the call
    return left if call.timeout is None else min(call.timeout, left)


def _choose_wait(call: Call[V], error: SparseEmbedError, start: float, now: float) -> float:
    """Seconds until the next attempt. A refusal pauses every other call, too, whatever becomes of this one."""
    wait = error.retry_after and lengthen(error.retry_after, call.random())
    if isinstance(error, RateLimitError):
        begins = call.pace.refused(now, start, error.retry_after, call.random())
        wait = call.pace.paused_until(now) - now
        if begins:
            call.warn(Paused, wait)
    return wait or backoff(error.attempts, call.random())


def _keep(chunk: Chunk[V], batch: Batch, answer: Answer[V], sent: float, now: float) -> dict[str, V]:
    call = chunk.call
    received = dict(zip(batch.texts, answer.vectors, strict=True))
    chunk.found.update(received)
    call.progressed, call.failure = now, None
    call.dimension = answer.dimension
    call.pace.succeeded(sent)
    call.meter.add(total_tokens=answer.total_tokens, texts=len(batch.texts), engine=answer.engine)
    return received


def _wait_to_start(
    call: Call[V], deadline: _Deadline, error: SparseEmbedError | None, batch: Batch, turn: Turn | None
) -> Generator[Effect, None, None]:
    """Wait until the quota, the pace and a permit let a request start."""
    if turn is None:
        yield from _wait_for_turn(call, deadline, error, batch, PERMIT)
        return
    permit, now = PERMIT, call.clock()
    keeps = False
    while True:
        while (wait := turn.wait(now)).own:
            # As with the pace: a place in a moving line is kept, also if it is far from the front.
            left = deadline.left()
            if left <= 0 or (wait.first >= left and not turn.accompanied):
                raise error or call.failure or error_for_quota(call.provider, batch, wait.first, left)
            if wait.first < left:
                nap = min(wait.own, max(wait.look, LONGEST_NAP), left)
                yield deadline.pause(nap, keeps_permit=keeps)
                now = max(now + nap, call.clock())
            else:  # an answer on its way is paid for, and gives the call more time
                yield Sleep(min(LONGEST_NAP, left), keeps)
                now = max(now, call.clock())
        waited = yield from _wait_for_turn(call, deadline, error, batch, permit)
        now = max(now, call.clock())  # the clock lags behind where `sparse_embed.testing.no_wait` shortens pauses
        if turn.start(now):
            return
        # While it waited for a permit, others were faster. If it gave the permit back now, the next one of this encoder
        # would meet the same, and a slow encoder would hold up all others that share the quota.
        permit, keeps = PERMIT_AGAIN, keeps or waited > LATE


def _wait_for_turn(
    call: Call[V], deadline: _Deadline, error: SparseEmbedError | None, batch: Batch, permit: Permit
) -> Generator[Effect, None, float]:
    """Wait until the encoder's pace lets a request start, then for a permit; again if the pace changes meanwhile.

    Returns:
        Seconds of the wait for the permit.
    """
    now = call.clock()
    while True:
        slot = call.pace.book(now)
        while now < slot.start and call.pace.epoch == slot.epoch:
            # A pause that outlasts the deadline fails at once; a place in a moving line is kept while the line moves.
            pause = call.pace.paused_until(now) - now
            if pause >= deadline.left():
                raise error or error_for_pause(call.provider, batch, pause)
            nap = min(slot.start - now, max(LONGEST_NAP, (slot.start - now) / 4))
            yield deadline.pause(nap)
            now += nap
        if call.pace.epoch == slot.epoch:
            came = call.clock()
            yield permit
            waited = call.clock() - came
            deadline.excuse(waited)
            if call.pace.epoch == slot.epoch:
                return waited
            permit, now = PERMIT_AGAIN, now + waited
