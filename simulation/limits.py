"""Rate limits of a provider, in requests or in tokens."""

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


@dataclass
class FixedWindow:
    """Allows `capacity` in each period of `period` seconds; what is left unused at its end is lost."""

    capacity: float
    period: float
    window: int = -1
    used: float = 0.0

    def take(self, now: float, amount: float = 1.0) -> float:
        """Take `amount`: 0.0 if it is allowed, else the seconds until it would be."""
        window = int(now // self.period)
        if window != self.window:
            self.window, self.used = window, 0.0
        if self.used + amount <= self.capacity:
            self.used += amount
            return 0.0
        return (window + 1) * self.period - now

    def allowed(self, seconds: float) -> float:
        """The most that can be taken in the first `seconds` after the first request."""
        return self.capacity * (int(seconds // self.period) + 1)


Limit = TokenBucket | FixedWindow
