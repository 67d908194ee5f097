"""Encoders that know their provider's quota, in virtual time. It runs the real `sparse_embed.transport.flow.embed`."""

import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simulation.limits import Limit
from sparse_embed.providers import make_provider
from sparse_embed.providers.base import Reply, Request
from sparse_embed.quota import Quota
from sparse_embed.transport.batching import Batch
from sparse_embed.transport.call import Call, Chunk, Meter
from sparse_embed.transport.flow import Permit, Send, Sleep, embed
from sparse_embed.transport.pace import Pace
from sparse_embed.transport.retry import retry_policy


@dataclass
class Outcome:
    """The result of a run.

    Attributes:
        arrivals: When requests arrived at the provider, and the tokens of each, in order.
        refused: Requests that were answered with 429.
    """

    arrivals: list[tuple[float, int]] = field(default_factory=list)
    refused: int = 0

    def busiest_minute(self, amount: Callable[[int], int]) -> int:
        """The most that arrived within a minute, where a request of so many tokens counts `amount`."""
        most = total = first = 0
        for at, tokens in self.arrivals:
            total += amount(tokens)
            while self.arrivals[first][0] <= at - 60:
                total -= amount(self.arrivals[first][1])
                first += 1
            most = max(most, total)
        return most

    def per_minute(self, amount: Callable[[int], int]) -> float:
        """The average per minute, from the first arrival to the last, which is not counted."""
        served = sum(amount(tokens) for _, tokens in self.arrivals[:-1])
        return 60 * served / (self.arrivals[-1][0] - self.arrivals[0][0])


def simulate(
    quota: Quota,
    batches: Iterator[list[str]],
    tokens: Callable[[str], int],
    *,
    request_limit: Limit | None = None,
    token_limit: Limit | None = None,
    encoders: int = 1,
    concurrency: int = 16,
    latency: Callable[[], float] = lambda: 0.05,
) -> Outcome:
    """Send the batches and count what arrives.

    Args:
        quota: Shared by the encoders.
        batches: The texts of each request; the encoders share them.
        tokens: The tokens of a text, which the provider counts and its answers report.
        request_limit: What the provider allows in requests.
        token_limit: What it allows in tokens.
        encoders: Number of encoders.
        concurrency: Requests in flight, of each encoder.
        latency: Draws the seconds from a request to its answer; it arrives halfway.
    """
    clock = 0.0
    outcome = Outcome()
    order = itertools.count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    provider = make_provider("chroma", "sparse", None, False, {})

    def later(seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(events, (clock + seconds, next(order), action))

    def flows(call: Call[Any]) -> Iterator[Any]:
        for texts in batches:
            batch = Batch(texts, list(range(len(texts))))
            yield embed(Chunk(call, texts), batch)

    def arrive(worker: Iterator[Any], flow: Any, request: Request, back: float) -> None:
        texts = json.loads(request.body)["texts"]
        used = sum(map(tokens, texts))
        outcome.arrivals.append((clock, used))
        limits = ((request_limit, 1), (token_limit, used))
        wait = max(0.0 if limit is None else limit.take(clock, amount) for limit, amount in limits)
        outcome.refused += wait > 0
        body = {"embeddings": [{"indices": [1], "values": [2.0]}] * len(texts), "num_tokens": used}
        reply = Reply(429, {"retry-after": f"{wait:.3f}"}, b"") if wait else Reply(200, {}, json.dumps(body).encode())
        later(back, partial(step, worker, flow, reply))

    def step(worker: Iterator[Any], flow: Any, result: Any) -> None:
        while flow is not None:
            try:
                effect = flow.send(result)
            except StopIteration:
                flow, result = next(worker, None), None
                continue
            result = None
            match effect:
                case Permit():
                    continue
                case Sleep(seconds):
                    later(seconds, partial(step, worker, flow, None))
                    return
                case Send(request):
                    half = latency() / 2
                    later(half, partial(arrive, worker, flow, request, half))
                    return

    for _ in range(encoders):
        call: Call[Any] = Call(
            provider=provider,
            decode=provider.decode_sparse,
            role="document",
            retry=retry_policy("document", None, None),
            timeout=60.0,
            pace=Pace(),
            meter=Meter(),
            quota=quota,
            clock=lambda: clock,
            random=random.Random(0).random,
        )
        worker = flows(call)
        for _ in range(concurrency):
            step(worker, next(worker, None), None)
    while events:
        clock, _, action = heapq.heappop(events)
        action()
    return outcome


def texts_of(sizes: Sequence[int], batch_size: int, requests: int, seed: int) -> Iterator[list[str]]:
    """Batches of distinct texts, whose lengths are drawn from `sizes`."""
    rng = random.Random(seed)
    for number in range(requests):
        yield [f"{number} {at} ".ljust(rng.choice(sizes), "x") for at in range(batch_size)]
