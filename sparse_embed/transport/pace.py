"""How fast an encoder may send once its provider has refused: one pace for all its requests. Pure: time is an argument.

A provider that never refuses is never slowed. A refusal (429) pauses every request until the time that the provider
named. After it, the rate is learned: where requests are allowed by a bucket that refills, it is empty at each refusal,
so what succeeded between two refusals, over the time between them, is the refill rate. Requests then start one by one
at this rate, which grows ever faster as refusals stay away.
"""

import math
from collections import deque
from typing import Final, NamedTuple

from sparse_embed.locks import ForkSafeLock

MOST_REMEMBERED: Final = 8  # refusals: long enough to be exact, short enough to follow a limit that changes
BURST: Final = 16  # requests that may catch up after a pause; a wrong guess wastes no more than one round
# The rate doubles over at most this many successes a success known, or this many in all: with a rate that is known
# well, some 100 requests pass between two refusals, so that 1 to 2 % are wasted on looking for more.
MOST_DOUBLING_PER_SUCCESS: Final = 6
SLOWEST_DOUBLING: Final = 577
REBOOK_AT: Final = 1.25


class Slot(NamedTuple):
    """When a request may start; void once the epoch has changed."""

    start: float
    epoch: int


class Refusal(NamedTuple):
    """When a request was refused, and how many had succeeded by then."""

    at: float
    successes: int


class Pace:
    """Shared by all requests of an encoder, from any thread.

    All times are seconds of one monotonic clock, given by the caller.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._paused_until = -math.inf
        self._refusals: deque[Refusal] = deque(maxlen=MOST_REMEMBERED)
        self._successes = 0
        self._rate = math.inf  # right after the last refusal
        self._doubling = 1
        self._booked_rate = math.inf
        self._next_slot = -math.inf
        self.epoch = 0

    def book(self, now: float) -> Slot:
        """The next start that is free, at `now` or later."""
        with self._lock:
            start = max(now, self._paused_until)
            if self._refusals:
                gap = 1 / self._current_rate()
                start, self._next_slot = (
                    max(start, self._next_slot),
                    max(self._next_slot, start - BURST * gap) + gap,
                )
            return Slot(start, self.epoch)

    def paused_until(self, now: float) -> float:
        """The end of the provider's pause, `now` when there is none."""
        return max(now, self._paused_until)

    def succeeded(self, now: float) -> None:
        """Count an answer; once the rate has clearly grown, places in line are given out anew."""
        with self._lock:
            self._successes += 1
            if self._refusals and self._current_rate() > REBOOK_AT * self._booked_rate:
                self._start_epoch(now)

    def refused(self, now: float, sent: float, wait: float) -> bool:
        """Pause every request for `wait` seconds, and learn.

        Args:
            now: When the refusal arrived.
            sent: When the refused request started. One that started before the last refusal arrived says nothing new.
            wait: Seconds to pause.

        Returns:
            Whether a pause begins; False while one lasts.
        """
        with self._lock:
            begins = self._paused_until <= now
            self._paused_until = max(self._paused_until, now + wait)
            if self._refusals and sent <= self._refusals[-1].at:
                return begins
            if self._refusals and self._refusals[-1].successes == self._successes:
                self._refusals.pop()  # nothing succeeded in between: one exhaustion, asked about twice
            self._refusals.append(Refusal(now, self._successes))
            oldest = self._refusals[0]
            known = self._successes - oldest.successes
            if known:
                # The bucket held less than one token at each end: half a success is the unbiased correction.
                self._rate = (known + 0.5) / (now - oldest.at)
                spans = len(self._refusals) - 1  # the fewer, the sooner a higher rate is tried
                self._doubling = min(known * min(spans, MOST_DOUBLING_PER_SUCCESS), SLOWEST_DOUBLING)
            else:
                self._rate = 1 / max(wait, 0.001)
                self._doubling = 1
            self._start_epoch(now)
            return begins

    def gap(self) -> float:
        """Seconds between two requests at the learned rate, 0 when none is known."""
        with self._lock:
            known = bool(self._refusals) and self._successes > self._refusals[0].successes
            return 1 / self._current_rate() if known else 0.0

    def _start_epoch(self, now: float) -> None:
        self._booked_rate = self._current_rate()
        self._next_slot = now + 1 / self._booked_rate
        self.epoch += 1

    def _current_rate(self) -> float:
        since = self._successes - self._refusals[-1].successes
        return self._rate * (1 + (since / self._doubling) ** 2)
