"""Runs flows with threads; ``arun`` does the same with asyncio.

`drive` does what one flow yields; `run_all` runs several at the same time, returns their results in order, and stops
them all at the first error. Leaves retries to ``flow``.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Protocol, TypeVar, runtime_checkable

from sparse_embed.cache import Cache
from sparse_embed.transport.client import HttpLayer
from sparse_embed.transport.flow import Flow, Permit, Recall, Remember, Send, Sleep, gives_back_permit
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


class Resources(NamedTuple):
    """What drivers do I/O with."""

    http: HttpLayer
    limiter: RateLimiter | None
    cache: Cache[Any] | None


class _Waiting:
    """Whether pauses take time: `sparse_embed.testing.no_wait` turns it off."""

    scale = 1.0


WAITING: Final = _Waiting()


class CallScope(threading.Event):
    """What the threads of one call share: their permits, and the signal that the call has ended.

    When it is set, sleeping threads wake and no request starts any more. Requests in flight go on in their threads,
    and their permits are released at once, since no caller waits for them.
    """

    def __init__(self, permits: ThreadPermits) -> None:
        super().__init__()
        self._permits = permits
        self._holders: set[object] = set()

    def acquire(self, holder: object) -> None:
        """Wait in line for a permit, unless the holder has one."""
        if holder not in self._holders:
            self._permits.acquire()
            self._holders.add(holder)

    def release(self, holder: object) -> None:
        """Release the holder's permit, if it has one; another thread may have released it already."""
        try:
            self._holders.remove(holder)
        except KeyError:
            return
        self._permits.release()

    def set(self) -> None:
        """End the call."""
        super().set()
        for holder in list(self._holders):
            self.release(holder)


class Cancelled(Exception):  # noqa: N818  # a signal inside the package, seen by no caller
    """The call has ended; the result of this thread is not needed any more."""


def drive(flow: Flow[T], resources: Resources, scope: CallScope | None = None) -> T:
    """Do what the flow yields, in this thread; `scope` is that of a call with several flows."""
    http, limiter, cache = resources
    scope = scope or CallScope(http.permits)
    outcome: Any = None
    try:
        while True:
            effect = flow.send(outcome)
            outcome = None
            if isinstance(effect, Send):
                outcome = http.send(effect)
                continue
            if gives_back_permit(effect):
                scope.release(flow)
            if isinstance(effect, Sleep):
                if scope.wait(effect.seconds * WAITING.scale):
                    raise Cancelled
            elif isinstance(effect, Permit):
                if limiter is not None and not effect.again:
                    limiter.acquire()
                scope.acquire(flow)
                if scope.is_set():
                    raise Cancelled
                http.open()  # before a quota counts the request as started: it takes longer than most answers
            elif isinstance(effect, Recall) and cache is not None:
                outcome = cache.get(*effect)
            elif isinstance(effect, Remember) and cache is not None:
                with suppress(Warning):  # where warnings are errors: the vectors must reach the caller
                    cache.put(*effect)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()
        scope.release(flow)


def in_order(
    item: tuple[Flow[T], T] | BaseException,
    under_way: deque[Flow[T]],
    finished: dict[Flow[T], T],
    on_done: Callable[[T], None],
) -> Iterator[T]:
    """Take one worker's result, and yield those results whose turn it is.

    Args:
        item: A flow and its result, or an error, which is raised.
        under_way: Flows that were started and whose results were not yielded yet, in order.
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
    resources: Resources,
    *,
    width: int,
    ahead: int,
    on_done: Callable[[T], None],
) -> Generator[T]:
    """Drive flows in up to `width` threads and yield their results in the order of `flows`.

    Flows are created in the consumer's thread, and only while fewer than `ahead` results wait to be taken, so a slow
    consumer slows the producer down. The first error ends the call at once: sleeping siblings wake and stop, no further
    request starts, and reads in flight go on in daemon threads, so that neither the caller nor the interpreter's exit
    waits for them.

    Args:
        flows: Created lazily.
        resources: What the flows' I/O is done with.
        width: Number of threads at most.
        ahead: How many flows may be under way or finished beyond the last result taken.
        on_done: Called in the consumer's thread with each result as it arrives, in any order.
    """
    todo: SimpleQueue[Flow[T] | None] = SimpleQueue()
    done: SimpleQueue[tuple[Flow[T], T] | BaseException] = SimpleQueue()
    scope = CallScope(resources.http.permits)

    def work() -> None:
        while (flow := todo.get()) is not None and not scope.is_set():
            try:
                done.put((flow, drive(flow, resources, scope)))
            except Cancelled:
                return
            except BaseException as error:  # noqa: BLE001  # raised again in the consumer's thread
                scope.set()
                done.put(error)
                return

    under_way: deque[Flow[T]] = deque()  # or finished, and not yielded yet
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
        scope.set()
        for _ in range(threads):
            todo.put(None)
