"""One call, or one part of a stream: its texts, what it was built with, and the vectors received so far.

Decides which texts still need a request: repeated texts are sent once, and vectors are looked up by text. Leaves
sending to ``flow``.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sparse_embed.errors import SparseEmbedError
from sparse_embed.locks import ForkSafeLock
from sparse_embed.providers.base import Answer, Provider
from sparse_embed.settings import Role
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import RetryPolicy
from sparse_embed.vectors import Usage

V = TypeVar("V")


class Meter:
    """Counts what an encoder uses, from any thread."""

    def __init__(self, start: Usage = Usage()) -> None:  # noqa: B008  # frozen
        self._usage = start
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
    retry: RetryPolicy
    timeout: float | None
    pace: Pace
    meter: Meter
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    found: dict[str, V] = field(default_factory=dict)
    received: deque[str] = field(default_factory=deque)
    progressed: float = float("-inf")


@dataclass(slots=True)
class Chunk(Generic[V]):
    """The texts of one call, or of one part of a stream, and the vectors found for them so far."""

    texts: list[str]
    start: int
    call: Call[V]

    def missing(self) -> dict[str, int]:
        """Each text that still has no vector, once, with its first position."""
        found = self.call.found
        first: dict[str, int] = {}
        for position, text in enumerate(self.texts, self.start):
            if text not in found:
                first.setdefault(text, position)
        return first

    def vectors(self) -> list[V]:
        """One vector a text, in order; repeated texts share one."""
        return [self.call.found[text] for text in self.texts]

    def newly_received(self) -> dict[str, V]:
        """What came from the provider since the last time, by text."""
        received = self.call.received
        texts = [received.popleft() for _ in range(len(received))]
        return {text: self.call.found[text] for text in texts}

    def partial(self) -> dict[int, V]:
        """What is found so far, by position."""
        found = self.call.found
        return {at: found[text] for at, text in enumerate(self.texts, self.start) if text in found}


@contextmanager
def keeping(chunks: Iterable[Chunk[V]], remember: Callable[[Chunk[V]], None]) -> Iterator[None]:
    """However a call ends, lose nothing that was received: it has been paid for.

    It goes into the cache, and onto the error for whoever catches it.
    """
    try:
        yield
    except BaseException as error:
        for chunk in chunks:
            if isinstance(error, SparseEmbedError):
                error.partial |= chunk.partial()
            with suppress(Warning):  # of the cache, where warnings are errors: this error says more
                remember(chunk)
        raise
