"""Running flows with threads; ``arun`` is the same with asyncio.

Decides nothing about retries: `drive` does what a flow yields, `run_all` keeps several going, gives their results back
in order, and stops them all at the first error.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextvars import copy_context
from queue import SimpleQueue
from typing import Final, Protocol, TypeVar, runtime_checkable

from sparse_embed.transport.client import HttpLayer
from sparse_embed.transport.flow import Flow, Outcome, Permit, Send, Sleep
from sparse_embed.transport.permits import ThreadPermits

T = TypeVar("T")


@runtime_checkable
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


class CallScope(threading.Event):
    """The end of a call, set early or not: whoever sleeps wakes, and nobody starts a request any more.

    Requests in flight are left behind in their threads; their places are given back, for nobody waits for them.
    """

    def __init__(self, permits: ThreadPermits) -> None:
        super().__init__()
        self._permits = permits
        self._holders: set[object] = set()

    def take_place(self, holder: object) -> None:
        """Wait in line for a permit."""
        self._permits.acquire()
        self._holders.add(holder)

    def give_back(self, holder: object) -> None:
        """Hand the holder's permit on, if it has one: once, whoever says so first."""
        try:
            self._holders.remove(holder)
        except KeyError:
            return
        self._permits.release()

    def set(self) -> None:
        """End the call."""
        super().set()
        for holder in list(self._holders):
            self.give_back(holder)


class Cancelled(Exception):  # noqa: N818  # a signal inside the package, seen by no caller
    """The call has ended; this thread's work is not wanted any more."""


def drive(flow: Flow[T], http: HttpLayer, limiter: RateLimiter | None, cancelled: CallScope) -> T:
    """Do what the flow asks for, in this thread."""
    outcome: Outcome | None = None
    try:
        while True:
            effect = flow.send(outcome)
            outcome = None
            if isinstance(effect, Send):
                outcome = http.send(effect)
                continue
            cancelled.give_back(flow)
            if isinstance(effect, Sleep):
                if cancelled.wait(effect.seconds * WAITING.scale):
                    raise Cancelled
            elif isinstance(effect, Permit):
                if limiter is not None and not effect.again:
                    limiter.acquire()
                cancelled.take_place(flow)
                if cancelled.is_set():
                    raise Cancelled
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()
        cancelled.give_back(flow)


def in_order(
    item: tuple[Flow[T], T] | BaseException,
    under_way: deque[Flow[T]],
    finished: dict[Flow[T], T],
    on_done: Callable[[T], None],
) -> Iterator[T]:
    """Take what a worker brought, and give out the results whose turn it is.

    Args:
        item: A flow and its result, or an error, which is raised.
        under_way: Flows that were started and not given out, in order.
        finished: Results that wait for an earlier one.
        on_done: Called with the result.
    """
    if isinstance(item, BaseException):
        raise item
    flow, result = item
    finished[flow] = result
    on_done(result)
    while under_way and under_way[0] in finished:
        yield finished.pop(under_way.popleft())


def run_all(
    flows: Iterator[Flow[T]],
    http: HttpLayer,
    limiter: RateLimiter | None,
    *,
    width: int,
    ahead: int,
    on_done: Callable[[T], None],
) -> Generator[T]:
    """Drive flows in up to `width` threads and yield their results in the order of `flows`.

    The next flow is made in the consumer's thread, and only while fewer than `ahead` results wait to be taken: a slow
    consumer holds the producer back. The first error ends the call at once: sleeping siblings wake and stop, none
    starts a request, and reads in flight are left behind in daemon threads, so that neither the caller nor the
    interpreter's exit waits for them.

    Args:
        flows: Made lazily.
        http: Where flows send.
        limiter: Asked before each attempt.
        width: Number of threads at most.
        ahead: How many flows may be under way or finished beyond the last result taken.
        on_done: Called in the consumer's thread with each result as it arrives, in any order.
    """
    todo: SimpleQueue[Flow[T] | None] = SimpleQueue()
    done: SimpleQueue[tuple[Flow[T], T] | BaseException] = SimpleQueue()
    cancelled = CallScope(http.permits)

    def work() -> None:
        while (flow := todo.get()) is not None and not cancelled.is_set():
            try:
                done.put((flow, drive(flow, http, limiter, cancelled)))
            except Cancelled:
                return
            except BaseException as error:  # noqa: BLE001  # raised again in the consumer's thread
                cancelled.set()
                done.put(error)
                return

    under_way: deque[Flow[T]] = deque()  # or finished, and not yet given out
    finished: dict[Flow[T], T] = {}
    threads = 0
    ending: Exception | None = None
    try:
        while ahead or under_way:
            if len(under_way) < ahead and done.empty():
                try:
                    flow = next(flows, None)
                except Exception as error:  # noqa: BLE001  # raised below, after all that came before it
                    flow, ending = None, error
                if flow is None:
                    ahead = 0
                    continue
                under_way.append(flow)
                todo.put(flow)
                if threads < width:
                    threads += 1
                    threading.Thread(target=copy_context().run, args=(work,), daemon=True, name="sparse-embed").start()
            else:
                yield from in_order(done.get(), under_way, finished, on_done)
        if ending is not None:
            raise ending
    finally:
        cancelled.set()
        for _ in range(threads):
            todo.put(None)
