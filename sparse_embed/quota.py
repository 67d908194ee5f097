"""A provider's quota per minute that is known: requests start so that it is never exceeded. Pure: time is an argument.

Where a request may start is decided by two rules, for requests and for tokens alike:

- *Pace.* Requests start one after another: one that takes a hundredth of the quota is followed by 0.6 s without
  another. There is no burst at the beginning or after an idle time. So a bucket that refills at the quota's rate never
  runs dry if it holds one request, and what refills while a request is on its way.
- *Window.* What was taken in the last minute and what is about to be taken never exceed the quota. A request counts
  from its start until a minute after its answer, since the provider may count it at any time in between. So no fixed
  or sliding window of a minute is exceeded, however long answers take.

The pace aims at 99 % of the quota. A request is split if it needs more than 1/32 of the minute's tokens: large requests
would leave much of a window unused.

Tokens are estimated from the length of the texts, and corrected as soon as the answer reports them. The estimate is
the highest recent number of tokens per byte, and a tenth more.
"""

import itertools
import math
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from sparse_embed.errors import ConfigurationError
from sparse_embed.locks import ForkAware
from sparse_embed.options import check_count

MINUTE: Final = 60.0
AIM: Final = 0.99
SHARES: Final = 32  # a request takes at most this part of a minute's tokens
LATE: Final = 0.05  # seconds that a thread or an event loop may wake too late, without delaying the next start
EXACT: Final = 1e-6  # seconds, far above the clock's rounding errors
RECHECK: Final = 0.1  # seconds, while the window is full of requests whose answers have not arrived
LOOK: Final = 2.0  # seconds, at most, until a request looks at its place in line again, which others may have left
LOOKS: Final = 200  # per second, at most, of a whole line: each takes time that grows with the line
TOKENS_PER_BYTE: Final = 0.3  # until answers report tokens; English has about 0.23, few languages have more than this
BYTES_PER_TEXT: Final = 10  # added to each text, for the tokens with which models begin and end a text
HEADROOM: Final = 1.1
FORGET: Final = 0.1  # how much one answer with fewer tokens per byte lowers the estimate


class Limit:
    """One of a quota's limits: what it allows per minute, and what has been taken."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self.rate = AIM * per_minute / MINUTE
        self._next = -math.inf  # when the next request may start
        self._taken = 0.0  # in the window, with the requests in flight
        self._ended: deque[tuple[float, float]] = deque()  # when each leaves the window, and its amount

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` may be taken."""
        while self._ended and self._ended[0][0] <= now:
            self._taken -= self._ended.popleft()[1]
        start, excess = self._next, self._taken + amount - self.per_minute
        for leaves, ended in self._ended:
            if excess <= 0:
                break
            start, excess = max(start, leaves), excess - ended
        if excess > 0:
            start = max(start, now + RECHECK)
        return start - now if start - now > EXACT else 0.0

    def take(self, now: float, amount: float) -> None:
        """Count a request that starts."""
        self._next = (self._next if now - self._next <= LATE else now) + amount / self.rate
        self._taken += amount

    def end(self, now: float, amount: float, used: float) -> None:
        """Count a request that has ended: it took `amount`, and used `used`."""
        self._next += (used - amount) / self.rate
        self._taken += used - amount
        self._ended.append((now + MINUTE + EXACT, used))


class Wait(NamedTuple):
    """Seconds until a request may start, until the first waiting request of the same call may, and to the next look."""

    own: float
    first: float
    look: float


class Amounts(NamedTuple):
    """What requests take from the two limits."""

    requests: float
    tokens: float


class Limits(NamedTuple):
    """The two limits; one that is not set is infinite."""

    requests: Limit
    tokens: Limit


NOTHING: Final = Amounts(0, 0)
TURN_NUMBERS: Final = itertools.count()


class Quota(ForkAware):
    """What a provider allows per minute, kept by all encoders and embedding classes that are given the same object.

    Each request waits until the quota allows it. Calls take turns, so a query waits for at most one request of every
    other call. The threads, event loops and encoders of one process can share an object. A pickled or forked one starts
    anew: processes know nothing of each other, so give each its part of the provider's quota.

    A new object knows nothing of the minute before. Requests start one by one and never in a burst, so a provider whose
    bucket holds much less than a minute's quota does not refuse either.

    Example:
        >>> from sparse_embed import DenseEncoder, Quota, SparseEncoder
        >>> quota = Quota(tokens_per_minute=250_000)
        >>> sparse, dense = SparseEncoder("pinecone", quota=quota), DenseEncoder("pinecone", quota=quota)
    """

    def __init__(self, *, requests_per_minute: int | None = None, tokens_per_minute: int | None = None) -> None:
        """Nothing is sent.

        Args:
            requests_per_minute: Requests that the provider allows per minute. None: any number.
            tokens_per_minute: Tokens that the provider allows per minute. None: any number.

        Raises:
            ConfigurationError: Neither is given, or one is not a whole number of at least 1.
        """
        super().__init__()
        self._per_minute = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        if all(value is None for value in self._per_minute.values()):
            raise ConfigurationError("a Quota needs requests_per_minute, tokens_per_minute or both")
        for name, value in self._per_minute.items():
            if value is not None:
                check_count(name, value)
        self._most_tokens = (tokens_per_minute or math.inf) / min(SHARES, requests_per_minute or SHARES)
        self._forked()

    @classmethod
    def from_mapping(cls, limits: Mapping[str, Any]) -> Self:
        """Build from the limits that a file gives.

        Raises:
            ConfigurationError: No mapping, an unknown limit, or one that is not a whole number of at least 1.
        """
        if not isinstance(limits, Mapping):
            given = type(limits).__name__
            raise ConfigurationError(f"quota must be a mapping such as {{'requests_per_minute': 600}}, not {given}")
        known = ("requests_per_minute", "tokens_per_minute")
        for name in limits:
            if name not in known:
                raise ConfigurationError(f"quota has {' and '.join(known)}, not {name!r}")
        return cls(**limits)

    def _forked(self) -> None:
        """Start anew: the parent's requests never end here."""
        self._lock = threading.Lock()
        self._limits = Limits(*(Limit(math.inf if value is None else value) for value in self._per_minute.values()))
        self._tokens_per_byte = TOKENS_PER_BYTE
        self._line: list[Turn] = []
        self._started: dict[Turn, Amounts] = {}

    def __getstate__(self) -> dict[str, int | None]:
        return self._per_minute

    def __setstate__(self, state: dict[str, int | None]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a pickle is checked like any other input

    def __repr__(self) -> str:
        return f"Quota({', '.join(f'{name}={value}' for name, value in self._per_minute.items() if value)})"


class Turn:
    """One request's place in a quota's line, and then its part of the quota. Each attempt waits, starts and ends anew.

    All times are seconds of one monotonic clock, given by the caller.

    Attributes:
        accompanied: Whether another request of the same call was in flight at the last `wait` or `start`.
    """

    def __init__(self, quota: Quota, texts: Sequence[str], call: object) -> None:
        """It joins the line with its first `wait`.

        Args:
            quota: What the request takes its part of.
            texts: The texts of the request.
            call: What the request belongs to.
        """
        self._quota = quota
        self._size = sum(len(text.encode()) + BYTES_PER_TEXT for text in texts)
        self._call = call
        self._number = next(TURN_NUMBERS)
        self._returns = False
        self.accompanied = False

    def is_too_large(self) -> bool:
        """Whether the request takes so much of the quota that it should be split."""
        return self._size * self._quota._tokens_per_byte > self._quota._most_tokens

    def wait(self, now: float) -> Wait:
        """How long to wait in line. Once ``own`` is 0, the turn has left the line and may `start`."""
        line = self._quota._line
        with self._quota._lock:
            if self not in line:
                self._join_line()
            tokens, first = 0.0, math.inf
            for place, turn in enumerate(line):
                if turn is self or (turn._call is self._call and first == math.inf):
                    own = turn._wait(now, Amounts(place, tokens))
                    first = min(first, own)
                if turn is self:
                    break
                tokens += turn._tokens()
            look = min(own / 2, max(LOOK, len(line) / LOOKS))
            if not own:
                line.remove(self)
            self._see_others()
            return Wait(own, first, look)

    def start(self, now: float) -> bool:
        """Take the request's part of the quota; if others were faster, the turn is in line again."""
        with self._quota._lock:
            if self._wait(now, NOTHING):
                self._returns = True
                self._join_line()
                return False
            self._returns = False
            self._see_others()
            self._quota._started[self] = amounts = self._estimate()
            for limit, amount in zip(self._quota._limits, amounts, strict=True):
                limit.take(now, amount)
            return True

    def end(self, now: float, tokens: int | None = None, *, requests: int = 1) -> None:
        """The attempt has ended, or is given up; a second call changes nothing.

        Args:
            now: As everywhere.
            tokens: What the request has used. None if that is unknown: the estimate stays.
            requests: 0 if it has not left this machine: it returns to the line as if it had not started.
        """
        quota = self._quota
        with quota._lock:
            if self in quota._line:
                quota._line.remove(self)
            taken = quota._started.pop(self, None)
            if taken is None:  # also in a forked process, whose quota counts none of its parent's requests
                return
            self._returns = not requests
            used = Amounts(requests, taken.tokens if tokens is None else tokens)
            for limit, *amounts in zip(quota._limits, taken, used, strict=True):
                limit.end(now, *amounts)
            if tokens:
                seen, known = tokens / self._size, quota._tokens_per_byte
                quota._tokens_per_byte = max(seen, known + FORGET * (seen - known))

    def _see_others(self) -> None:
        self.accompanied = any(turn._call is self._call for turn in self._quota._started)

    def _join_line(self) -> None:
        """Take a place for the call; its requests have the call's places in the order in which they were made."""
        line = self._quota._line
        line.insert(self._place(sum(turn._call is self._call for turn in line) + 1), self)
        places = [place for place, turn in enumerate(line) if turn._call is self._call]
        turns = sorted((line[place] for place in places), key=lambda turn: turn._number)
        for place, turn in zip(places, turns, strict=True):
            line[place] = turn

    def _place(self, most: int) -> int:
        """Calls alternate: behind as many requests of every other call as the call has now, which are `most`.

        A call whose only request has been at the front, and comes back, keeps its place there.
        """
        line = self._quota._line
        if self._returns and most == 1:
            earlier = (turn._returns and turn._number < self._number for turn in line)
            return sum(itertools.takewhile(bool, earlier))
        seen: Counter[int] = Counter()
        for place, turn in enumerate(line):
            seen[id(turn._call)] += 1
            if seen[id(turn._call)] > most:
                return place
        return len(line)

    def _estimate(self) -> Amounts:
        return Amounts(1, self._tokens())

    def _tokens(self) -> float:
        tokens = math.ceil(self._size * self._quota._tokens_per_byte * HEADROOM)
        # One text may need more than a minute's tokens, or seem to: it is sent when nothing else counts.
        return min(tokens, self._quota._limits.tokens.per_minute)

    def _wait(self, now: float, ahead: Amounts) -> float:
        """Seconds until the request may start, when those ahead of it take `ahead`."""
        return max(
            limit.wait(now, amount) + before / limit.rate
            for limit, amount, before in zip(self._quota._limits, self._estimate(), ahead, strict=True)
        )
