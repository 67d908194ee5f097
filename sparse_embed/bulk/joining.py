"""Parts become a target while later ones are being made.

In a thread, since most of this work needs no lock of Python's.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from sparse_embed.bulk.formats import ROW_GROUP, Append, Format


class Joiner:
    """Appends parts in the order of their rows, whatever the order in which they come.

    Args:
        path: The file to write; it is not there before the first rows are appended.
        format: Its format.
        path_of: Where a part is.
    """

    def __init__(self, path: Path, format: Format, path_of: Callable[[range], Path]) -> None:  # noqa: A002  # its word
        self.path, self._format, self._path_of = path, format, path_of
        self._waiting: dict[int, range] = {}
        self._group: list[range] = []
        self._next_row = 0
        self._open = ExitStack()
        self._append: Append | None = None
        self._thread = ThreadPoolExecutor(1, "sparse-embed-join")
        self._appending: deque[Future[None]] = deque()

    def add(self, part: range) -> None:
        """Take a part, and append all rows that follow on those before."""
        self._waiting[part.start] = part
        while (following := self._waiting.pop(self._next_row, None)) is not None:
            self._group.append(following)
            self._next_row = following.stop
        if sum(map(len, self._group)) >= ROW_GROUP:
            self._start_appending()

    def finish(self, rows: int) -> bool:
        """Append what is left and close the file; returns whether the parts fit together and have so many rows."""
        self._start_appending()
        for appending in self._appending:
            appending.result()
        self._open.close()
        return self._next_row == rows and not self._waiting

    def close(self) -> None:
        """End the thread; a file that is not complete is closed as it is."""
        self._thread.shutdown(cancel_futures=True)
        with suppress(OSError):
            self._open.close()

    def _start_appending(self) -> None:
        while self._appending and self._appending[0].done():
            self._appending.popleft().result()  # an error is seen soon
        parts, self._group = [self._path_of(part) for part in self._group], []
        self._appending.append(self._thread.submit(self._append_rows, parts))

    def _append_rows(self, parts: list[Path]) -> None:
        if self._append is None:
            file = self._open.enter_context(self.path.open("wb"))
            self._open.callback(lambda: os.fsync(file.fileno()))
            self._open.callback(file.flush)
            self._append = self._open.enter_context(self._format.begin(file))
        if parts:
            self._append(parts)
