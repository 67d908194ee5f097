"""A provider's rate limit."""

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
