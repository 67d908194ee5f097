"""Running flows with threads; ``arun`` is the same with asyncio.

Decides nothing about retries: `drive` does what a flow yields, `run_all` keeps several going, gives their results back
in order, and stops them all at the first error.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextvars import copy_context
from queue import SimpleQueue
from typing import Final, Protocol, TypeVar

from sparse_embed.transport.client import HttpLayer
from sparse_embed.transport.flow import Flow, Outcome, Permit, Send, Sleep

T = TypeVar("T")


class RateLimiter(Protocol):
    """The shape of LangChain's ``BaseRateLimiter``."""

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait until a request may be sent."""
        ...

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Wait until a request may be sent."""
        ...


class _Waiting:
    """Whether pauses take time: `sparse_embed.testing.no_wait` turns it off."""

    scale = 1.0


WAITING: Final = _Waiting()


class Cancelled(Exception):  # noqa: N818  # a signal inside the package, seen by no caller
    """The call has ended; this thread's work is not wanted any more."""


def drive(flow: Flow[T], http: HttpLayer, limiter: RateLimiter | None, cancelled: threading.Event) -> T:
    """Do what the flow asks for, in this thread."""
    permits = http.permits
    holding = False
    outcome: Outcome | None = None
    try:
        while True:
            effect = flow.send(outcome)
            outcome = None
            if isinstance(effect, Send):
                outcome = http.send(effect)
                holding = False
                permits.release()
            elif isinstance(effect, Sleep):
                if cancelled.wait(effect.seconds * WAITING.scale):
                    raise Cancelled
            elif isinstance(effect, Permit):
                if limiter is not None:
                    limiter.acquire()
                permits.acquire()
                holding = True
                if cancelled.is_set():
                    raise Cancelled
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()
        if holding:
            permits.release()


def run_all(
    flows: Iterator[Flow[T]],
    http: HttpLayer,
    limiter: RateLimiter | None,
    *,
    width: int,
    ahead: int | None,
    on_done: Callable[[T], None],
) -> Generator[T]:
    """Drive flows in up to `width` threads and yield their results in the order of `flows`.

    The next flow is made in the consumer's thread, and only while fewer than `ahead` results (None: any number) wait to
    be taken: a slow consumer holds the producer back. The first error ends the call at once: sleeping siblings wake and
    stop, none starts a request, and reads in flight are left behind in daemon threads, so that neither the caller nor
    the interpreter's exit waits for them.

    Args:
        flows: Made lazily.
        http: Where flows send.
        limiter: Asked before each attempt.
        width: Number of threads at most.
        ahead: How many flows may be under way or finished beyond the last result taken.
        on_done: Called in the consumer's thread with each result as it arrives, in any order.
    """
    todo: SimpleQueue[tuple[int, Flow[T]] | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, T] | BaseException] = SimpleQueue()
    cancelled = threading.Event()

    def work() -> None:
        while (item := todo.get()) is not None and not cancelled.is_set():
            number, flow = item
            try:
                done.put((number, drive(flow, http, limiter, cancelled)))
            except Cancelled:
                return
            except BaseException as error:  # noqa: BLE001  # raised again in the consumer's thread
                cancelled.set()
                done.put(error)
                return

    finished: dict[int, T] = {}
    threads = taken = started = 0
    exhausted = False
    ending: Exception | None = None
    try:
        while not (exhausted and taken == started):
            while taken in finished:
                yield finished.pop(taken)
                taken += 1
            if not exhausted and (ahead is None or started - taken < ahead) and done.empty():
                try:
                    flow = next(flows, None)
                except Exception as error:  # noqa: BLE001  # raised below, after all that came before it
                    flow, ending = None, error
                if flow is None:
                    exhausted = True
                    continue
                todo.put((started, flow))
                started += 1
                if threads < width:
                    threads += 1
                    threading.Thread(target=copy_context().run, args=(work,), daemon=True, name="sparse-embed").start()
            elif taken < started:
                item = done.get()
                if isinstance(item, BaseException):
                    raise item
                number, result = item
                finished[number] = result
                on_done(result)
        if ending is not None:
            raise ending
    finally:
        cancelled.set()
        for _ in range(threads):
            todo.put(None)
