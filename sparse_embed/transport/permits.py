"""How many requests an encoder has in flight: permits handed over first come, first served.

The connection pool must not be this bound: httpcore 1.0.9 loses its places for good when many calls are cancelled at
once, lets its waiters starve one another, and sends what waits there although the provider asked for a pause.
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
            turn.acquire()  # opened by whoever hands a permit over
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # Ctrl-C while waiting: leave the line, or pass on what was just handed over
            with self._lock:
                handed_over = turn not in self._waiting
                if not handed_over:
                    self._waiting.remove(turn)
            if handed_over:
                self.release()
            raise

    def release(self) -> None:
        """Hand the permit to the first in line, or keep it free."""
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
            if not turn.cancelled():  # handed over in the same moment: pass it on
                self.release()
            raise

    def release(self) -> None:
        """Hand the permit to the first in line, or keep it free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.cancelled():  # who gave up stays in line and is passed over
                turn.set_result(None)
                return
        self._free += 1
