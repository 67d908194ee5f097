"""How fast an encoder may send once its provider has refused: one pace for all its requests. Pure: time is an argument.

A provider that never refuses is never slowed. A refusal (429) pauses every request, at least as long as the provider
asked for. What is learned from it assumes a bucket: it holds at most `burst` requests, fills up at a steady rate, and
is empty when it refuses.

- The burst is what succeeded before the first refusal, without what flowed in meanwhile.
- A success proves that the bucket held one more request, which rules out slower buckets. A refusal proves that it did
  not, which rules out faster ones. Both bounds are found by replaying what was sent, so that what overflows in a long
  pause is not counted as allowed. The rate is their mean. If the pause filled the bucket, another refusal is
  expensive, and the rate only changes as far as the bounds demand.
- A pause is long enough once a request succeeds after it. Where the provider names none, it is the time between two
  requests at the learned rate, and becomes longer with every attempt that fails.

Until a rate is known, requests after a pause become faster: quickly up to the burst, then more slowly. At a known
rate, what flowed in during the pause is sent at once, up to the burst. The rest follows at that rate, which then
grows, slowly at first and ever faster while refusals stay away: later if the rate is known well, and if a refusal
costs many requests. A refusal that comes much too soon (the limit has fallen, requests differ in size, others use it
too) lowers the rate and the confidence in it. The learned rate outlives the call, and the next call starts with it.
Fixed windows need no rule of their own: requests at their average rate keep to them.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from sparse_embed.locks import ForkSafeLock

MOST_REMEMBERED: Final = 1024  # successes since the last refusal
MEMORY: Final = 50  # successes after which what was learned counts half
FIRST_PAUSE: Final = 0.25  # seconds, where the provider names none and no rate is known
LONGER: Final = 0.25  # of all pauses since a success: the shortest next one after a failed attempt
DOUBLING: Final = 0.25  # seconds, or this share of a longer pause, in which the unknown rate doubles
FIRST_CALM: Final = 10.0  # successes added to those that the rate was learned from, so that it grows later at first
CALM: Final = 100  # successes between refusals that cost nothing else: 1 to 2 % are wasted on looking for more
GROWTH: Final = 5  # the power of the successes with which the rate grows
TOO_SOON: Final = 0.2  # of the successes expected: a refusal before them ...
LOWERED: Final = 0.8  # ... lowers the rate at least to this
RESERVE: Final = 3  # requests that flow in before the next is sent after such a refusal, at a rate known well
IDLE: Final = 10  # times the time that fills the bucket
LOWEST, HIGHEST = 0.5, 8.0  # times the average since the last refusal: where the rate is searched for
PRECISION: Final = 1.01
INSTANT: Final = 0.001  # seconds: nothing is assumed to take less


class Slot(NamedTuple):
    """When a request may start; void once the epoch has changed."""

    start: float
    epoch: int


class Pace:
    """Shared by all requests of an encoder, from any thread. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._sends: deque[float] = deque(maxlen=MOST_REMEMBERED)  # those that succeeded since the last refusal
        self._emptied = self._heard = -math.inf  # the last refusal after a success: when it was sent, when it arrived
        self._refused_at = self._paused_until = self._next_slot = -math.inf
        self._pause = self._latency = self._burst = 1.0
        self._first: list[float] = []  # how long before the first refusal each success was sent
        self._rate = self._successes = self._seconds = 0.0
        self._known = FIRST_CALM  # successes that the rate was learned from, halved by each refusal that came too soon
        self._calm = 0.0  # successes expected until the next refusal
        self._too_soon = False  # whether the last refusal came too soon
        self._testing = False  # whether one request tests if the pause was long enough
        self._booked = self.epoch = 0

    def book(self, now: float) -> Slot:
        """The next start that is free, at `now` or later."""
        with self._lock:
            start = max(now, self._paused_until)
            if self.epoch:
                filled = max(self._pause, self._burst * self._gap())
                if now - self._next_slot > IDLE * filled:  # nobody wanted to send, and the bucket is full
                    self._sends.clear()
                    self._emptied = now - filled
                if self._testing and self._booked:
                    start = max(start, self._paused_until + 1.5 * self._latency)
                gap = 1 / self._current_rate()
                saved = (self._burst - 1) * gap if self._rate else 0.0
                start = max(start, self._next_slot)
                self._next_slot = max(self._next_slot, start - saved) + gap
                self._booked += 1
            return Slot(start, self.epoch)

    def paused_until(self, now: float) -> float:
        """The end of the pause, `now` when there is none."""
        return max(now, self._paused_until)

    def succeeded(self, sent: float) -> None:
        """Count an answer to a request that was sent at this time."""
        with self._lock:
            if len(self._sends) == MOST_REMEMBERED:
                self._emptied = max(self._emptied, self._sends[0])
            self._sends.append(sent)

    def refused(self, now: float, sent: float, wait: float | None, random: float = 0.0) -> bool:
        """Pause every request, and learn.

        Args:
            now: When the refusal arrived.
            sent: When the refused request started. One that started before the last refusal arrived says nothing new.
            wait: Seconds that the provider asked for; None or 0 when it named none.
            random: In [0, 1), to lengthen a pause that the provider did not name.

        Returns:
            Whether a pause begins; False while one lasts.
        """
        with self._lock:
            begins = self._paused_until <= now
            if sent <= self._refused_at:
                self._paused_until = max(self._paused_until, now + (wait or 0.0))
                return begins and self._paused_until > now
            in_vain = self.epoch > 0 and not self._sends
            if not in_vain:
                if self.epoch:
                    self._learn(sorted(self._sends), sent)
                else:
                    self._first = [sent - at for at in self._sends]
                    self._burst = max(1.0, len(self._first))
                self._sends.clear()
                self._emptied, self._heard = sent, now
                self._pause = 0.0
            guess = max(self._gap() or FIRST_PAUSE, LONGER * self._pause) * (1 + random / 2)
            self._testing = in_vain and not wait
            self._refused_at, self._latency = now, max(now - sent, INSTANT)
            self._paused_until = max(self._paused_until, now + (wait or guess))
            self._pause += max(self._paused_until - sent, INSTANT)
            self._booked = 0
            # What flowed in before the refusal was heard of went to the requests still in flight.
            reserve = RESERVE if self._too_soon and self._calm > 2 * FIRST_CALM else 1
            self._next_slot = self._heard + reserve * self._gap()
            cost = 1 + max(0.0, self._rate * self._pause - self._burst)  # of a refusal, in requests
            self._calm = min(self._known * cost**0.8, CALM * cost**0.5)
            self.epoch += 1
            return begins

    def _learn(self, sends: list[float], refused: float) -> None:
        count = len(sends)
        average = count / max(refused - self._emptied, INSTANT)

        def slowest(allows: Callable[[float], bool]) -> float:
            low, high = LOWEST * average, HIGHEST * average
            while high > PRECISION * low:
                middle = math.sqrt(low * high)
                low, high = (low, middle) if allows(middle) else (middle, high)
            return low

        self._too_soon = self._rate > 0 and count < TOO_SOON * self._calm
        expected = (LOWERED if self._too_soon else 1.0) * self._rate
        # A bucket that refuses holds less than one request: none at worst, nearly one at best.
        enough = slowest(lambda rate: self._replay(1.0, rate, sends, refused)[0] >= 0)
        too_much = slowest(lambda rate: self._replay(0.0, rate, sends, refused)[1] >= 1)
        if enough > too_much:  # no bucket explains both: requests differ in size, or in how long they travel
            rate = slowest(lambda rate: self._replay(0.5, rate, sends, refused)[1] >= 0.5)
        else:
            rate = math.sqrt(enough * too_much)
            if rate * self._pause > self._burst:
                rate = min(max(expected, enough), too_much)
        if self._too_soon:
            rate = min(rate, expected)
            self._known /= 2
        self._known += count
        kept = MEMORY / (MEMORY + count)
        self._successes = kept * self._successes + count
        self._seconds = kept * self._seconds + count / rate
        self._rate = self._successes / self._seconds
        before = (number - self._rate * ago for number, ago in enumerate(sorted(self._first), 1))
        self._burst = min(self._burst, max((1.0, *before)))
        if 4 < 2 * count < min(self._burst, self._rate * self._pause):
            self._burst = float(count)  # the pause should have filled it: others use the limit too

    def _replay(self, level: float, rate: float, sends: list[float], refused: float) -> tuple[float, float]:
        """The least level of such a bucket after a success, and its level at the refusal."""
        least, last = 0.0, self._emptied
        for at in sends:
            level = min(self._burst, level + rate * (at - last)) - 1
            least, last = min(least, level), at
        return least, min(self._burst, level + rate * (refused - last))

    def _gap(self) -> float:
        return 1 / self._rate if self._rate else 0.0

    def _current_rate(self) -> float:
        if self._rate:  # the growth adds up to one request too many after `_calm` of them
            doubled = max(1.0, self._calm * math.pow(self._calm / (GROWTH + 1), 1 / GROWTH))
            return self._rate * (1.0 + math.pow(self._booked / doubled, GROWTH))
        beyond = self._booked + 1 - self._burst
        quick = min(DOUBLING, self._latency)
        if beyond < 0:
            return (self._booked + 1) * math.log(2) / quick
        return 2 * self._burst / self._pause + beyond * math.log(2) / max(quick, DOUBLING * self._pause)
