"""A provider with a rate limit, and the real policy in front of it, in virtual time.

What runs is `sparse_embed.transport.flow.embed` itself; only the clock, the wire and the waiting are simulated.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.bucket import TokenBucket
from sparse_embed.providers import make_provider
from sparse_embed.providers.base import Reply
from sparse_embed.transport.batching import Batch
from sparse_embed.transport.flow import Call, Meter, Permit, Send, Sleep, embed
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import patience

GOOD = Reply(200, {}, b'{"embeddings":[{"indices":[1],"values":[2.0]}],"num_tokens":1}')


@dataclass
class Outcome:
    """What a run came to."""

    seconds: float
    sent: int
    refused: int
    served: int
    allowed: float

    @property
    def goodput(self) -> float:
        return self.served / self.allowed

    @property
    def waste(self) -> float:
        return self.refused / self.sent


def simulate(
    bucket: TokenBucket,
    retry_after: Callable[[float], str | None],
    *,
    requests: int = 2000,
    concurrency: int = 16,
    latency: float = 0.05,
    seed: int = 0,
) -> Outcome:
    """Send `requests` batches of one call and count.

    Args:
        bucket: The limit.
        retry_after: The header for a refusal, from the true seconds to wait.
        requests: Batches of the call.
        concurrency: Requests in flight.
        latency: Seconds from a request to its answer; the limit decides half way.
        seed: Of the jitter.
    """
    clock = 0.0
    rng = random.Random(seed)
    provider = make_provider("chroma", "sparse", None, False, {})
    call: Call[Any] = Call(
        provider=provider,
        decode=provider.decode_sparse,
        role="document",
        patience=patience("document", None, None),
        timeout=60.0,
        pace=Pace(),
        meter=Meter(),
        clock=lambda: clock,
        random=rng.random,
    )
    todo = (embed(call, Batch([f"text {number}"], [number])) for number in range(requests))
    order = itertools.count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    waiting: deque[Any] = deque()
    free = concurrency
    sent = refused = 0

    def later(seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(events, (clock + seconds, next(order), action))

    def release() -> None:
        nonlocal free
        if waiting:
            step(waiting.popleft(), None)
        else:
            free += 1

    def arrive(flow: Any) -> None:
        nonlocal refused
        wait = bucket.take(clock)
        reply = GOOD
        if wait:
            refused += 1
            header = retry_after(wait)
            reply = Reply(429, {} if header is None else {"retry-after": header}, b"")
        later(latency / 2, lambda: answered(flow, reply))

    def answered(flow: Any, reply: Reply) -> None:
        step(flow, reply)
        release()

    def step(flow: Any, result: Any) -> None:
        nonlocal free, sent
        while True:
            try:
                effect = flow.send(result)
            except StopIteration:
                flow = next(todo, None)
                if flow is None:
                    return
                result = None
                continue
            match effect:
                case Permit():
                    if not free:
                        waiting.append(flow)
                        return
                    free -= 1
                    result = None
                case Sleep(seconds):
                    later(seconds, lambda flow=flow: step(flow, None))
                    return
                case Send():
                    sent += 1
                    later(latency / 2, lambda flow=flow: arrive(flow))
                    return

    for flow in itertools.islice(todo, concurrency):
        step(flow, None)
    while events:
        clock, _, action = heapq.heappop(events)
        action()
    served = call.meter.usage.texts
    return Outcome(clock, sent, refused, served, bucket.capacity + bucket.rate * clock)


BUCKETS = {"20 a second": (20.0, 20.0), "100 a minute": (100 / 60, 100.0)}
HEADERS: dict[str, Callable[[float], str | None]] = {
    "honest": lambda wait: f"{wait:.3f}",
    "honest, whole seconds": lambda wait: str(-int(-wait // 1)),
    "absent": lambda wait: None,
    "always 0": lambda wait: "0",
    "ten times too long": lambda wait: f"{10 * wait:.3f}",
}

if __name__ == "__main__":
    for name, (rate, capacity) in BUCKETS.items():
        for header, retry_after in HEADERS.items():
            runs = [simulate(TokenBucket(rate, capacity), retry_after, seed=seed) for seed in range(7)]
            goodput = sorted(run.goodput for run in runs)
            waste = sorted(run.waste for run in runs)
            print(
                f"{name:14} {header:22} goodput/allowed {goodput[3]:.3f} (worst {goodput[0]:.3f})  "
                f"wasted/sent {waste[3]:.3f} (worst {waste[-1]:.3f})"
            )
