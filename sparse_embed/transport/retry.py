"""When to send again, and after how long. Pure: time and randomness are arguments."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from sparse_embed.settings import Role

RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
FIRST_BACKOFF: Final = 0.5  # seconds
LONGEST_BACKOFF: Final = 30.0
LONGEST_RETRY_AFTER: Final = 120.0  # a longer pause is not waited for within a call
UPWARD_JITTER: Final = 0.1  # so that clients refused at the same time do not retry at the same time


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long one call keeps trying.

    Attributes:
        max_retries: Sends after the first.
        deadline: Seconds since the call last received a vector (or since its first send).
        counts_rate_limits: Whether a 429 uses up a retry. For documents it does not: a quota window lasts a minute,
            longer than any reasonable count of retries.
    """

    max_retries: int
    deadline: float
    counts_rate_limits: bool


def retry_policy(role: Role, max_retries: int | None, deadline: float | None) -> RetryPolicy:
    """The defaults: ingestion can wait, a person who asked a question cannot."""
    retries, seconds = (6, 180.0) if role == "document" else (2, 30.0)
    return RetryPolicy(
        retries if max_retries is None else max_retries,
        seconds if deadline is None else deadline,
        counts_rate_limits=role == "query",
    )


def lengthen(wait: float, random: float) -> float:
    """What a provider named, longer by `random` in [0, 1) of the upward jitter."""
    return wait * (1 + UPWARD_JITTER * random)


def backoff(failures: int, random: float) -> float:
    """Full jitter: `random` in [0, 1) of 0.5 s, 1 s, 2 s … up to 30 s, after 1, 2, 3 … failures."""
    return random * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 16))


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait from ``retry-after-ms`` or ``retry-after`` (seconds or HTTP date); None when absent or odd."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        raw = headers.get(name)
        if raw is None:
            continue
        try:
            seconds = float(raw) / unit
        except ValueError:
            try:
                date = parsedate_to_datetime(raw)
            except (ValueError, OverflowError):  # a year of many digits overflows
                continue
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
