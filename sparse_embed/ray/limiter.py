"""One rate for all encoders in a Ray cluster, learned from what the provider refuses.

`_Turns`, an actor, holds the pace: it gives out turns to send, and hears what succeeded and what was refused. It speaks
to `RayRateLimiter`, which stands in each process for the encoder's own pace.
"""

import asyncio
import math
from functools import partial
from time import monotonic
from typing import Any, Final, NamedTuple

import ray
from ray.exceptions import ActorDiedError

from sparse_embed.errors import ConfigurationError
from sparse_embed.locks import ForkSafeLock
from sparse_embed.settings import check_kind
from sparse_embed.transport.pace import Pace, Slot

NAMESPACE: Final = "sparse-embed"  # of all limiters in a cluster, so that jobs share them too
FIRST_IN_FLIGHT: Final = 16  # requests of all processes together, as of one encoder: a full burst would be refused ...
GROWTH: Final = 1.5  # ... so the number grows with each success, by half of the requests in flight per round trip
UNHEARD: Final = 1.0  # seconds after which a success may have been lost with its process
LONGEST_NAP: Final = 0.2  # seconds until a waiting turn looks whether the pace has changed
MOST_DEATHS: Final = 20  # of actors that a limiter outlives: a cluster in which they cannot start is no endless loop


class _Refusal(NamedTuple):
    """What `Pace.refused` is told, with how long ago the refused request was sent."""

    age: float
    wait: float | None
    random: float


class _Turns:
    """The actor. Processes tell it how long ago something was: their clocks may differ."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._next = self._given = self._succeeded = 0.0
        self._heard = asyncio.Event()

    async def take(self, gap: float, blocking: bool, successes: list[float]) -> bool:
        """Wait for a turn; `gap` seconds later, at the earliest, comes the next one.

        Not blocking: take the turn only if it is now, and return whether it was.
        """
        await self.hear(successes)
        now = monotonic()
        if not blocking and (self._too_many(gap) or max(self._next, self._pace.paused_until(now)) > now):
            return False
        while self._too_many(gap):
            try:
                await asyncio.wait_for(self._heard.wait(), UNHEARD)
            except TimeoutError:
                break
        self._given += 1
        now = monotonic()
        turn = max(self._next, now)
        self._next = turn + gap
        while True:
            slot = self._pace.book(now)
            start = max(turn, slot.start)
            while now < start and self._pace.epoch == slot.epoch:
                await asyncio.sleep(min(start - now, LONGEST_NAP))
                now = monotonic()
            if self._pace.epoch == slot.epoch:
                return True

    async def hear(self, successes: list[float], refusal: _Refusal | None = None) -> None:
        """Learn what became of requests."""
        now = monotonic()
        for age in successes:
            self._pace.succeeded(now - age)
        self._succeeded += len(successes)
        if refusal is not None:
            self._pace.refused(now, now - refusal.age, refusal.wait, refusal.random)
        self._heard.set()
        self._heard = asyncio.Event()

    def _too_many(self, gap: float) -> bool:
        """Whether one more request would be a burst, while nothing is known of the rate."""
        return not gap and not self._pace.epoch and self._given >= FIRST_IN_FLIGHT + GROWTH * self._succeeded


class RayRateLimiter(Pace):
    """One rate for all encoders in a Ray cluster that use its name, whatever their processes.

    The rate is learned: whatever one encoder is refused, slows all of them, once. It begins with as many requests as
    one encoder sends, and more as long as none is refused. Give `requests_per_second` where it is known, and there are
    hardly any refusals.

    An actor of that name gives out the turns. It is created by the first process that hands the limiter to others, or
    uses it, and ends with it; then another process creates the next one.

    Example:
        >>> limiter = RayRateLimiter(name="chroma")
        >>> documents.map_batches(
        ...     EmbedBatch, **map_options({"provider": "chroma", "rate_limiter": limiter}, actors=8)
        ... )  # doctest: +SKIP
    """

    def __init__(self, requests_per_second: float | None = None, *, name: str = "requests") -> None:
        """Nothing is started.

        Args:
            requests_per_second: What the provider allows, in all. None: it is learned.
            name: Limiters of one name share one rate: use one name for each account.

        Raises:
            ConfigurationError: The number is not positive, or the name is empty.
        """
        super().__init__()
        if requests_per_second is not None:
            check_kind("requests_per_second", requests_per_second, int, float)
            if not 0 < requests_per_second < math.inf:
                raise ConfigurationError(f"requests_per_second must be positive, not {requests_per_second}")
        check_kind("name", name, str)
        if not name:
            raise ConfigurationError("name must not be empty")
        self._requests_per_second, self._name = requests_per_second, name
        self._least_gap = 0.0 if requests_per_second is None else 1 / requests_per_second
        self._untold: list[float] = []  # successes
        self._actor_lock = ForkSafeLock()
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
                return bool(ray.get(actor.take.remote(self._least_gap, blocking, self._tell())))
            except ActorDiedError as error:
                self._forget(actor, error)

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Like `acquire`, on the running event loop."""
        while True:
            actor = self._find()
            try:
                return bool(await actor.take.remote(self._least_gap, blocking, self._tell()))
            except ActorDiedError as error:
                self._forget(actor, error)

    def book(self, now: float) -> Slot:
        """Now: the time to wait for is the turn's."""
        return Slot(now, self.epoch)

    def succeeded(self, sent: float) -> None:
        """Remember an answer for the next turn, which tells the actor."""
        self._untold.append(sent)

    def refused(self, now: float, sent: float, wait: float | None, random: float = 0.0) -> bool:
        """Tell the actor at once."""
        self._find().hear.remote(self._tell(), _Refusal(now - sent, wait, random))
        return super().refused(now, sent, wait, random)

    def _tell(self) -> list[float]:
        """How long ago each request was sent that succeeded, and that the actor has not heard of."""
        told, self._untold = self._untold, []
        now = monotonic()
        return [now - sent for sent in told]

    def _find(self) -> Any:  # noqa: ANN401  # Ray's handle of a `_Turns`
        """The actor: the one that is known here, else the one of this name, else a new one."""
        if not ray.is_initialized():  # where Ray would start a cluster of its own
            raise ConfigurationError("RayRateLimiter needs a running Ray: call ray.init() first")
        with self._actor_lock:
            if self._actor is None:
                actors = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Turns)
                self._actor = actors.options(name=self._name, namespace=NAMESPACE, get_if_exists=True).remote()
            return self._actor

    def _forget(self, actor: Any, error: Exception) -> None:  # noqa: ANN401  # as above
        """An actor ends with the process that created it: the next turn comes from a new one, unless that fails too."""
        with self._actor_lock:
            if self._actor is actor:
                self._actor = None
                self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise error
