"""What the requests of one call share: `Call`; its texts, or a part of a stream's, with the vectors found: `Chunk`.

Decides which texts still need a request: repeated texts are sent once, and vectors are looked up by text. Leaves
sending to ``flow``.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sparse_embed.cache import CacheKey
from sparse_embed.errors import SparseEmbedError
from sparse_embed.events import CallEnded, CallStarted, Notify
from sparse_embed.locks import ForkSafeLock
from sparse_embed.providers.base import Answer, Provider
from sparse_embed.quota import Quota
from sparse_embed.settings import Role
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import RetryPolicy
from sparse_embed.vectors import Usage

V = TypeVar("V")


class Meter:
    """Counts what is used, from any thread; a call's meter also adds to its encoder's.

    Attributes:
        engine: The engine that a local provider named in its last answer.
    """

    def __init__(self, encoder: "Meter | None" = None) -> None:
        self._counts = [0] * len(Usage.__slots__)
        self._encoder = encoder
        self._lock: ForkSafeLock = ForkSafeLock() if encoder is None else encoder._lock
        self.engine: str | None = None

    def add(
        self,
        *,
        total_tokens: int = 0,
        requests: int = 0,
        retries: int = 0,
        texts: int = 0,
        hits: int = 0,
        engine: str | None = None,
    ) -> None:
        """Add to the counts."""
        with self._lock:
            for meter in (self, self._encoder):
                if meter is not None:
                    counts = meter._counts
                    counts[0] += total_tokens
                    counts[1] += requests
                    counts[2] += retries
                    counts[3] += texts
                    counts[4] += hits
                    meter.engine = engine or meter.engine

    @property
    def usage(self) -> Usage:
        """The counts now."""
        with self._lock:
            return Usage(*self._counts)


@dataclass(slots=True, kw_only=True)
class Call(Generic[V]):
    """What all requests of one call share.

    Attributes:
        cache_key: None without a cache.
        warn: Reports a retry or a pause.
        notify: Reports any other event, None if nobody listens.
        progressed: When the call last received a vector.
        failure: The last error since then.
        dimension: Length of the dense vectors received.
    """

    provider: Provider
    decode: Callable[[bytes], Answer[V]]
    role: Role
    retry: RetryPolicy
    timeout: float | None
    pace: Pace
    meter: Meter
    quota: Quota | None = None
    cache_key: CacheKey | None = None
    warn: Notify = field(default=lambda *event: None)
    notify: Notify | None = None
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    progressed: float = float("-inf")
    failure: SparseEmbedError | None = None
    dimension: int | None = None


@dataclass(slots=True)
class Chunk(Generic[V]):
    """The texts of a list, or of one part of a stream, and the vectors found for them so far.

    Attributes:
        start: Position of the first text in the caller's input.
        found: Vectors by text: where the requests put what they receive.
    """

    call: Call[V]
    texts: list[str]
    start: int = 0
    found: dict[str, V] = field(default_factory=dict)

    def missing(self) -> dict[str, int]:
        """Each text that has no vector yet, once, with its first position."""
        first: dict[str, int] = {}
        for position, text in enumerate(self.texts, self.start):
            if text not in self.found:
                first.setdefault(text, position)
        return first

    def vectors(self) -> list[V]:
        """One vector per text, in order; repeated texts share one."""
        return [self.found[text] for text in self.texts]

    def partial(self) -> dict[int, V]:
        """The vectors found so far, by position."""
        found = self.found
        return {at: found[text] for at, text in enumerate(self.texts, self.start) if text in found}


@contextmanager
def track(call: Call[V], chunks: Iterable[Chunk[V]]) -> Iterator[None]:
    """Around a call: report its start and end, and give an error the vectors that were received before it.

    Args:
        call: The call.
        chunks: Those whose vectors the caller does not have yet.
    """
    started = call.clock()
    failed: BaseException | None = None
    if call.notify is not None:
        call.notify(CallStarted)
    try:
        yield
    except GeneratorExit:  # the consumer of a stream has seen enough
        raise
    except BaseException as error:
        failed = error
        if isinstance(error, SparseEmbedError):
            for chunk in chunks:
                error.partial |= chunk.partial()
        raise
    finally:
        call.failure = None  # its traceback holds the call
        if call.notify is not None:
            name = None if failed is None else type(failed).__name__
            status = getattr(failed, "status", None)
            call.notify(CallEnded, call.meter.usage, call.clock() - started, name, status, call.dimension)
