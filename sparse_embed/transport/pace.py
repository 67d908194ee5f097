"""How fast an encoder may send once its provider has refused: one pace for all its requests. Pure: time is an argument.

A provider that never refuses is never slowed. A refusal (429) pauses every request, at least as long as the provider
asked for. What is learned assumes a bucket: it holds at most `burst` requests, refills steadily, is empty at a refusal.

- The burst is what succeeded before the first refusal, without what flowed in meanwhile at the rate in question.
- A success rules out slower buckets, a refusal faster ones. Both bounds are found by replaying what was sent, so that
  what overflows in a pause does not count. The rate is their mean. If the provider named a pause that filled the
  bucket, another refusal is expensive, and the rate only changes as far as the bounds demand. A full bucket that
  refuses before it was used twice over is smaller than thought: others use the limit, or it is a fixed window.
- A pause that is not named is the time between two requests at the learned rate, longer with every attempt that
  fails; where `window` finds a fixed window, it lasts until that opens again.

Until a rate is known, requests after a pause become faster: quickly up to the burst, then more slowly. At a known
rate, what flowed in during the pause is sent at once, up to most of the burst. The rest follows at that rate, which
grows, ever faster while refusals stay away: later if it is known well, and if a refusal costs many requests. A refusal
that comes much too soon (the limit fell, others use it) lowers the rate and the confidence in it. It outlives the call.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from sparse_embed.locks import ForkSafeLock
from sparse_embed.transport.window import Window

MOST_REMEMBERED: Final = 1024  # successes since the last refusal
MEMORY: Final = 50  # successes after which what was learned counts half
FIRST_PAUSE: Final = 0.25  # seconds, where the provider names none and no rate is known
LONGER: Final = 0.3  # of all pauses since a success: the shortest next one after a failed attempt
QUICK: Final = 0.25  # seconds, or a shorter latency, in which the unknown rate doubles up to the burst, ...
DOUBLING: Final = 0.5  # ... and the share of the pause in which it doubles from there ...
EXTRA: Final = 4  # ... starting with these and the burst in each pause
AT_ONCE: Final = 0.9  # of the burst, so that a rate a little too high is not refused at once
FIRST_CALM: Final = 10.0  # successes added to those that the rate was learned from, so that it grows later at first
CALM: Final = 100  # successes between refusals that cost nothing else: 1 to 2 % are wasted on looking for more
GROWTH: Final = 5  # the power of the successes with which the rate grows
TOO_SOON: Final = 0.2  # of the successes expected: a refusal before them ...
LOWERED: Final = 0.8  # ... lowers the rate at least to this
RESERVE: Final = 3  # requests that flow in before the next is sent after such a refusal, at a rate known well
IDLE: Final = 10  # times the time that fills the bucket
LOWEST, HIGHEST = 0.5, 8.0  # times the average since the last refusal: where the rate is searched for
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
        self._refused = self._refused_at = self._paused_until = self._next_slot = -math.inf
        self._window = Window()
        self._pause = self._latency = self._burst = 1.0
        self._first: list[float] = []  # how long before the first refusal each success was sent
        self._rate = self._successes = self._seconds = 0.0
        self._known = FIRST_CALM  # successes that the rate was learned from, halved by each refusal that came too soon
        self._calm = 0.0  # successes expected until the next refusal
        self._too_soon = self._named = False  # whether the last refusal came too soon, and named a pause
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
                saved = max(0.0, AT_ONCE * self._burst - 1) * gap if self._rate else 0.0
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
        """Learn, and pause for `wait` seconds, or a guess (longer with `random`, in [0, 1)): whether a pause begins."""
        with self._lock:
            begins = self._paused_until <= now
            if sent <= self._refused_at:  # it started before the last refusal arrived, and says nothing new
                self._paused_until = max(self._paused_until, now + (wait or 0.0))
                return begins and self._paused_until > now
            in_vain = self.epoch > 0 and not self._sends
            if not in_vain:
                if self.epoch:
                    self._learn(sorted(self._sends), sent, bool(wait))
                else:
                    self._window.begin(min(self._sends, default=sent))
                    self._first = sorted(sent - at for at in self._sends)
                    self._burst = max(1.0, len(self._first))
                self._sends.clear()
                self._emptied, self._heard, self._pause = sent, now, 0.0
            guess = self._window.next_attempt(after_failure=in_vain) - now
            is_window = guess > self._gap()
            if not is_window:
                guess = max(self._gap() or FIRST_PAUSE, LONGER * self._pause) * (1 + random / 2)
            self._named, self._testing = bool(wait), not wait and (in_vain or is_window)
            self._refused, self._refused_at, self._latency = sent, now, max(now - sent, INSTANT)
            self._paused_until = max(self._paused_until, now + (wait or guess))
            self._pause += max(self._paused_until - sent, INSTANT)
            reserve = RESERVE if self._too_soon and self._calm > 2 * FIRST_CALM else 1
            self._next_slot = self._heard + reserve * self._gap()  # what flowed in before is used by those in flight
            cost = 1 + max(0.0, self._rate * self._pause - self._burst)  # of a refusal, in requests
            self._calm = min(self._known * cost**0.8, CALM * cost**0.5)
            self._booked, self.epoch = 0, self.epoch + 1
            return begins

    def _learn(self, sends: list[float], refused: float, named: bool) -> None:
        count = len(sends)
        average = count / max(refused - self._emptied, INSTANT)

        def slowest(allows: Callable[[float], bool]) -> float:
            low, high = LOWEST * average, HIGHEST * average
            while high > 1.01 * low:
                middle = math.sqrt(low * high)
                low, high = (low, middle) if allows(middle) else (middle, high)
            return low

        self._too_soon = self._rate > 0 and count < TOO_SOON * self._calm
        expected = (LOWERED if self._too_soon else 1.0) * self._rate
        # A bucket that refuses holds less than one request: none at worst, nearly one at best, at first what flowed in.
        flowed = self._first[-1] if self._first and not self._rate else math.inf
        slow = slowest(lambda rate: self._replay(min(1.0, rate * flowed), rate, sends, refused)[0] >= 0)
        fast = slowest(lambda rate: self._replay(0.0, rate, sends, refused)[1] >= 1)
        if slow > fast:  # no bucket explains both: requests differ in size, or in how long they travel
            rate = slowest(lambda rate: self._replay(0.5, rate, sends, refused)[1] >= 0.5)
        else:
            rate = math.sqrt(slow * fast)
            if named and rate * self._pause > self._burst:
                rate = min(max(expected, slow), fast)
        if self._rate * self._pause > self._burst and 4 < count < 2 * self._burst:
            self._burst = max(1.0, min(self._burst, count - self._rate * (refused - sends[0])))
            rate = self._rate
        elif self._too_soon:
            rate = min(rate, expected)
            self._known /= 2
        self._window.opened(sends[0], closed=self._emptied, tried=self._refused, named=self._named)
        self._known += count
        kept = MEMORY / (MEMORY + count)
        self._successes = kept * self._successes + count
        self._seconds = kept * self._seconds + count / rate
        self._rate = self._successes / self._seconds
        self._burst = self._burst_at(self._rate)

    def _replay(self, level: float, rate: float, sends: list[float], refused: float) -> tuple[float, float]:
        """The least level of such a bucket after a success, and its level at the refusal."""
        least, last, burst = 0.0, self._emptied, self._burst_at(rate)
        for at in sends:
            level = min(burst, level + rate * (at - last)) - 1
            least, last = min(least, level), at
        return least, min(burst, level + rate * (refused - last))

    def _burst_at(self, rate: float) -> float:
        return min(self._burst, max((1.0, *(number - rate * ago for number, ago in enumerate(self._first, 1)))))

    def _gap(self) -> float:
        return 1 / self._rate if self._rate else 0.0

    def _current_rate(self) -> float:
        if self._rate:  # the growth adds up to one request too many after `_calm` of them
            doubled = max(1.0, self._calm * math.pow(self._calm / (GROWTH + 1), 1 / GROWTH))
            return self._rate * (1.0 + math.pow(self._booked / doubled, GROWTH))
        beyond = self._booked + 1 - self._burst
        if beyond < 0:
            return (self._booked + 1) * math.log(2) / min(QUICK, self._latency)
        return (self._burst + EXTRA + beyond * math.log(2) / DOUBLING) / self._pause
