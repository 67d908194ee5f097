"""Runs flows with asyncio; ``run`` does the same with threads.

Loaded with the first async call: asyncio takes as long to import as all the rest of this package.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from sparse_embed.cache import Cache
from sparse_embed.transport.flow import Flow, Permit, Recall, Remember, Send, Sleep, gives_back_permit
from sparse_embed.transport.run import WAITING, Resources, in_order

T = TypeVar("T")


async def adrive(flow: Flow[T], resources: Resources) -> T:
    """Do what the flow yields, in this task; cancelling the task stops it."""
    http, limiter, cache = resources
    permits = http.loop_side().permits
    holding = False
    outcome: Any = None
    try:
        while True:
            effect = flow.send(outcome)
            outcome = None
            if isinstance(effect, Send):
                outcome = await http.asend(effect)
                continue
            if holding and gives_back_permit(effect):
                permits.release()
                holding = False
            if isinstance(effect, Sleep):
                await asyncio.sleep(effect.seconds * WAITING.scale)
            elif isinstance(effect, Permit):
                if limiter is not None and not effect.again:
                    await limiter.aacquire()
                if not holding:
                    await permits.acquire()
                    holding = True
            elif isinstance(effect, Recall) and cache is not None:
                outcome = await _use(cache, cache.get, *effect)
            elif isinstance(effect, Remember) and cache is not None:
                with suppress(Warning):  # where warnings are errors: the vectors must reach the caller
                    await _use(cache, cache.put, *effect)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()
        if holding:
            permits.release()


async def _use(cache: Cache[Any], method: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401  # the method's
    """Call a method of the cache, in a thread if it may block; it ends even when this task is cancelled."""
    if not cache.blocks:
        return method(*arguments)
    run = copy_context().run
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, run, method, *arguments))


async def arun_all(
    flows: AsyncIterator[Flow[T]],
    resources: Resources,
    *,
    width: int,
    ahead: int,
    on_done: Callable[[T], None],
) -> AsyncGenerator[T]:
    """Like `run_all`, with tasks.

    They are plain tasks, cancelled in ``finally``: a generator must not yield inside a TaskGroup, where a consumer's
    ``break`` would surface as an exception group.
    """
    todo: asyncio.Queue[Flow[T]] = asyncio.Queue()
    done: asyncio.Queue[tuple[Flow[T], T] | BaseException] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        while True:
            flow = await todo.get()
            try:
                done.put_nowait((flow, await adrive(flow, resources)))
            except Exception as error:  # noqa: BLE001  # raised again in the consumer's task
                done.put_nowait(error)
                for sibling in tasks:  # here, not in the consumer, which a ready sibling could precede
                    sibling.cancel()
                return

    under_way: deque[Flow[T]] = deque()
    finished: dict[Flow[T], T] = {}
    ending: Exception | None = None
    try:
        while ahead or under_way:
            if len(under_way) < ahead and done.empty():
                try:
                    flow = await anext(flows, None)
                except Exception as error:  # noqa: BLE001  # raised below, after all that came before it
                    flow, ending = None, error
                if flow is None:
                    ahead = 0
                    continue
                under_way.append(flow)
                todo.put_nowait(flow)
                if len(tasks) < width:
                    tasks.append(asyncio.create_task(work(), name="sparse-embed"))
            else:
                for result in in_order(await done.get(), under_way, finished, on_done):
                    yield result
        if ending is not None:
            raise ending
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks.clear()  # a cancelled task holds its frames, and they hold this list: a cycle, with the encoder in it
