"""How a run shows itself: a bar on a terminal, a line now and then elsewhere, and a closing report."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from sparse_embed.bulk.report import Report
from sparse_embed.events import Event, Paused, Retrying

EVERY: Final = 10.0  # seconds between two lines where there is no terminal


class Display:
    """Shows the progress of one run on stderr.

    Attributes:
        report: The counts so far, None before the first.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.report: Report | None = None
        self._console = Console(stderr=True, quiet=quiet)
        self._bar: Progress | None = None
        self._began = self._next_line = 0.0
        self._resumed = 0
        self._said, self._said_until = "", 0.0

    @contextmanager
    def shown(self, source: str) -> Iterator[None]:
        """While the run lasts."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[said]}"),  # goes on in further lines of a narrow terminal
        )
        with _answering_ctrl_c(self._say_that_it_stops):
            if not self._console.is_terminal:
                yield
                return
            with Progress(*columns, console=self._console, transient=True) as self._bar:
                self._bar.add_task(f"Reading {source}", total=None, said="")
                yield

    def on_progress(self, report: Report) -> None:
        """Take the counts so far."""
        now = time.monotonic()
        if self.report is None:
            self._began, self._resumed, self._next_line = now, report.rows, now + EVERY
            if report.rows:
                self._console.print(f"Going on: {report.rows:,} of {report.total:,} rows are done.", highlight=False)
        self.report = report
        rate = (report.rows - self._resumed) / max(now - self._began, 1e-3)
        counts = f"{rate:,.0f} rows/s, {_spent(report)}"
        if now < self._said_until:
            counts += f", {self._said}"
        if self._bar is not None:
            doing = "Embedding" if report.rows < report.total else "Joining"
            self._bar.update(
                self._bar.task_ids[0], description=doing, total=report.total, completed=report.rows, said=counts
            )
        elif now >= self._next_line:
            left = f", {(report.total - report.rows) / rate:,.0f} s left" if rate else ""
            self._print(f"{report.rows:,} of {report.total:,} rows, {counts}{left}")
            self._next_line = now + EVERY

    def on_event(self, event: Event) -> None:
        """Take what happens in between: pauses, and long waits before a retry."""
        if isinstance(event, Paused):
            self._say(f"rate limit (429) of {event.call.provider}: paused for {event.seconds:.0f} s", event.seconds)
        elif isinstance(event, Retrying) and event.status != 429 and event.wait >= 1:
            status = f" {event.status}" if event.status else ""
            self._say(f"{event.reason}{status} of {event.call.provider}: again in {event.wait:.0f} s", event.wait)

    def _say_that_it_stops(self) -> None:
        if self.report is not None:
            self._print("Stopping: what has arrived is being saved. A second Ctrl-C stops at once.")

    def _say(self, what: str, seconds: float) -> None:
        self._said, self._said_until = what, time.monotonic() + seconds
        if self._bar is None:
            self._print(what)
        elif self.report is not None:
            self.on_progress(self.report)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _answering_ctrl_c(answer: Callable[[], None]) -> Iterator[None]:
    """Call `answer` at the first Ctrl-C, before what it interrupts takes its time to end."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # such as ignored, in the background of a shell
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        answer()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def closing_lines(target: str, report: Report) -> list[str]:
    """The closing report."""
    done = f"{_count(report.rows - report.rejected, 'row')}, {_count(report.vectors, 'vector')}"
    lines = [f"{target}: {done}, in {report.seconds:,.1f} s"]
    if report.resumed:
        runs = "this run" if target.startswith("qdrant:") else "all runs"  # a collection keeps no other figures
        lines.append(f"  done by earlier runs: {_count(report.resumed, 'row')}; the figures below are those of {runs}")
    cost = "" if report.cost is None else f", cost {report.cost:,.2f}"
    lines.append(f"  {_spent(report)}{cost}")
    if report.blank:
        blank = _list(report.blank_rows, report.blank)
        lines.append(f"  {_count(report.blank, 'blank text')}, without vectors: rows {blank}")
    if report.rejected:
        rows = [f"{row['row']} ({row['reason']})" for row in report.rejected_rows[:3]]
        lines.append(f"  {_count(report.rejected, 'row')} left out, such as {'; '.join(rows)}")
    return lines


def _spent(report: Report) -> str:
    retries = _count(report.retries, "retry", "retries")
    return f"{_count(report.tokens, 'token')}, {_count(report.requests, 'request')}, {retries}"


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def _list(rows: list[int], count: int) -> str:
    shown = ", ".join(map(str, rows[:10]))
    return shown if count <= 10 else f"{shown} and {count - 10:,} more"
