"""How fast an encoder may send once its provider has refused: one pace for all its requests. Pure: time is an argument.
"""

import math
import os
from collections import deque
from typing import Final, NamedTuple

from sparse_embed.locks import ForkSafeLock

CALM: Final = 100
FIRST_PAUSE: Final = 0.25
COSTPOW = float(os.environ.get("COSTPOW", "0.8"))
SS = float(os.environ.get("SS", "0.25"))
KEEP = float(os.environ.get("KEEP", "0.5"))
SLACK = float(os.environ.get("SLACK", "1.0"))
MOST = float(os.environ.get("MOST", "8"))
SAVE = float(os.environ.get("SAVE", "1"))
END = float(os.environ.get("END", "1"))
START = float(os.environ.get("START", "0.5"))
NEG = float(os.environ.get("NEG", "0"))
MEM = float(os.environ.get("MEM", "100"))
SUS = float(os.environ.get("SUS", "0.15"))
LESS = float(os.environ.get("LESS", "0.8"))
MIX = float(os.environ.get("MIX", "0.5"))
CPOW = float(os.environ.get("CPOW", "0.5"))
LAT = float(os.environ.get("LAT", "0.25"))
POOR = float(os.environ.get("POOR", "0.5"))
ADD = float(os.environ.get("ADD", "0"))


class Slot(NamedTuple):
    """When a request may start; void once the epoch has changed."""

    start: float
    epoch: int


class Pace:
    """Shared by all requests of an encoder, from any thread. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._paused_until = self._refused_at = self._next_slot = -math.inf
        self._since = self._empty = -math.inf
        self._sends: deque[float] = deque(maxlen=1024)
        self._first = (0, 0.0)
        self._booked = self.epoch = 0
        self._burst = self._pause = self._latency = 1.0
        self._rate = self._successes = self._seconds = 0.0
        self._known = 0
        self._calm = 0.0
        self._guessing = False

    def book(self, now: float) -> Slot:
        """The next start that is free, at `now` or later."""
        with self._lock:
            start = max(now, self._paused_until)
            if self.epoch:
                if self._guessing and self._booked:
                    start = max(start, self._paused_until + 1.5 * self._latency)
                gap = 1 / self._current_rate()
                saved = (self._burst - 1) * SAVE * gap if self._rate else 0.0
                start = max(start, self._next_slot)
                self._next_slot = max(self._next_slot, start - saved) + gap
                self._booked += 1
            return Slot(start, self.epoch)

    def paused_until(self, now: float) -> float:
        """The end of the pause, `now` when there is none."""
        return max(now, self._paused_until)

    def succeeded(self, now: float, sent: float) -> None:
        """Count an answer."""
        with self._lock:
            self._sends.append(sent)

    def refused(self, now: float, sent: float, wait: float | None, random: float) -> None:
        """Pause every request, and learn."""
        with self._lock:
            if sent <= self._refused_at:
                self._paused_until = max(self._paused_until, now + (wait or 0.0))
                return
            vain = bool(self.epoch) and not self._sends
            if not vain:
                sends = sorted(self._sends)
                if self.epoch:
                    self._learn(sends, sent)
                else:
                    self._first = (len(sends), sent - sends[0] if sends else 0.0)
                    self._burst = max(1.0, len(sends))
                self._since = sent
                self._empty = now
                self._sends.clear()
            guess = self.gap() or FIRST_PAUSE
            guess = max(guess, (now - self._since) / 4) * (1 + random / 2)
            self._guessing = vain and not wait
            self._refused_at, self._latency = now, now - sent
            self._paused_until = max(self._paused_until, now + (wait or guess))
            self._pause = self._paused_until - self._since
            self._booked = 0
            self._next_slot = self._empty + POOR * self.gap() if self._rate else -math.inf
            cost = 1 + max(0.0, self._rate * self._pause - self._burst)
            self._calm = min(self._known * cost**COSTPOW, CALM * cost**CPOW)
            self.epoch += 1

    def gap(self) -> float:
        """Seconds between two requests at the learned rate, 0 when none is known."""
        return 1 / self._rate if self._rate else 0.0

    def _learn(self, sends: list[float], refused: float) -> None:
        average = len(sends) / (refused - self._since)

        def slowest(start: float, enough) -> float:
            low, high = average / 2, average * MOST
            while high > 1.01 * low:
                rate = math.sqrt(low * high)
                left, last, least = start, self._since, 0.0
                for at in sends:
                    left = min(self._burst, left + rate * (at - last)) - 1
                    last = at
                    if left < least:
                        least = left
                left = min(self._burst, left + rate * (refused - last))
                if enough(least, left):
                    high = rate
                else:
                    low = rate
            return low

        least = slowest(1.0, lambda least, left: least >= -NEG)
        most = slowest(0.0, lambda least, left: left >= END)
        low = least ** (1 - MIX) * most ** MIX
        count = len(sends)
        if self._rate and count < SUS * self._calm:
            low = min(low, LESS * self._rate)
        keep = MEM / (MEM + count)
        self._successes = self._successes * keep + count
        self._seconds = self._seconds * keep + count / low
        self._rate = (self._successes + ADD) / self._seconds
        self._known += count
        self._burst = min(self._burst, max(1.0, self._first[0] - self._rate * self._first[1]))
        if 4 < 2 * count < min(self._burst, self._rate * self._pause):
            self._burst = float(count)

    def _current_rate(self) -> float:
        if self._rate:
            doubled = max(1.0, self._calm * (self._calm / 4) ** (1 / 3))
            return self._rate * (1 + (self._booked / doubled) ** 3)
        beyond = self._booked + 1 - self._burst
        if beyond < 0:
            return (self._booked + 1) * math.log(2) / min(LAT, self._latency)
        return self._burst / self._pause + beyond * math.log(2) / max(min(LAT, self._latency), self._pause * SS)
