"""What successes and refusals prove about a rate limit. Pure: times are arguments.

The limit is taken for a bucket: it holds at most `burst` requests, refills steadily, is empty at a refusal.

- The burst is what succeeded before the first refusal, without what flowed in meanwhile at the rate in question.
- A success rules out slower buckets, a refusal faster ones. Both bounds are found by replaying what was sent, so that
  what overflows in a pause does not count. The rate is their mean, averaged with what was learned before. It is nearer
  to the faster one as long as few successes show a small bucket, which loses what is not sent in time.
- If the provider named a pause that filled the bucket, another refusal is expensive, and the rate only changes as far
  as the bounds demand.
- A full bucket that refuses before it was used twice over is smaller than thought: others use it, or it is a window.
- A refusal that comes much too soon (the limit fell, others use it) lowers the rate and the confidence in it.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

MOST_REMEMBERED: Final = 1024  # successes since the last refusal
MEMORY: Final = 50  # successes after which what was learned counts half
UNPROVEN: Final = 10.0  # the first confidence: with less, a new rate would grow too early
FEW: Final = 4  # successes that do not show how much a bucket held, ...
FASTER: Final = 0.65  # ... and the share that the upper bound then has in the mean
LOWERED: Final = 0.8  # a refusal that came too soon lowers the rate at least to this
LOWEST, HIGHEST = 0.5, 8.0  # times the average since the last refusal: where the rate is searched for
INSTANT: Final = 0.001  # seconds: nothing is assumed to take less


class _Levels(NamedTuple):
    least: float  # after any success: below 0, the bucket is too slow
    at_refusal: float  # from 1 on, the bucket is too fast: it would not have refused


class Stretch:
    """What was sent from one refusal, which shows an empty bucket, to the next."""

    def __init__(self, emptied: float, heard: float) -> None:
        self.emptied, self.heard = emptied, heard  # when the refused request was sent, and when its refusal arrived
        self.pause = 0.0  # seconds after it in which nothing succeeded
        self.sends: deque[float] = deque(maxlen=MOST_REMEMBERED)  # when each success was sent, as they were answered

    def succeeded(self, sent: float) -> None:
        """Add a success. One too many replaces the first, as if that had found the bucket empty."""
        if len(self.sends) == MOST_REMEMBERED:
            self.emptied = max(self.emptied, self.sends[0])
        self.sends.append(sent)

    def replay(self, refused: float, rate: float, burst: float, level: float) -> _Levels:
        """Send all this to a bucket that begins at this level."""
        last, least = self.emptied, 0.0
        for sent in sorted(self.sends):
            level = min(burst, level + rate * (sent - last)) - 1
            last, least = sent, min(least, level)
        return _Levels(least, min(burst, level + rate * (refused - last)))

    def slowest(self, refused: float, suffices: Callable[[float], bool]) -> float:
        """The slowest rate that suffices, by bisection."""
        average = len(self.sends) / max(refused - self.emptied, INSTANT)
        low, high = LOWEST * average, HIGHEST * average
        while high > 1.01 * low:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if suffices(middle) else (middle, high)
        return low


class Bucket:
    """The bucket that explains what was seen."""

    def __init__(self, sends: Iterable[float], refused: float) -> None:
        self._refused = refused
        self._ages: list[float] = []  # how long before the first refusal each success was sent
        self.burst = 1.0
        for sent in sends:
            self.add(sent)
        self.rate = self._successes = self._seconds = 0.0  # per second, 0 if unknown: the quotient of sums that fade
        self.confidence = UNPROVEN  # successes that the rate was learned from, halved when one came too soon

    @property
    def gap(self) -> float:
        """Seconds in which one request flows in; 0 while the rate is unknown."""
        return 1 / self.rate if self.rate else 0.0

    def add(self, sent: float) -> None:
        """Add a success of the first burst, also one that was answered after the first refusal."""
        insort(self._ages, self._refused - sent)
        self.burst = max(1.0, len(self._ages))

    def learn(self, stretch: Stretch, refused: float, *, named: bool, too_soon: bool) -> None:
        """Learn from the refusal that ends a stretch: it may name a pause, and come much sooner than expected."""
        count, rate = len(stretch.sends), self.rate
        was_full = rate * stretch.pause > self.burst
        if was_full and FEW < count < 2 * self.burst:
            self.burst = max(1.0, min(self.burst, count - rate * (refused - min(stretch.sends))))
        elif too_soon:
            lowered = LOWERED * rate
            rate = min(lowered, self._explain(stretch, refused, lowered, named))
            self.confidence /= 2
        else:
            rate = self._explain(stretch, refused, rate, named)
        self.confidence += count
        self._average(rate, count)
        self.burst = self._burst_at(self.rate)

    def _explain(self, stretch: Stretch, refused: float, expected: float, named: bool) -> float:
        """The rate that explains a stretch best; near the expected one if another refusal is expensive."""

        def replay(rate: float, level: float) -> _Levels:
            return stretch.replay(refused, rate, self._burst_at(rate), level)

        # A bucket that refuses holds less than one request: none at worst, nearly one at best, at first what flowed in.
        filled_for = max(self._ages[-1], 0.0) if self._ages and not self.rate else math.inf
        slow = stretch.slowest(refused, lambda rate: replay(rate, min(1.0, rate * filled_for)).least >= 0)
        fast = stretch.slowest(refused, lambda rate: replay(rate, 0.0).at_refusal >= 1)
        if slow > fast:  # no bucket explains both: requests differ in size, or in how long they travel
            return stretch.slowest(refused, lambda rate: replay(rate, 0.5).at_refusal >= 0.5)
        share = FASTER if not named and max(self.burst, len(stretch.sends)) < FEW else 0.5
        mean = math.pow(slow, 1 - share) * math.pow(fast, share)
        if named and mean * stretch.pause > self.burst:
            return min(max(expected, slow), fast)
        return mean

    def _average(self, rate: float, count: int) -> None:
        kept = MEMORY / (MEMORY + count)
        self._successes = kept * self._successes + count
        self._seconds = kept * self._seconds + count / rate
        self.rate = self._successes / self._seconds

    def _burst_at(self, rate: float) -> float:
        """The most that succeeded at first beyond what flowed in at this rate."""
        return min(self.burst, max((1.0, *(number - rate * age for number, age in enumerate(self._ages, 1)))))
