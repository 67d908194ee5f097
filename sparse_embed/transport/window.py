"""When a limit that names no pause opens again. Pure: times are arguments.

A pause that lasts longer than the successes before it shows a fixed window, which opens again all at once. The time
between its openings is remembered: the next attempt is made midway between what was too short and what was enough, and
if it fails, another at the latter. At a rate that is nearly right, refusals come late in a window, and not in each one.
Then the first attempt is made as if the limit were a bucket, and only if it fails is the next opening waited for.
"""


class Window:
    """The time between two openings, as far as attempts have shown it. A time is when a request was sent."""

    def __init__(self, opened: float) -> None:
        self._opened = opened  # the first success after the last pause
        self._too_short = self._enough = 0.0  # seconds from opening to opening; 0 if this is no window
        self._likely = False  # whether the last pause was longer than a bucket's
        self._first = self._last = opened  # refusals since a success: when, ...
        self._refusals, self._named = 0, False  # ... how many, and whether the last one named a pause

    def refused(self, sent: float, *, named: bool) -> None:
        """Remember a refusal, and whether it named a pause."""
        if not self._refusals:
            self._first = sent
        self._last, self._named = sent, named
        self._refusals += 1

    def reopened(self, opened: float, closed: float) -> None:
        """Learn from the first success after a pause, and the refusal that began it."""
        outlasted = opened - closed > closed - self._opened
        self._likely = outlasted or self._refusals > 1
        if self._named:
            self._too_short = self._enough = 0.0
        elif outlasted and opened > self._opened:  # answers arrive in any order
            self._enough = opened - self._opened
            if self._too_short >= self._enough:  # the windows have become shorter
                self._too_short = 0.0
            self._too_short = max(self._too_short, self._last - self._opened)
        self._opened, self._refusals = opened, 0

    def next_attempt(self) -> float:
        """When to try again; in the past if this is no window."""
        failed = self._refusals > 1
        if not self._enough or not (failed or self._likely):
            return self._opened
        wait = self._enough if failed else (self._too_short + self._enough) / 2
        passed = (self._first - self._opened) // self._enough  # windows without a refusal
        return self._opened + passed * self._enough + wait
