"""One rate limit for all encoders in a Ray cluster: an actor gives out the turns to send."""

import asyncio
import math
from functools import partial
from time import monotonic
from typing import Any, Final

import ray
from ray.exceptions import ActorDiedError

from sparse_embed.errors import ConfigurationError
from sparse_embed.locks import ForkSafeLock
from sparse_embed.settings import check_kind

NAMESPACE: Final = "sparse-embed"  # of all limiters in a cluster, so that jobs share them too
MOST_DEATHS: Final = 20  # of actors that a limiter outlives: a cluster in which they cannot start is no endless loop


class _Turns:
    """The actor: gives out turns, one after another."""

    def __init__(self) -> None:
        self._next = 0.0

    async def take(self, gap: float, blocking: bool) -> bool:
        """Wait for a turn; `gap` seconds later comes the next one. Not blocking: take it only if it is now."""
        now = monotonic()
        start = max(self._next, now)
        if not blocking and start > now:
            return False
        self._next = start + gap
        await asyncio.sleep(start - now)
        return True


class RayRateLimiter:
    """Starts at most so many requests per second, over all encoders in a Ray cluster that use its name.

    An actor of that name gives out the turns. It is created by the first process that hands the limiter to others, or
    uses it, and ends with it; then another process creates the next one.

    Example:
        >>> limiter = RayRateLimiter(20, name="chroma")
        >>> documents.map_batches(
        ...     EmbedBatch, **map_options({"provider": "chroma", "rate_limiter": limiter}, actors=8)
        ... )  # doctest: +SKIP
    """

    def __init__(self, requests_per_second: float, *, name: str = "requests") -> None:
        """Nothing is started.

        Args:
            requests_per_second: What the provider allows, in all.
            name: Limiters of one name share one limit: use one name for each account.

        Raises:
            ConfigurationError: The number is not positive, or the name is empty.
        """
        check_kind("requests_per_second", requests_per_second, int, float)
        if not 0 < requests_per_second < math.inf:
            raise ConfigurationError(f"requests_per_second must be positive, not {requests_per_second}")
        check_kind("name", name, str)
        if not name:
            raise ConfigurationError("name must not be empty")
        self._requests_per_second, self._name = requests_per_second, name
        self._gap = 1 / requests_per_second
        self._lock = ForkSafeLock()
        self._actor: Any = None
        self._deaths = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._requests_per_second}, name={self._name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if ray.is_initialized():
            self._find()  # so that the actor lives as long as the process that hands the limiter out
        return partial(type(self), name=self._name), (self._requests_per_second,)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait for a turn. Not blocking: take one only if there is one now, and return whether there was.

        Raises:
            ConfigurationError: This process is not connected to Ray.
        """
        while True:
            actor = self._find()
            try:
                return bool(ray.get(actor.take.remote(self._gap, blocking)))
            except ActorDiedError as error:
                self._forget(actor, error)

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Like `acquire`, on the running event loop."""
        while True:
            actor = self._find()
            try:
                return bool(await actor.take.remote(self._gap, blocking))
            except ActorDiedError as error:
                self._forget(actor, error)

    def _find(self) -> Any:  # noqa: ANN401  # Ray's handle of a `_Turns`
        """The actor: the one that is known here, else the one of this name, else a new one."""
        if not ray.is_initialized():  # where Ray would start a cluster of its own
            raise ConfigurationError("RayRateLimiter needs a running Ray: call ray.init() first")
        with self._lock:
            if self._actor is None:
                actors = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Turns)
                self._actor = actors.options(name=self._name, namespace=NAMESPACE, get_if_exists=True).remote()
            return self._actor

    def _forget(self, actor: Any, error: Exception) -> None:  # noqa: ANN401  # as above
        """An actor ends with the process that created it: the next turn comes from a new one, unless that fails too."""
        with self._lock:
            if self._actor is actor:
                self._actor = None
                self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise error
