"""How many requests an encoder has in flight: permits, in first-come, first-served order.

The connection pool must not be the limit: httpcore 1.0.9 loses its slots for good when many calls are cancelled at
once, lets some waiters starve, and sends what waits in it although the provider asked for a pause.
"""

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class ThreadPermits:
    """For threads."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Wait in line."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()  # released when a permit is handed over
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # Ctrl-C while waiting: leave the line, or hand on the permit that has just arrived
            with self._lock:
                handed_over = turn not in self._waiting
                if not handed_over:
                    self._waiting.remove(turn)
            if handed_over:
                self.release()
            raise

    def release(self) -> None:
        """Hand the permit to the first waiter, or return it."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class TaskPermits:
    """For the tasks of one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait in line."""
        if self._free:
            self._free -= 1
            return
        import asyncio  # loaded with the first async call

        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the permit arrived at the same moment: hand it on
                self.release()
            raise

    def release(self) -> None:
        """Hand the permit to the first waiter, or return it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.cancelled():  # cancelled waiters are skipped
                turn.set_result(None)
                return
        self._free += 1
