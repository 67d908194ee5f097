"""A provider's rate limit, of requests or of tokens. Its clock starts at 0."""

from dataclasses import dataclass, field


@dataclass
class TokenBucket:
    """Allows `rate` a second and bursts of `capacity`."""

    rate: float
    capacity: float
    level: float = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.level = self.capacity

    def take(self, now: float, amount: float = 1.0) -> float:
        """0.0 when a request is let through, else seconds until it would be."""
        since = 0.0 if self.at is None else now - self.at
        self.level = min(self.capacity, self.level + since * self.rate)
        self.at = now
        if self.level >= amount:
            self.level -= amount
            return 0.0
        return (amount - self.level) / self.rate

    def allowed(self, seconds: float) -> float:
        """The most that it lets through from the first request on."""
        return self.capacity + self.rate * seconds

    def earliest(self, amount: float) -> float:
        """Seconds from the first request on until this much can have been let through."""
        return max(0.0, (amount - self.capacity) / self.rate)


@dataclass
class ChangingBucket(TokenBucket):
    """From some second on its rate is another."""

    changes_at: float = 0.0
    factor: float = 1.0
    changed: bool = False

    def take(self, now: float, amount: float = 1.0) -> float:
        """0.0 when a request is let through, else seconds until it would be."""
        if now >= self.changes_at and not self.changed:
            self.changed = True
            super().take(self.changes_at, 0.0)
            self.rate *= self.factor
        return super().take(now, amount)

    def earliest(self, amount: float) -> float:
        """Seconds from the first request on until this much can have been let through."""
        before = self.rate / self.factor if self.changed else self.rate
        rest = amount - self.capacity - before * self.changes_at
        return (
            self.changes_at + rest / (before * self.factor) if rest > 0 else max(0.0, self.changes_at + rest / before)
        )


@dataclass
class FixedWindow:
    """Allows `capacity` in each `period` of seconds; what is not used by its end is lost."""

    capacity: float
    period: float
    elapsed: float = 0.0  # of the first window, when the clock starts
    window: int = -1
    used: float = 0.0

    def take(self, now: float, amount: float = 1.0) -> float:
        """0.0 when a request is let through, else seconds until it would be."""
        window = int((now + self.elapsed) // self.period)
        if window != self.window:
            self.window, self.used = window, 0.0
        if self.used + amount <= self.capacity:
            self.used += amount
            return 0.0
        return (window + 1) * self.period - self.elapsed - now

    def allowed(self, seconds: float) -> float:
        """The most that it lets through from the first request on."""
        return self.capacity * (int((seconds + self.elapsed) // self.period) + 1)

    def earliest(self, amount: float) -> float:
        """Seconds from the first request on until this much can have been let through."""
        windows = -int(-amount // self.capacity) - 1
        return windows * self.period - self.elapsed if windows else 0.0


Limit = TokenBucket | FixedWindow
