"""Single measurements. Each runs in its own process: ``python -m benchmarks.jobs jobs.stream '{"argument": …}'``."""

import asyncio
import ctypes
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.contenders import caller
from benchmarks.passages import endless, number_of, passage, passages


def memory(field: str) -> int:
    """``VmRSS`` (current) or ``VmHWM`` (peak) of this process, in KiB.

    Not ``ru_maxrss``, which on Linux includes the size of the parent process at the fork.
    """
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def stream(address: str, count: int, way: str) -> dict[str, Any]:
    """Stream `count` passages: peak resident memory, and how many texts were read ahead of the consumer."""
    from sparse_embed import SparseEncoder

    encoder = SparseEncoder("pinecone", api_key="key", base_url=address)
    read = received = furthest = 0
    first: int | None = None

    def texts() -> Iterator[str]:
        nonlocal read, furthest
        for text in endless():
            if read == count:
                return
            read += 1
            furthest = max(furthest, read - received)
            yield text

    def check(vector: Any) -> None:
        nonlocal first, received
        first = read if first is None else first
        if vector.indices[0] != received:
            raise RuntimeError(f"vector {vector.indices[0]} at position {received}")
        received += 1

    async def consume() -> None:
        async for vector in encoder.astream_documents(texts()):
            check(vector)

    passage(0)  # loads the prose, which is not measured
    start = time.perf_counter()
    if way == "async":
        asyncio.run(consume())
    else:
        for vector in encoder.stream_documents(texts()):
            check(vector)
    seconds = time.perf_counter() - start
    if received != count:
        raise RuntimeError(f"{received} vectors")
    return {"peak": memory("VmHWM"), "seconds": seconds, "read at first vector": first, "furthest ahead": furthest}


def held(address: str, count: int, name: str) -> dict[str, float]:
    """Resident memory per vector, while `count` vectors and nothing else are held."""
    embed = caller(name, address)
    texts = passages(count)
    embed(texts[:96])
    gc.collect()
    before = memory("VmRSS")
    vectors = embed(texts)
    gc.collect()
    after = memory("VmRSS")
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # returns freed memory to the system: the vectors remain
    trimmed = memory("VmRSS")
    return {"KiB per vector": (after - before) / len(vectors), "trimmed": (trimmed - before) / len(vectors)}


def imported(statements: str) -> float:
    """Seconds that import statements take in a new interpreter."""
    start = time.perf_counter()
    exec(compile(statements, "imports", "exec"), {})
    return time.perf_counter() - start


def queries(address: str, count: int, way: str) -> dict[str, Any]:
    """Seconds per query: ours, bare httpx with its own ``.json()``, and httpx with orjson, in turns."""
    import httpx
    import orjson

    from benchmarks.floor import HEADERS, request
    from sparse_embed import SparseEncoder

    encoder = SparseEncoder("pinecone", api_key="key", base_url=address)
    url = f"{address}/embed"
    body = {"model": encoder.model, "parameters": {"input_type": "query", "truncate": "END"}}
    headers = {name: value for name, value in HEADERS.items() if name != "content-type"}
    client, aclient = httpx.Client(), httpx.AsyncClient()

    def bare(text: str) -> Any:
        return client.post(url, json=body | {"inputs": [{"text": text}]}, headers=headers).json()["data"][0]

    async def abare(text: str) -> Any:
        answer = await aclient.post(url, json=body | {"inputs": [{"text": text}]}, headers=headers)
        return answer.json()["data"][0]

    def with_orjson(text: str) -> Any:
        return orjson.loads(client.post(url, content=request([text], "query"), headers=HEADERS).content)["data"][0]

    async def awith_orjson(text: str) -> Any:
        answer = await aclient.post(url, content=request([text], "query"), headers=HEADERS)
        return orjson.loads(answer.content)["data"][0]

    async def timed(ask: Callable[[str], Any], text: str) -> tuple[float, Any]:
        start = time.perf_counter()
        found = ask(text)
        if way == "async":
            found = await found
        return time.perf_counter() - start, found

    async def measure() -> dict[str, list[float]]:
        asking: dict[str, Callable[[str], Any]] = (
            {"ours": encoder.aembed_query, "httpx": abare, "httpx + orjson": awith_orjson}
            if way == "async"
            else {"ours": encoder.embed_query, "httpx": bare, "httpx + orjson": with_orjson}
        )
        seconds: dict[str, list[float]] = {name: [] for name in asking}
        names = list(asking)
        gc.collect()
        for turn in range(-100, count):
            names.append(names.pop(0))
            for name in names:
                took, found = await timed(asking[name], passage(turn + 100))
                if number_of(found) != turn + 100:
                    raise RuntimeError(f"{name}: wrong vector")
                if turn >= 0:
                    seconds[name].append(took)
        await aclient.aclose()
        return seconds

    figures = asyncio.run(measure())
    return {
        name: {"p50": statistics.median(took), "p99": statistics.quantiles(took, n=100)[98]}
        for name, took in figures.items()
    }


def limited(address: str, count: int, name: str) -> dict[str, Any]:
    """Send `count` requests of one text against a rate limit, until all are answered or the client gives up."""
    texts = passages(count)
    found: list[Any] = []
    error = None
    work: Iterator[Callable[[], Any]]
    if name in ("sparse-embed", "sparse-embed async"):
        from sparse_embed import SparseEncoder

        encoder = SparseEncoder("pinecone", api_key="key", base_url=address, batch_size=1)
        if name.endswith("async"):
            work = iter([lambda: asyncio.run(encoder.aembed_documents(texts))])
        else:
            work = iter([lambda: encoder.embed_documents(texts)])
    else:
        embed = caller(name, address)
        work = (partial(embed, [text]) for text in texts)  # one after another, as these clients send them
    start = time.perf_counter()
    try:
        for request in work:
            found += request()
    except Exception as problem:  # noqa: BLE001  # giving up is a result
        error = type(problem).__name__
    seconds = time.perf_counter() - start
    if list(map(number_of, found)) != list(range(len(found))):
        raise RuntimeError("wrong vectors")
    return {"seconds": seconds, "vectors": len(found), "error": error}


def bm25(rounds: int) -> dict[str, list[float]]:
    """Texts per second, in turns: chromadb's BM25 function, our engine made anew each time, and our engine reused."""
    from chromadb.utils.embedding_functions import ChromaBm25EmbeddingFunction

    from sparse_embed.server.engines.bm25 import Bm25

    texts = passages(1000)
    function = ChromaBm25EmbeddingFunction(include_tokens=True)
    kept = Bm25()
    theirs = [(vector.indices, vector.values) for vector in function(texts)]
    if [(vector.indices, vector.values) for vector in kept.embed(texts, "document").vectors] != theirs:
        raise RuntimeError("different vectors")
    speeds: dict[str, list[float]] = {"chromadb": [], "ours, cold": [], "ours, warm": []}
    for _ in range(rounds):
        runs: dict[str, Callable[[], object]] = {
            "chromadb": lambda: function(texts),
            "ours, cold": lambda: Bm25().embed(texts, "document"),
            "ours, warm": lambda: kept.embed(texts, "document"),
        }
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            speeds[name].append(len(texts) / (time.perf_counter() - start))
    return speeds


if __name__ == "__main__":
    module, function = sys.argv[1].split(".")
    print(json.dumps(getattr(import_module(f"benchmarks.{module}"), function)(**json.loads(sys.argv[2]))))
