"""A long stream at full concurrency with faults: memory, sockets, threads and tasks must not grow."""

import asyncio
import gc
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.jobs import memory
from benchmarks.passages import endless, vector

NONZEROS = 200
STALL = 3.0
TIMEOUT = 1.0  # shorter than a stall, so that a stalled answer ends in a timeout
SAMPLES = 60
Sample = dict[str, float]


def open_sockets() -> int:
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(entry).startswith("socket:")
        except FileNotFoundError:  # closed since it was listed
            continue
    return count


class Watch:
    """Supplies texts for `seconds`, checks every vector, and takes a sample of the process at regular intervals."""

    def __init__(self, seconds: float) -> None:
        self.start = time.monotonic()
        self.seconds = seconds
        self.received = 0
        self.samples: list[Sample] = []

    def texts(self) -> Iterator[str]:
        for text in endless():
            if time.monotonic() - self.start > self.seconds:
                return
            yield text

    def check(self, received: Any, tasks: int) -> None:
        indices, values = vector(self.received, NONZEROS)
        if received.indices != tuple(indices) or received.values != tuple(values):
            raise RuntimeError(f"vector {self.received} is wrong")
        self.received += 1
        now = time.monotonic() - self.start
        if now >= len(self.samples) * self.seconds / SAMPLES:
            sample = {
                "seconds": round(now),
                "vectors": self.received,
                "MiB": round(memory("VmRSS") / 1024, 1),
                "sockets": open_sockets(),
                "threads": threading.active_count(),
                "tasks": tasks,
                "objects": len(gc.get_objects()),
            }
            self.samples.append(sample)
            print(json.dumps(sample), file=sys.stderr, flush=True)


def run(address: str, way: str, seconds: float) -> dict[str, Any]:
    """Stream for `seconds`, close the encoder, and return the counts and the samples."""
    from sparse_embed import SparseEncoder

    encoder = SparseEncoder("pinecone", api_key="key", base_url=address, timeout=TIMEOUT)
    watch = Watch(seconds)

    async def consume() -> None:
        async for received in encoder.astream_documents(watch.texts()):
            watch.check(received, len(asyncio.all_tasks()))
        await encoder.aclose()

    if way == "async":
        asyncio.run(consume())
    else:
        for received in encoder.stream_documents(watch.texts()):
            watch.check(received, 0)
        encoder.close()
    time.sleep(2 * STALL)  # until the last abandoned read has ended
    usage = encoder.usage
    return {
        "vectors": watch.received,
        "requests": usage.requests,
        "retries": usage.retries,
        "samples": watch.samples,
        "after close": {"sockets": open_sockets(), "threads": threading.active_count()},
    }


def growth(samples: list[Sample], name: str) -> tuple[float, float]:
    """Medians of the second and of the last quarter. The first quarter is warm-up."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    return statistics.median(sample[name] for sample in second), statistics.median(sample[name] for sample in last)
