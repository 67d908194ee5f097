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
from sparse_embed.events import CallEnded, CallStarted, Event, Observer
from sparse_embed.locks import ForkSafeLock
from sparse_embed.providers.base import Answer, Provider
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
        self._usage = Usage()
        self._encoder = encoder
        self._lock = ForkSafeLock()
        self.engine: str | None = None

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
        if self._encoder is not None:
            self._encoder.add(total_tokens=total_tokens, requests=requests, retries=retries, texts=texts, hits=hits)

    def note_engine(self, engine: str) -> None:
        """Keep the name of the engine that answered."""
        self.engine = engine
        if self._encoder is not None:
            self._encoder.note_engine(engine)

    @property
    def usage(self) -> Usage:
        """The counts now."""
        return self._usage


@dataclass(slots=True, kw_only=True)
class Call(Generic[V]):
    """What all requests of one call share.

    Attributes:
        cache_key: None without a cache.
        observer: None if nobody listens.
        progressed: When the call last received a vector.
        dimension: Length of the dense vectors received.
    """

    provider: Provider
    decode: Callable[[bytes], Answer[V]]
    role: Role
    retry: RetryPolicy
    timeout: float | None
    pace: Pace
    meter: Meter
    cache_key: CacheKey | None = None
    observer: Observer | None = None
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    progressed: float = float("-inf")
    dimension: int | None = None

    def notify(self, kind: Callable[..., Event], *fields: object) -> None:
        """Report an event to the listeners, if there are any."""
        if self.observer is not None:
            self.observer.notify(kind(self.observer.call, *fields))


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
        name = None if failed is None else type(failed).__name__
        status = getattr(failed, "status", None)
        call.notify(CallEnded, call.meter.usage, call.clock() - started, name, status, call.dimension)
