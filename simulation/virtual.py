"""A simulation of rate limits in virtual time: ``python -m simulation.virtual`` prints a table.

It runs the real `sparse_embed.transport.flow.embed`; only the clock, the provider and the waiting are simulated.
"""

import heapq
import itertools
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from simulation.limits import FixedWindow, Limit, TokenBucket
from sparse_embed.providers import make_provider
from sparse_embed.providers.base import Reply
from sparse_embed.transport.batching import Batch
from sparse_embed.transport.call import Call, Chunk, Meter
from sparse_embed.transport.flow import Permit, Send, Sleep, embed
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import retry_policy

GOOD = Reply(200, {}, b'{"embeddings":[{"indices":[1],"values":[2.0]}],"num_tokens":1}')


def one(rng: random.Random) -> float:
    """One request, whatever its size."""
    return 1.0


def tokens(rng: random.Random) -> float:
    """Tokens of a batch of 96 texts: 25 to 125 per text, drawn anew for each batch."""
    return 96 * rng.uniform(25, 125)


@dataclass
class Outcome:
    """The result of a run.

    Attributes:
        seconds: Virtual time that the run took.
        ideal: The shortest time that the limit, the latency and the concurrency allow.
        sent: Requests that were sent.
        refused: Requests that were answered with 429.
        served: Requests or tokens that succeeded.
        allowed: Requests or tokens that the limit allowed in this time.
    """

    seconds: float
    ideal: float
    sent: int
    refused: int
    served: float
    allowed: float

    @property
    def goodput(self) -> float:
        return self.served / self.allowed

    @property
    def waste(self) -> float:
        return self.refused / self.sent


def simulate(
    limit: Limit,
    retry_after: Callable[[float], str | None],
    *,
    requests: int = 2000,
    concurrency: int = 16,
    latency: float = 0.05,
    jitter: float = 0.0,
    clients: int = 1,
    amount: Callable[[random.Random], float] = one,
    seed: int = 0,
    pace: Pace | None = None,
    start: float = 0.0,
) -> Outcome:
    """Send `requests` batches and count the answers.

    Args:
        limit: What the provider allows.
        retry_after: Gives the Retry-After header of a refusal, from the true seconds to wait; None for no header.
        requests: Number of batches, divided among the clients.
        concurrency: Maximum number of requests in flight, of each client.
        latency: Seconds from a request to its answer; the limit is applied halfway.
        jitter: The latency varies by up to this part of it, up and down.
        clients: Number of clients, each with a pace of its own.
        amount: Draws what a batch takes from the limit.
        seed: Seed of the jitter and the amounts.
        pace: What an earlier call of the only client has learned.
        start: When the clock starts.
    """
    clock = start
    rng = random.Random(seed)
    provider = make_provider("chroma", "sparse", None, False, {})
    meter = Meter()
    order = itertools.count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    sent = refused = 0
    served = 0.0

    def later(seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(events, (clock + seconds, next(order), action))

    def run(numbers: range, pace: Pace) -> None:
        call: Call[Any] = Call(
            provider=provider,
            decode=provider.decode_sparse,
            role="document",
            retry=retry_policy("document", None, None),
            timeout=60.0,
            pace=pace,
            meter=meter,
            clock=lambda: clock,
            random=rng.random,
        )
        batches = (Batch([f"text {number}"], [number]) for number in numbers)
        todo = (embed(Chunk(call, batch.texts), batch) for batch in batches)
        amounts: dict[Any, float] = defaultdict(lambda: amount(rng))
        waiting: deque[Any] = deque()
        placed: set[Any] = set()
        free = concurrency

        def release() -> None:
            nonlocal free
            if waiting:
                flow = waiting.popleft()
                placed.add(flow)
                step(flow, None)
            else:
                free += 1

        def arrive(flow: Any, back: float) -> None:
            nonlocal refused, served
            wait = limit.take(clock, amounts[flow])
            reply = GOOD
            if not wait:
                served += amounts[flow]
            else:
                refused += 1
                header = retry_after(wait)
                reply = Reply(429, {} if header is None else {"retry-after": header}, b"")
            later(back, partial(step, flow, reply))

        def step(flow: Any, result: Any) -> None:
            nonlocal free, sent
            while True:
                try:
                    effect = flow.send(result)
                except StopIteration:
                    effect = None
                if flow in placed and not isinstance(effect, Send):
                    placed.remove(flow)
                    release()
                result = None
                match effect:
                    case None:
                        flow = next(todo, None)
                        if flow is None:
                            return
                    case Permit():
                        if not free:
                            waiting.append(flow)
                            return
                        free -= 1
                        placed.add(flow)
                    case Sleep(seconds):
                        later(seconds, partial(step, flow, None))
                        return
                    case Send():
                        sent += 1
                        half = latency / 2 * (1 + jitter * rng.uniform(-1, 1))
                        later(half, partial(arrive, flow, half))
                        return

        for flow in itertools.islice(todo, concurrency):
            step(flow, None)

    for number in range(clients):
        run(range(number, requests, clients), pace or Pace())
    while events:
        clock, _, action = heapq.heappop(events)
        action()
    if meter.usage.texts != requests:
        raise RuntimeError("vectors are missing")
    seconds = clock - start
    ideal = latency + max(limit.earliest(served), (requests / (clients * concurrency) - 1) * latency)
    return Outcome(seconds, ideal, sent, refused, served, limit.allowed(seconds))


class Case(NamedTuple):
    """A limit, and what a batch takes from it."""

    limit: Callable[[], Limit]
    amount: Callable[[random.Random], float] = one


BUCKETS = {
    "20 per second": Case(lambda: TokenBucket(20.0, 20.0)),
    "100 per minute": Case(lambda: TokenBucket(100 / 60, 100.0)),
    # Pinecone's quotas for pinecone-sparse-english-v0, starter and paid (model page, 2026-11).
    "250,000 tokens per minute": Case(lambda: TokenBucket(250_000 / 60, 250_000.0), tokens),
    "3,000,000 tokens per minute": Case(lambda: TokenBucket(3_000_000 / 60, 3_000_000.0), tokens),
}
WINDOWS = {
    "20 in each second": Case(lambda: FixedWindow(20.0, 1.0)),
    "250,000 tokens in each minute": Case(lambda: FixedWindow(250_000.0, 60.0), tokens),
}
HEADERS: dict[str, Callable[[float], str | None]] = {
    "honest": lambda wait: f"{wait:.3f}",
    "honest, rounded up": lambda wait: str(-int(-wait // 1)),
    "absent": lambda wait: None,
    "always 0": lambda wait: "0",
    "ten times too long": lambda wait: f"{10 * wait:.3f}",
}


def runs(seeds: int = 7) -> Iterator[tuple[str, str, list[Outcome]]]:
    """Simulate every limit with every header and several seeds: the limit, the header, the outcomes."""
    for limits, headers in ((BUCKETS, HEADERS), (WINDOWS, ("honest", "absent"))):
        for name, case in limits.items():
            for header in headers:
                outcomes = [
                    simulate(case.limit(), HEADERS[header], amount=case.amount, seed=seed) for seed in range(seeds)
                ]
                yield name, header, outcomes


if __name__ == "__main__":
    for name, header, outcomes in runs():
        goodput = sorted(run.goodput for run in outcomes)
        waste = sorted(run.waste for run in outcomes)
        print(
            f"{name:30} {header:22} goodput/allowed {goodput[3]:.3f} (worst {goodput[0]:.3f})  "
            f"wasted/sent {waste[3]:.3f} (worst {waste[-1]:.3f})"
        )
