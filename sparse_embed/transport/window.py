"""When a limit that names no pause opens again. Pure: times are arguments.

A pause that lasts longer than the successes before it shows a fixed window, which opens again all at once. The time
between its openings is remembered: the next attempt is made midway between what was too short and what was enough, and
if it fails, another at the latter.
"""


class Window:
    """The time between two openings, as far as attempts have shown it. A time is when a request was sent."""

    def __init__(self, opened: float) -> None:
        self._opened = opened  # the first success after the last pause
        self._too_short = self._enough = 0.0  # seconds from opening to opening; 0 if this is no window
        self._tried, self._named = opened, False  # the last request that was refused

    def refused(self, sent: float, *, named: bool) -> None:
        """Remember a refusal, and whether it named a pause."""
        self._tried, self._named = sent, named

    def reopened(self, opened: float, closed: float) -> None:
        """Learn from the first success after a pause, and the refusal that began it."""
        pause, open_before = opened - closed, closed - self._opened
        if self._named or pause <= open_before:
            self._too_short = self._enough = 0.0
        else:
            self._enough = opened - self._opened
            if self._too_short >= self._enough:  # the windows have become shorter
                self._too_short = 0.0
            self._too_short = max(self._too_short, self._tried - self._opened)
        self._opened = opened

    def next_attempt(self, *, after_failure: bool) -> float:
        """When to try again; in the past if this is no window."""
        wait = self._enough if after_failure else (self._too_short + self._enough) / 2
        return self._opened + wait
