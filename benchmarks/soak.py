"""Ten minutes at full concurrency while 5 % of the requests go wrong: nothing may grow, no vector may be wrong.

``python -m benchmarks.soak --minutes 10``: threads and asyncio at the same time, each in a process of its own with a
stub of its own; one line a sample, and the counts at the end.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, stub
from benchmarks.jobs import memory
from benchmarks.passages import endless, vector

NONZEROS = 200
STALL = 3.0
TIMEOUT = 1.0  # shorter than a stall, so that half an answer ends in a timeout
SAMPLES = 60


def sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(entry).startswith("socket:")
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


class Watch:
    """Checks every vector, and looks at the process in even intervals."""

    def __init__(self, seconds: float) -> None:
        self.start = time.monotonic()
        self.seconds = seconds
        self.given = 0
        self.next_sample = 0.0
        self.samples: list[dict[str, float]] = []

    def texts(self) -> Iterator[str]:
        for text in endless():
            if time.monotonic() - self.start > self.seconds:
                return
            yield text

    def take(self, found: Any, tasks: int) -> None:
        indices, values = vector(self.given, NONZEROS)
        if found.indices != indices or found.values != values:
            raise RuntimeError(f"vector {self.given} is wrong")
        self.given += 1
        now = time.monotonic() - self.start
        if now >= self.next_sample:
            self.next_sample += self.seconds / SAMPLES
            sample = {
                "seconds": round(now),
                "vectors": self.given,
                "MiB": round(memory("VmRSS") / 1024, 1),
                "sockets": sockets(),
                "threads": threading.active_count(),
                "tasks": tasks,
                "objects": len(gc.get_objects()),
            }
            self.samples.append(sample)
            print(json.dumps(sample), file=sys.stderr, flush=True)


def soak(address: str, way: str, seconds: float) -> dict[str, Any]:
    from sparse_embed import SparseEncoder

    encoder = SparseEncoder("pinecone", api_key="key", base_url=address, timeout=TIMEOUT)
    watch = Watch(seconds)

    async def consume() -> None:
        async for found in encoder.astream_documents(watch.texts()):
            watch.take(found, len(asyncio.all_tasks()))
        await encoder.aclose()

    if way == "async":
        asyncio.run(consume())
    else:
        for found in encoder.stream_documents(watch.texts()):
            watch.take(found, 0)
        encoder.close()
    time.sleep(2 * STALL)  # threads in a read that nobody waits for any more
    usage = encoder.usage
    return {
        "way": way,
        "vectors": watch.given,
        "requests": usage.requests,
        "retries": usage.retries,
        "samples": watch.samples,
        "after": {"sockets": sockets(), "threads": threading.active_count()},
    }


def growth(samples: list[dict[str, float]], name: str) -> tuple[float, float]:
    """Medians of the second and of the last quarter: the first one warms up."""
    quarter = len(samples) // 4
    return (
        statistics.median(sample[name] for sample in samples[quarter : 2 * quarter]),
        statistics.median(sample[name] for sample in samples[-quarter:]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--faults", type=float, default=5.0, help="percent of the requests")
    parser.add_argument("--write", action="store_true", help="keep the outcome in benchmarks/results/soak.json")
    given = parser.parse_args()
    with ExitStack() as stack:
        running = []
        for way in ("sync", "async"):
            provider = stack.enter_context(
                stub(latency=0.02, faults=given.faults, stall=STALL, nonzeros=NONZEROS, seed=len(way))
            )
            command = [sys.executable, "-m", "benchmarks.soak", provider.address, way, str(given.minutes * 60)]
            running.append((provider, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)))
        outcomes = []
        for provider, process in running:
            said, _ = process.communicate()
            if process.returncode:
                raise SystemExit(f"a soak ended with {process.returncode}")
            outcomes.append(json.loads(said.splitlines()[-1]) | {"provider": provider.stats()})
    for outcome in outcomes:
        samples = outcome["samples"]
        print(
            f"\n{outcome['way']}: {outcome['vectors']:,} vectors, all right; {outcome['requests']:,} requests,", end=""
        )
        print(f" {outcome['retries']:,} of them again; the provider counted {outcome['provider']}")
        for name in ("MiB", "sockets", "threads", "tasks", "objects"):
            early, late = growth(samples, name)
            most = max(sample[name] for sample in samples)
            print(f"  {name:8} second quarter {early:,.1f}, last quarter {late:,.1f}, most {most:,}")
        print(f"  after close: {outcome['after']}")
    if given.write:
        kept = json.dumps({"minutes": given.minutes, "faults": given.faults, "outcomes": outcomes}, indent=1)
        (ROOT / "benchmarks" / "results" / "soak.json").write_text(kept + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("http"):
        print(json.dumps(soak(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
    else:
        main()
