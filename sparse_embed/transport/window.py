"""When a fixed window opens again whose provider does not say so. Pure: time is an argument.

A bucket lets requests through soon after a refusal; a fixed window lets none through until it opens again. So a pause
that lasted longer than the successes before it shows a window, and the time between its two openings is remembered. The
next attempt is made midway between what was too short and what was enough; if it fails, another at the latter.
"""


class Window:
    """The time between two openings, as far as attempts have shown it."""

    def __init__(self) -> None:
        self._opened = 0.0  # when the first request after the last pause was sent that succeeded
        self._too_short = 0.0  # seconds after an opening: the latest attempt that failed
        self._enough = 0.0  # seconds after an opening: the attempt that succeeded; 0 if this is no window

    def begin(self, first: float) -> None:
        """Take the first success of all for an opening."""
        self._opened = first

    def opened(self, first: float, *, closed: float, tried: float, named: bool) -> None:
        """Learn from the first success after a pause.

        Args:
            first: When it was sent.
            closed: When the request was sent whose refusal began the pause.
            tried: When the last request was sent that was refused before this success.
            named: Whether the provider named the pause, which then shows nothing.
        """
        pause, open_before = first - closed, closed - self._opened
        if named or pause <= open_before:
            self._too_short = self._enough = 0.0
        else:
            self._enough = first - self._opened
            if self._too_short >= self._enough:  # the window is shorter than it was
                self._too_short = 0.0
            self._too_short = max(self._too_short, tried - self._opened)
        self._opened = first

    def next_attempt(self, *, after_failure: bool) -> float:
        """When to try again; in the past if this is no window."""
        wait = self._enough if after_failure else (self._too_short + self._enough) / 2
        return self._opened + wait
