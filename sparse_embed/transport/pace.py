"""How fast an encoder may send once its provider has refused: one pace for all its requests. Pure: time is an argument.

A provider that never refuses is never slowed. A refusal (429) pauses every request, at least as long as the provider
asked for, and shows `bucket` the rate and the burst of the limit. What was learned outlives the call.

- A pause that is not named is the time between two requests at the learned rate, longer with every attempt that
  fails. If `window` has recognised a fixed window, it lasts until that opens again.
- Until a rate is known, requests after a pause become faster: quickly up to the burst, then more slowly.
- At a known rate, what flowed in during the pause is sent at once, up to most of the burst. The rest follows at that
  rate, which grows, ever faster while refusals stay away: later, but then more steeply, if it is known well, and if a
  refusal costs many requests. After a refusal that came much too soon, it starts a little later.
- A bucket of one request keeps nothing in reserve: what is not sent in time is lost. If no other request was in flight,
  the next is sent as soon as that bucket is full.
"""

import math
from typing import Final, NamedTuple

from sparse_embed.locks import ForkSafeLock
from sparse_embed.transport.bucket import INSTANT, MOST_REMEMBERED, Bucket, Stretch
from sparse_embed.transport.retry import lengthen
from sparse_embed.transport.window import Window

FIRST_PAUSE: Final = 0.25  # seconds, where the provider names none and no rate is known
LONGEST: Final = 90.0  # seconds of an unnamed pause, since a guess is not to outlast the deadline of a call, ...
LONGEST_AGAIN: Final = 20.0  # ... and after an attempt that failed
LONGER: Final = 0.3  # of all pauses since a success: the shortest next one after a failed attempt
QUICK: Final = 0.25  # seconds, or a shorter latency, in which the unknown rate doubles up to the burst, ...
DOUBLING: Final = 0.5  # ... and the share of the pause in which it doubles from there ...
EXTRA: Final = 4  # ... starting with these and the burst in each pause
AT_ONCE: Final = 0.9  # of the burst, so that a rate a little too high is not refused at once
CALM: Final = 82  # successes between refusals that cost nothing else: 1 to 2 % are wasted on looking for more
GROWTH: Final = 4  # the power of the successes with which the rate grows: at least this, ...
STEEPER: Final = 35  # ... one more for so many that are expected (the more, the surer the limit rose), ...
STEEPEST: Final = 9  # ... and at most this
TOO_SOON: Final = 0.2  # of the successes expected: a refusal before them
RESERVE: Final = 3  # requests that flow in before the next is sent after such a refusal, ...
WELL_KNOWN: Final = 20  # ... if more successes were expected: at a rate known well
TESTED: Final = 1.5  # latencies until the others follow a request that tests if a pause was long enough
IDLE: Final = 10  # times the time that fills the bucket


class Slot(NamedTuple):
    """When a request may start; void once the epoch has changed."""

    start: float
    epoch: int


class Pace:
    """Shared by all requests of an encoder, from any thread. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._bucket, self._window = Bucket([], 0.0), Window(0.0)
        self._stretch = Stretch(-math.inf, -math.inf)  # since the last refusal after a success
        self._heard, self._latency = -math.inf, INSTANT  # when the last refusal arrived, and after what time
        self._paused_until = self._next_slot = -math.inf  # when the pause ends; when the current rate allows a request
        self._restarts_at = -math.inf  # when it allows the first one after a refusal
        self._testing = False  # whether one request tests if the pause was long enough
        self._expected = 0.0  # successes until the next refusal
        self._too_soon = False  # whether the last refusal came much before them
        self._first_burst_ends = -math.inf  # requests sent until then can have overtaken the first that was refused
        self._booked = self.epoch = 0  # requests since the last refusal; refusals

    def book(self, now: float) -> Slot:
        """The next start that is free, at `now` or later."""
        with self._lock:
            start = max(now, self._paused_until)
            if self.epoch:
                self._restart_if_idle(now)
                if self._testing and self._booked:
                    start = max(start, self._paused_until + TESTED * self._latency)
                start = self._take_slot(start)
            return Slot(start, self.epoch)

    def paused_until(self, now: float) -> float:
        """The end of the pause, `now` when there is none."""
        return max(now, self._paused_until)

    def succeeded(self, sent: float) -> None:
        """Count an answer to a request that was sent at this time."""
        with self._lock:
            if self._bucket.rate or sent > self._first_burst_ends:
                self._stretch.succeeded(sent)
            else:
                self._bucket.add(sent)

    def refused(self, now: float, sent: float, wait: float | None, random: float = 0.0) -> bool:
        """Learn, and pause for `wait` seconds, or a guess (longer with `random`, in [0, 1)): whether a pause begins."""
        with self._lock:
            begins = self._paused_until <= now
            wait = wait or 0.0
            named = lengthen(wait, random)
            if sent <= self._heard:  # it was sent before the last refusal arrived, and says nothing new
                ends_early = wait > 0 and self._paused_until < now + wait
                self._paused_until = max(self._paused_until, now + named)
                if ends_early:
                    self._restarts_at = max(self._restarts_at, now + self._bucket.gap)
                    self._restart()
                return begins and self._paused_until > now
            in_vain = self.epoch > 0 and not self._stretch.sends
            if not in_vain:
                if not self.epoch:
                    self._first_burst_ends = (sent + now) / 2
                self._learn(sent, named=bool(wait))
                self._stretch = Stretch(sent, now)
            self._window.refused(sent, named=bool(wait))
            self._heard, self._latency, self._testing = now, max(now - sent, INSTANT), False
            self._paused_until = max(self._paused_until, now + (named or self._choose_pause(in_vain, random)))
            self._stretch.pause += max(self._paused_until - sent, INSTANT)
            self._plan_restart()
            return begins

    def _restart_if_idle(self, now: float) -> None:
        """Begin the stretch again if nobody wanted to send, and the bucket is full."""
        filled = max(self._stretch.pause, self._bucket.burst * self._bucket.gap)
        if now - self._next_slot > IDLE * filled:
            self._stretch.sends.clear()
            self._stretch.emptied = now - filled

    def _take_slot(self, earliest: float) -> float:
        gap = 1 / self._current_rate()
        # Slots that passed unused are kept, as many as the bucket holds, and can be taken at once.
        kept = max(0.0, AT_ONCE * self._bucket.burst - 1) * gap if self._bucket.rate else 0.0
        start = max(earliest, self._next_slot)
        self._next_slot = max(self._next_slot, start - kept) + gap
        self._booked += 1
        return start

    def _current_rate(self) -> float:
        rate, burst = self._bucket.rate, self._bucket.burst
        if rate:  # the growth, summed up to those that are expected, is one request too many
            power = min(GROWTH + self._expected / STEEPER, STEEPEST)
            return rate * (1.0 + (power + 1) / self._expected * math.pow(self._booked / self._expected, power))
        beyond = self._booked + 1 - burst
        if beyond < 0:
            return (self._booked + 1) * math.log(2) / min(QUICK, self._latency)
        return (burst + EXTRA + beyond * math.log(2) / DOUBLING) / self._stretch.pause

    def _learn(self, refused: float, named: bool) -> None:
        """Learn from a refusal after a success, or from the first of all."""
        sends = self._stretch.sends
        if not self.epoch:
            self._bucket = Bucket(sends, refused)
            self._window = Window(min(sends, default=refused))
            return
        self._too_soon = self._bucket.rate > 0 and len(sends) < min(TOO_SOON * self._expected, MOST_REMEMBERED)
        self._bucket.learn(self._stretch, refused, named=named, too_soon=self._too_soon)
        self._window.reopened(min(sends), self._stretch.emptied)

    def _choose_pause(self, in_vain: bool, random: float) -> float:
        """Choose how many seconds to pause, and whether one request is to test that."""
        until_open = self._window.next_attempt() - self._heard
        is_window = until_open > self._bucket.gap
        self._testing = in_vain or is_window
        longest = LONGEST_AGAIN if in_vain else LONGEST
        if is_window:
            return min(until_open, longest)
        until_full = self._bucket.gap - (self._latency if self._was_alone() else 0.0)
        return min(max(until_full or FIRST_PAUSE, LONGER * self._stretch.pause), longest) * (1 + random / 2)

    def _was_alone(self) -> bool:
        """Whether the bucket holds one request, and at its rate no other was in flight when that was refused."""
        return self._bucket.burst < 2 and 2 * self._latency < self._bucket.gap

    def _plan_restart(self) -> None:
        """Plan the first slot, and when to expect the next refusal, from which follows how the rate grows."""
        bucket = self._bucket
        reserve = min(RESERVE, bucket.burst) if self._too_soon and self._expected > WELL_KNOWN else 1
        # Those in flight use what flowed in before.
        self._restarts_at = self._paused_until if self._was_alone() else self._stretch.heard + reserve * bucket.gap
        cost = 1 + max(0.0, bucket.rate * self._stretch.pause - bucket.burst)  # of a refusal, in requests
        self._expected = min(bucket.confidence * cost**0.8, CALM * cost**0.51)
        self._restart()

    def _restart(self) -> None:
        """Void the slots that are taken: requests take others, after the pause."""
        self._next_slot = self._restarts_at
        self._booked, self.epoch = 0, self.epoch + 1
