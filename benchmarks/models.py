"""Real models behind the local provider against sentence-transformers in process: ratios within one run.

``.venv-models/bin/python -m benchmarks.models .cache/weights [figure ...]`` after ``make models``; without names all
figures but the soak. Results go to ``benchmarks/results/models.json`` and to the table in ``docs/models.md``. CPU
seconds are those of both sides, so that a busy machine can be told from a slow server.
"""

import argparse
import asyncio
import datetime as dt
import json
import math
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import httpx
import numpy as np

THREADS = 2
WORDS = " ".join(topics.values()).split()
KEY = {"x-chroma-token": "any"}
ROUNDS = 3


def texts(count: int, *, shortest: int = 4, longest: int = 300, start: int = 0) -> list[str]:
    """Passages of real text of mixed lengths, in words."""
    lengths = np.random.default_rng(start).lognormal(3.5, 0.8, count).clip(shortest, longest).astype(int)
    found, at = [], start * 997 % len(WORDS)
    for length in lengths:
        found.append(" ".join(islice(cycle(WORDS), at, at + int(length))))
        at = (at + int(length)) % len(WORDS)
    return found


@contextmanager
def server(*options: str) -> Iterator[tuple[httpx.Client, int]]:
    command = [str(Path(sys.executable).parent / "sparse-embed"), "serve", "--port", "0", "--threads", str(THREADS)]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert url is not None
            with httpx.Client(base_url=url.group(), timeout=120) as client:
                yield client, process.pid
        finally:
            process.terminate()


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int, field: str = "VmRSS") -> float:
    """MiB."""
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def ask(client: httpx.Client, model: str, batch: list[str], **body: str) -> httpx.Response:
    path = "/embed_sparse" if model == "splade" else "/embed"
    headers = KEY | {"x-chroma-embedding-model": model}
    return client.post(path, headers=headers, json={"texts": batch} | (body or {"instructions": ""}))


def at_once(client: httpx.Client, model: str, batches: list[list[str]]) -> None:
    threads = [threading.Thread(target=ask, args=(client, model, batch)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def reference(weights: Path, model: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer, SparseEncoder

    torch.set_num_threads(THREADS)
    kind = SparseEncoder if model == "splade" else SentenceTransformer
    return kind(str(weights / model), device="cpu", local_files_only=True)


def engine(weights: Path, model: str) -> Any:
    from sparse_embed.server.engines import transformers
    from sparse_embed.server.engines.weights import find_files

    transformers.use_threads(THREADS)
    return transformers.load(find_files(str(weights / model)), device="cpu")


def batcher(weights: Path, model: str, **options: Any) -> Any:
    from sparse_embed.server.batching import Batcher

    own = engine(weights, model)
    return own, Batcher(own.forward, max_queue_tokens=10**9, **options)


def compare(jobs: dict[str, Callable[[], object]], pids: list[int]) -> dict[str, dict[str, float]]:
    """Medians of wall and CPU seconds; the jobs take turns."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for turn in range(-1, ROUNDS):
        for name, job in jobs.items():
            start, before = time.perf_counter(), sum(map(cpu, pids))
            job()
            if turn >= 0:
                spent[name].append((time.perf_counter() - start, sum(map(cpu, pids)) - before))
    return {
        name: {"wall": statistics.median(w for w, _ in each), "cpu": statistics.median(c for _, c in each)}
        for name, each in spent.items()
    }


def documents(weights: Path, model: str) -> dict[str, float]:
    """16 requests of 32 short passages over HTTP, against `encode(batch_size=32)`: above 1 is faster."""
    batches = [texts(32, longest=40, start=number) for number in range(16)]
    everything = [text for batch in batches for text in batch]
    own = reference(weights, model)
    with server("--model", f"{model}={weights / model}") as (client, pid):
        jobs = {
            "http": lambda: at_once(client, model, batches),
            "encode": lambda: own.encode(everything, batch_size=32),
        }
        found = compare(jobs, [os.getpid(), pid])
    return {
        "texts_per_second": round(len(everything) / found["http"]["wall"]),
        "ratio": round(found["encode"]["wall"] / found["http"]["wall"], 2),
        "cpu_ratio": round(found["encode"]["cpu"] / found["http"]["cpu"], 2),
    }


def priority(weights: Path) -> dict[str, float]:
    """A query's 99th percentile while bulk runs, with and without priority."""
    own, queue = batcher(weights, "minilm")
    bulk = [own.prepare(texts(32, longest=40, start=number), "document") for number in range(16)]
    query = own.prepare(["how to treat a headache"], "query")
    waits: dict[bool, list[float]] = {True: [], False: []}
    for urgent in (True, False) * 3:
        jobs = [queue.submit(batch, urgent=False) for batch in bulk]
        for _ in range(20 if urgent else 4):
            start = time.perf_counter()
            queue.submit(query, urgent=urgent).future.result()
            waits[urgent].append(time.perf_counter() - start)
            while sum(not job.future.done() for job in jobs) < 16:  # as an encoder does: 16 in flight
                jobs.append(queue.submit(bulk[len(jobs) % 16], urgent=False))
        for job in jobs:
            job.future.cancel()
    p99 = {urgent: float(np.quantile(each, 0.99)) for urgent, each in waits.items()}
    return {
        "p99_ms": round(p99[True] * 1000),
        "without_ms": round(p99[False] * 1000),
        "ratio": round(p99[True] / p99[False], 3),
    }


def idle_query(weights: Path, model: str) -> dict[str, float]:
    """One query at a time over HTTP, against `encode_query`: below 1 is faster."""
    own = reference(weights, model)
    with server("--model", f"{model}={weights / model}") as (client, pid):

        def http() -> None:
            for _ in range(50):
                ask(client, model, ["how to treat a headache"], task="", target="query")

        def encode() -> None:
            for _ in range(50):
                own.encode_query("how to treat a headache")

        found = compare({"http": http, "encode_query": encode}, [os.getpid(), pid])
    return {
        "ms": round(found["http"]["wall"] * 20, 1),
        "ratio": round(found["http"]["wall"] / found["encode_query"]["wall"], 2),
        "cpu_ratio": round(found["http"]["cpu"] / found["encode_query"]["cpu"], 2),
    }


def peak(weights: Path, whose: str) -> float:
    """MiB above the loaded model, for 32 texts of 512 tokens; in a process of its own."""
    batch = texts(32, shortest=600, longest=600)
    model = engine(weights, "splade") if whose == "ours" else reference(weights, "splade")
    before = resident(os.getpid())
    if whose == "ours":
        model.forward(model.prepare(batch, "document"))
    else:
        model.encode(batch, batch_size=32)
    return resident(os.getpid(), "VmHWM") - before  # not ru_maxrss, which begins with that of the parent


def memory(weights: Path) -> dict[str, float]:
    """Peak memory for 32 texts of 512 tokens, against `SparseEncoder`."""

    def measure(whose: str) -> float:
        command = [sys.executable, "-m", "benchmarks.models", str(weights), f"peak:{whose}"]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

    ours, theirs = measure("ours"), measure("theirs")
    return {"MiB": round(ours), "SparseEncoder_MiB": round(theirs), "ratio": round(ours / theirs, 3)}


def difference(weights: Path, model: str) -> dict[str, float]:
    """Largest difference to encoding each text alone, and the share of padding, for mixed lengths."""
    seen: list[Any] = []
    own, queue = batcher(weights, model, observe=seen.append)
    batches = [texts(32, start=number) for number in range(16)]
    jobs = [queue.submit(own.prepare(batch, "document"), urgent=False) for batch in batches]
    alone = reference(weights, model)
    options = {"convert_to_sparse_tensor": False} if model == "splade" else {}
    largest = 0.0
    for batch, job in zip(batches, jobs, strict=True):
        for text, vector in zip(batch, job.future.result(), strict=True):
            expected = alone.encode_document(text, convert_to_tensor=True, **options).numpy()
            got = np.zeros_like(expected)
            if model == "splade":
                got[vector[0]] = vector[1]
            else:
                got[:] = vector
            largest = max(largest, float(abs(got - expected).max()))
    padding = 1 - sum(batch.tokens for batch in seen) / sum(batch.padded for batch in seen)
    return {"largest": largest, "padding": round(padding, 3)}


def overload(weights: Path, seconds: float = 60.0) -> dict[str, int]:
    """200 clients on a queue of 16 requests, and our encoder among them."""
    from sparse_embed import SparseEncoder

    own = engine(weights, "splade")
    batch = texts(4, shortest=20, longest=20)
    expected = [ids for ids, _ in own.forward(own.prepare(batch, "document"))]
    tokens = sum(len(text.ids) for text in own.prepare(batch, "document"))
    counts = {"answered": 0, "429": 0, "5xx": 0, "wrong": 0, "other": 0, "encoder_texts": 0, "encoder_wrong": 0}

    async def hammer(client: httpx.AsyncClient, end: float) -> None:
        headers = KEY | {"x-chroma-embedding-model": "splade"}
        while time.monotonic() < end:
            answer = await client.post("/embed_sparse", headers=headers, json={"texts": batch, "instructions": ""})
            if answer.status_code == 200:
                counts["answered"] += 1
                counts["wrong"] += [item["indices"] for item in answer.json()["embeddings"]] != expected
            elif answer.status_code == 429:
                counts["429"] += 1
                await asyncio.sleep(float(answer.headers["retry-after-ms"]) / 1000)
            else:
                counts["5xx" if answer.status_code >= 500 else "other"] += 1

    async def run(url: str) -> None:
        end = time.monotonic() + seconds
        encoder = SparseEncoder("chroma", model="splade", base_url=url, api_key="any", batch_size=4)

        async def encode() -> None:
            while time.monotonic() < end:
                vectors = await encoder.aembed_documents(batch * 16)
                counts["encoder_texts"] += len(vectors)
                counts["encoder_wrong"] += [list(vector.indices) for vector in vectors] != expected * 16

        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
            await asyncio.gather(encode(), *(hammer(client, end) for _ in range(200)))
        await encoder.aclose()

    options = "--model", f"splade={weights / 'splade'}", "--max-queue-tokens", str(16 * tokens)
    with server(*options) as (client, _):
        asyncio.run(run(str(client.base_url)))
    return counts


def soak(weights: Path, seconds: float = 300.0) -> dict[str, float]:
    """Documents and queries at full load for five minutes: the server's memory after the first, and at the end."""
    models = [f"--model={model}={weights / model}" for model in ("splade", "minilm")]
    with server(*models) as (client, pid):
        end = time.monotonic() + seconds

        def work(number: int) -> None:
            model = ("splade", "minilm")[number % 2]
            while time.monotonic() < end:
                number += 4
                for batch in (texts(32, start=number), ["how to treat a headache"]):
                    answer = ask(client, model, batch)
                    if answer.status_code == 429:
                        time.sleep(float(answer.headers["retry-after-ms"]) / 1000)
                    else:
                        answer.raise_for_status()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        samples = []
        while time.monotonic() < end:
            time.sleep(seconds / 30)
            samples.append(resident(pid))
            print(f"{samples[-1]:.0f} MiB", file=sys.stderr, flush=True)
        for thread in threads:
            thread.join()
    second, last = statistics.median(samples[6:12]), statistics.median(samples[-6:])
    return {"second_fifth_MiB": second, "last_fifth_MiB": last, "growth": last / second - 1}


FIGURES: dict[str, Callable[[Path], Any]] = {
    "splade documents": lambda weights: documents(weights, "splade"),
    "minilm documents": lambda weights: documents(weights, "minilm"),
    "priority": priority,
    "splade idle query": lambda weights: idle_query(weights, "splade"),
    "minilm idle query": lambda weights: idle_query(weights, "minilm"),
    "memory": memory,
    "splade difference": lambda weights: difference(weights, "splade"),
    "minilm difference": lambda weights: difference(weights, "minilm"),
    "overload": overload,
    "soak": soak,
}


RESULTS = Path(__file__).parent / "results" / "models.json"
PAGE = Path(__file__).parents[1] / "docs" / "models.md"
MARK = "<!-- generated by benchmarks/models.py -->\n"
# Words, figure, key, target: a negative one is a limit.
TARGETS = (
    ("SPLADE documents over HTTP, texts per second against `SparseEncoder.encode`", "splade documents", "ratio", 1.8),
    ("the same by CPU seconds", "splade documents", "cpu_ratio", 1.8),
    (
        "MiniLM documents over HTTP, texts per second against `SentenceTransformer.encode`",
        "minilm documents",
        "ratio",
        0.9,
    ),
    ("the same by CPU seconds", "minilm documents", "cpu_ratio", 0.9),
    ("99th percentile of a query while documents run, against the same without priority", "priority", "ratio", -0.1),
    ("SPLADE query on an idle server, time against `encode_query`", "splade idle query", "ratio", -1.5),
    ("MiniLM query on an idle server, time against `encode_query`", "minilm idle query", "ratio", -1.5),
    ("the same by CPU seconds", "minilm idle query", "cpu_ratio", -1.5),
    ("memory for 32 texts of 512 tokens, against `SparseEncoder`", "memory", "ratio", -0.25),
    ("SPLADE: largest difference to each text alone", "splade difference", "largest", -1e-5),
    ("MiniLM: largest difference to each text alone", "minilm difference", "largest", -1e-5),
    ("SPLADE: share of padding, mixed lengths", "splade difference", "padding", -0.1),
    ("MiniLM: share of padding, mixed lengths", "minilm difference", "padding", -0.1),
    ("200 clients on a queue of 16 requests, one minute: wrong answers", "overload", "wrong", -0.0),
    ("… answers 5xx", "overload", "5xx", -0.0),
    ("… wrong or lost texts of our encoder", "overload", "encoder_wrong", -0.0),
    ("five minutes of full load: growth of memory from the second to the last", "soak", "growth", -0.05),
)


def write(name: str, found: dict[str, Any]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = {"measured": dt.date.today().isoformat()} | found
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    lines = ["| figure | result | target | |", "|---|---|---|---|"]
    for words, figure, key, target in TARGETS:
        if key in results.get(figure, {}):
            value = results[figure][key]
            is_limit = math.copysign(1, target) < 0
            met = "✓" if (value <= -target if is_limit else value >= target) else "**missed**"
            lines.append(f"| {words} | {value:.2g} | {'≤' if is_limit else '≥'} {abs(target):g} | {met} |")
    before, _, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(before + MARK + "\n".join(lines) + "\n")


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for both sides
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("figures", nargs="*", default=[name for name in FIGURES if name != "soak"])
    given = parser.parse_args()
    for name in given.figures:
        if name.startswith("peak:"):
            print(peak(given.weights, name.removeprefix("peak:")))
        else:
            found = FIGURES[name](given.weights)
            print(f"{name}: {json.dumps(found)}", flush=True)
            write(name, found)


if __name__ == "__main__":
    main()
