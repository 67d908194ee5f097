"""How close a job comes to the shortest time that a rate limit allows: in virtual time, and over real sockets."""

import itertools
import json
import math
import random
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import job, stub
from simulation.limits import ChangingBucket, FixedWindow, Limit, TokenBucket
from simulation.virtual import HEADERS, one, simulate, tokens

RESULTS = Path(__file__).parent / "results" / "limits.json"
MINUTE = 60.0
LENGTHS = (60, 105, 500, 2000)
NAMES = {
    "fractional": HEADERS["honest"],
    "whole seconds": HEADERS["honest, rounded up"],
    "absent": HEADERS["absent"],
    "always 0": HEADERS["always 0"],
}
HEADER = {"fractional": "honest", "whole seconds": "whole", "absent": "absent"}  # in the stub's words


class Provider(NamedTuple):
    """A limit, made from a share in [0, 1) of its period that is over when the clock starts."""

    make: Callable[[float], Limit]
    amount: Callable[[random.Random], float] = one


def bucket(rate: float, burst: float, amount: Callable[[random.Random], float] = one) -> Provider:
    return Provider(lambda _: TokenBucket(rate, burst), amount)


def window(count: float, period: float, amount: Callable[[random.Random], float] = one) -> Provider:
    return Provider(lambda share: FixedWindow(count, period, share * period), amount)


def changing(rate: float, burst: float, at: float, factor: float) -> Provider:
    return Provider(lambda _: ChangingBucket(rate, burst, changes_at=at, factor=factor))


BUCKETS = {
    "20/s burst 1": bucket(20, 1),
    "20/s burst 5": bucket(20, 5),
    "20/s burst 20": bucket(20, 20),
    "10/s burst 1": bucket(10, 1),
    "50/s burst 30": bucket(50, 30),
    "7/s burst 3": bucket(7, 3),
    "100/min burst 10": bucket(100 / MINUTE, 10),
    "100/min burst 100": bucket(100 / MINUTE, 100),
    "250,000 tokens/min": bucket(250_000 / MINUTE, 250_000, tokens),
}
WINDOWS = {
    "20 in each second": window(20, 1),
    "37 in 10 s": window(37, 10),
    "100 in each minute": window(100, MINUTE),
    "250,000 tokens in each minute": window(250_000, MINUTE, tokens),
}
# Not used to choose the rule.
HELD_OUT = {
    "33/s burst 7": bucket(33, 7),
    "4/s burst 2": bucket(4, 2),
    "200/min burst 40": bucket(200 / MINUTE, 40),
    "80/s burst 10": bucket(80, 10),
    "50 in 5 s": window(50, 5),
    "1,000 in each minute": window(1000, MINUTE),
}
SHARED = {name: BUCKETS[name] for name in ("20/s burst 5", "20/s burst 20", "50/s burst 30", "100/min burst 100")}
CHANGES = {
    f"{rate}/s burst {burst}, {word}": changing(rate, burst, 1000 / rate, factor)
    for rate, burst in ((20, 20), (10, 5))
    for word, factor in (("halves", 0.5), ("doubles", 2.0), ("rises eightfold", 8.0))
}


class Group(NamedTuple):
    """Cells that are reported together.

    Attributes:
        limits: By name.
        lengths: Numbers of requests.
        options: Of `simulate`.
        target: Of the geometric mean of time / ideal.
    """

    limits: dict[str, Provider]
    lengths: tuple[int, ...] = LENGTHS
    options: dict[str, Any] = {}  # noqa: RUF012  # only read
    target: float | None = None


GROUPS = {
    "buckets": Group(BUCKETS, target=1.10),
    "windows": Group(WINDOWS),
    "held out": Group(HELD_OUT),
    "latency 0.2 s": Group(BUCKETS, (60, 105, 500), {"latency": 0.2}, 1.15),
    "latency 1 s": Group(BUCKETS, (60, 105, 500), {"latency": 1.0}, 1.15),
    "jitter 50 %": Group(BUCKETS, (60, 105, 500), {"jitter": 0.5}, 1.15),
    "concurrency 4": Group(BUCKETS, (60, 105, 500), {"concurrency": 4}, 1.15),
    "concurrency 64": Group(BUCKETS, (60, 105, 500), {"concurrency": 64}, 1.15),
    "2 clients": Group(SHARED, (500, 2000), {"clients": 2}, 1.15),
    "4 clients": Group(SHARED, (500, 2000), {"clients": 4}, 1.15),
    "8 clients": Group(SHARED, (500, 2000), {"clients": 8}, 1.15),
    "changes": Group(CHANGES, (2000,), target=1.20),
}


class Cell(NamedTuple):
    """What is measured."""

    group: str
    limit: str
    header: str
    requests: int


class Figure(NamedTuple):
    """Medians of a cell: time/ideal, refused/sent."""

    time: float
    waste: float


def measure(seeds: int) -> Iterator[tuple[Cell, Figure]]:
    """Each cell of all groups; a third of the seeds for groups with options, which take longer."""
    for name, group in GROUPS.items():
        count = math.ceil(seeds / 3) if group.options else seeds
        for limit, provider in group.limits.items():
            for header, retry_after in NAMES.items():
                for length in group.lengths:
                    runs = [
                        simulate(
                            provider.make(random.Random(seed).random()),
                            retry_after,
                            requests=length,
                            amount=provider.amount,
                            seed=seed,
                            **group.options,
                        )
                        for seed in range(count)
                    ]
                    time = statistics.median(run.seconds / run.ideal for run in runs)
                    waste = statistics.median(run.waste for run in runs)
                    yield Cell(name, limit, header, length), Figure(round(time, 4), round(waste, 4))


def write(cells: dict[Cell, Figure]) -> None:
    """Write all cells: group, limit, header, requests, time / ideal, refused / sent."""
    rows = ",\n".join(json.dumps([*cell, *figure]) for cell, figure in cells.items())
    RESULTS.write_text(f"[\n{rows}\n]\n")


def is_expensive(cell: Cell) -> bool:
    """Whether each refusal costs most of a second: a pause of whole seconds fills the bucket in less."""
    rate, _, burst = cell.limit.partition("/s burst ")
    return cell.header == "whole seconds" and burst.isdigit() and int(burst) < int(rate)


def sockets(rounds: int) -> Iterator[tuple[str, str, int, str, list[float]]]:
    """Time / ideal of each round, against the stub with 50 ms of latency: by limit, header, requests and client."""

    def run(cell: tuple[tuple[int, int], str, int, str]) -> list[float]:
        (rate, burst), header, length, client = cell
        ratios = []
        for _ in range(rounds):
            with stub(latency=0.05, nonzeros=20, rate=rate, capacity=burst, retry_after=HEADER[header]) as provider:
                found = job("jobs.limited", address=provider.address, count=length, name=client)
            ratios.append(found["seconds"] / ((length - burst) / rate + 0.05))
        return ratios

    clients = ("sparse-embed", "sparse-embed async")
    cells = list(itertools.product(((20, 5), (10, 1)), HEADER, (60, 105), clients))
    with ThreadPoolExecutor(4) as pool:  # they sleep most of the time
        for ((rate, burst), header, length, client), ratios in zip(cells, pool.map(run, cells), strict=True):
            yield f"{rate}/s burst {burst}", header, length, client, ratios
