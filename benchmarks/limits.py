"""How near a job comes to the shortest time that a rate limit allows, over many limits, in virtual time.

``python -m benchmarks.limits`` measures every cell and writes ``results/limits.json``; ``--groups`` measures some and
keeps the others; ``--against FILE`` also lists the cells that are worse than in an earlier file. ``--sockets`` measures
some cells in real time over real sockets: on a machine with nothing else to do.
"""

import argparse
import json
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from simulation.limits import ChangingBucket, FixedWindow, Limit, TokenBucket
from benchmarks.harness import job, stub
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
# Not looked at while the rule was chosen.
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
    """Limits, lengths and whatever else is not as usual."""

    limits: dict[str, Provider]
    lengths: tuple[int, ...] = LENGTHS
    options: dict[str, Any] = {}  # noqa: RUF012  # only read


GROUPS = {
    "buckets": Group(BUCKETS),
    "windows": Group(WINDOWS),
    "held out": Group(HELD_OUT),
    "latency 0.2 s": Group(BUCKETS, (60, 105, 500), {"latency": 0.2}),
    "latency 1 s": Group(BUCKETS, (60, 105, 500), {"latency": 1.0}),
    "jitter 50 %": Group(BUCKETS, (60, 105, 500), {"jitter": 0.5}),
    "concurrency 4": Group(BUCKETS, (60, 105, 500), {"concurrency": 4}),
    "concurrency 64": Group(BUCKETS, (60, 105, 500), {"concurrency": 64}),
    "2 clients": Group(SHARED, (500, 2000), {"clients": 2}),
    "4 clients": Group(SHARED, (500, 2000), {"clients": 4}),
    "8 clients": Group(SHARED, (500, 2000), {"clients": 8}),
    "changes": Group(CHANGES, (2000,)),
}

Cell = tuple[str, str, str, int]


class Figure(NamedTuple):
    """Medians of a cell: time/ideal, refused/sent."""

    time: float
    waste: float


def measure(groups: list[str], seeds: list[int]) -> Iterator[tuple[Cell, Figure]]:
    """Each cell of the groups: group, limit, header and length."""
    for name in groups:
        group = GROUPS[name]
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
                        for seed in seeds
                    ]
                    yield (
                        (name, limit, header, length),
                        Figure(
                            round(statistics.median(run.seconds / run.ideal for run in runs), 4),
                            round(statistics.median(run.waste for run in runs), 4),
                        ),
                    )


SOCKETS = [(rate, burst, header) for rate, burst in ((20, 5), (10, 1)) for header in ("honest", "whole", "absent")]


def sockets(rounds: int = 5) -> Iterator[list[Any]]:
    """Limit, header, length, client, and time/ideal of each round, against the stub with 50 ms of latency."""

    def one(cell: tuple[int, int, str, int, str]) -> list[Any]:
        rate, burst, header, length, client = cell
        ratios = []
        for _ in range(rounds):
            with stub(latency=0.05, nonzeros=20, rate=rate, capacity=burst, retry_after=header) as provider:
                seconds = job("limited", address=provider.address, count=length, name=client)["seconds"]
            ratios.append(round(seconds / ((length - burst) / rate + 0.05), 3))
        return [f"{rate}/s burst {burst}", header, length, client, sorted(ratios)]

    clients = ("sparse-embed", "sparse-embed async")
    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(
            one, [(*cell, length, client) for cell in SOCKETS for length in (60, 105) for client in clients]
        )


def summary(cells: dict[Cell, Figure]) -> Iterator[str]:
    """A line for each group and length: geometric mean and worst of time/ideal, and of the waste."""
    rows: dict[tuple[str, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        rows[cell[0], cell[3]].append(cell)
        rows[cell[0], 0].append(cell)
    yield "| limits | requests | time / ideal | worst | | wasted | worst | |"
    yield "|---|---|---|---|---|---|---|---|"
    for (group, length), names in sorted(rows.items(), key=lambda row: (list(GROUPS).index(row[0][0]), row[0][1])):
        slowest = max(names, key=lambda name: cells[name].time)
        wasteful = max(names, key=lambda name: cells[name].waste)
        yield (
            f"| {group} | {length or 'all'} | {statistics.geometric_mean(cells[name].time for name in names):.3f} "
            f"| {cells[slowest].time:.2f} | {', '.join(map(str, slowest[1:]))} "
            f"| {statistics.mean(cells[name].waste for name in names):.3f} "
            f"| {cells[wasteful].waste:.2f} | {', '.join(map(str, wasteful[1:]))} |"
        )


def load(path: Path) -> dict[Cell, Figure]:
    """The cells of a file."""
    rows = json.loads(path.read_text())["cells"]
    return {(group, limit, header, length): Figure(*figure) for group, limit, header, length, *figure in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", nargs="*", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(9)))
    parser.add_argument("--write", type=Path, default=RESULTS)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--sockets", action="store_true")
    given = parser.parse_args()
    if given.sockets:
        found = []
        for row in sockets():
            found.append(row)
            print(*row)
        given.write.with_stem(f"{given.write.stem}-sockets").write_text(json.dumps(found, indent=1) + "\n")
        return
    cells = dict(measure(given.groups, given.seeds))
    kept = json.loads(given.write.read_text()) if given.write.exists() else {"seeds": {}, "cells": []}
    seeds = {**kept["seeds"], **dict.fromkeys(given.groups, given.seeds)}
    rows = [row for row in kept["cells"] if row[0] not in given.groups] + [[*cell, *cells[cell]] for cell in cells]
    lines = ",\n".join(map(json.dumps, rows))
    given.write.write_text(f'{{"seeds": {json.dumps(seeds)}, "cells": [\n{lines}\n]}}\n')
    print("\n".join(summary(cells)))
    if given.against:
        before = load(given.against)
        for cell, figure in cells.items():
            if cell in before and figure.time > before[cell].time + 0.05:
                print(f"worse: {', '.join(map(str, cell))}: {before[cell].time:.2f} → {figure.time:.2f}")


if __name__ == "__main__":
    main()
