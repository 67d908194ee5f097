"""Rate limits of a provider, in requests or in tokens."""

import math
from dataclasses import dataclass, field


@dataclass
class TokenBucket:
    """Refills at `rate` per second and holds at most `capacity`."""

    rate: float
    capacity: float
    level: float = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.level = self.capacity

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take `amount`: 0.0 if it is allowed, else the seconds until it would be."""
        since = 0.0 if self.at is None else now - self.at
        self.level = min(self.capacity, self.level + since * self.rate)
        self.at = now
        if self.level >= amount:
            self.level -= amount
            return 0.0
        return (amount - self.level) / self.rate

    def allowed(self, seconds: float) -> float:
        """The most that can be taken in the first `seconds` after the first request."""
        return self.capacity + self.rate * seconds

    def earliest(self, amount: float) -> float:
        """Seconds from the first request until `amount` can have been taken."""
        return max(0.0, (amount - self.capacity) / self.rate)


@dataclass
class ChangingBucket(TokenBucket):
    """From second `changes_at` on, its rate is `factor` times as high."""

    changes_at: float = 0.0
    factor: float = 1.0
    changed: bool = False

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take `amount`: 0.0 if it is allowed, else the seconds until it would be."""
        if now >= self.changes_at and not self.changed:
            self.changed = True
            super().take(self.changes_at, 0.0)
            self.rate *= self.factor
        return super().take(now, amount)

    def earliest(self, amount: float) -> float:
        """Seconds from the first request until `amount` can have been taken."""
        before = self.rate / self.factor if self.changed else self.rate
        rest = amount - self.capacity - before * self.changes_at
        return max(0.0, self.changes_at + rest / (before * (self.factor if rest > 0 else 1.0)))


@dataclass
class FixedWindow:
    """Allows `capacity` in each period of `period` seconds; what is left unused at its end is lost."""

    capacity: float
    period: float
    elapsed: float = 0.0  # of the first period, when the clock starts
    window: int = -1
    used: float = 0.0

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take `amount`: 0.0 if it is allowed, else the seconds until it would be."""
        window = int((now + self.elapsed) // self.period)
        if window != self.window:
            self.window, self.used = window, 0.0
        if self.used + amount <= self.capacity:
            self.used += amount
            return 0.0
        return (window + 1) * self.period - self.elapsed - now

    def allowed(self, seconds: float) -> float:
        """The most that can be taken in the first `seconds` after the first request."""
        return self.capacity * (int((seconds + self.elapsed) // self.period) + 1)

    def earliest(self, amount: float) -> float:
        """Seconds from the first request until `amount` can have been taken."""
        windows = math.ceil(amount / self.capacity) - 1
        return windows * self.period - self.elapsed if windows else 0.0


Limit = TokenBucket | FixedWindow
