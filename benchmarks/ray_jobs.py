"""Ray against one process, one quota for eight actors, a killed actor, and LlamaIndex's pipeline on Ray.

In the environment of ``make ray``: ``python -m benchmarks.ray_jobs``. Writes ``benchmarks/results/ray.json``.
"""

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from fastapi import FastAPI, Request, Response
from llama_index.core.schema import TextNode
from llama_index.ingestion.ray import RayIngestionPipeline, RayTransformComponent
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from ray.data import ActorPoolStrategy, DataContext

from benchmarks.harness import Stub, stub
from benchmarks.passages import passages
from llama_index_sparse_embed import PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding
from llama_index_sparse_embed.ray import RaySparsePrefetch
from sparse_embed import SparseEncoder
from sparse_embed.convert import from_arrow
from sparse_embed.events import CallEnded, Event
from sparse_embed.ray import EmbedBatch, RayRateLimiter, map_options
from sparse_embed.server.app import create_app
from sparse_embed.server.run import serve_in_thread

RESULTS = Path(__file__).parent / "results" / "ray.json"
RATE, CAPACITY = 20, 20  # requests per second, and in the bucket


def dataset(texts: list[str], blocks: int) -> Any:
    rows = pa.table({"id": range(len(texts)), "text": texts})
    return ray.data.from_arrow(rows).repartition(blocks).materialize()


def config(server: Stub, **settings: Any) -> dict[str, Any]:
    return {"provider": "pinecone", "base_url": server.address, "api_key": "key", **settings}


def seconds(stats: dict[str, int]) -> float:
    """From the first to the last request."""
    return (stats["last ms"] - stats["first ms"]) / 1000


def one_actor(count: int = 20_000, rounds: int = 3) -> Iterator[tuple[str, float, str]]:
    """Time of one actor over that of one process, for the same texts."""
    texts = passages(count)
    blocks = dataset(texts, 8)
    ratios, told = [], ""
    for _ in range(rounds):
        with stub(latency=0.05) as server:
            SparseEncoder(**config(server)).embed_documents(texts)
            alone = seconds(server.stats())
        with stub(latency=0.05) as server:
            blocks.map_batches(EmbedBatch, **map_options(config(server))).materialize()
            actor = seconds(server.stats())
        ratios.append(actor / alone)
        told = f"{actor:.2f} / {alone:.2f} s in the last of {rounds} rounds, {count:,} texts, 50 ms"
    yield "one actor / one process, first to last request", statistics.median(ratios), told


def eight_actors(minute: int = 1200) -> Iterator[tuple[str, float, str]]:
    """Eight actors on one quota, with and without a limiter, for a minute or half of one."""
    limiters = {
        f"RayRateLimiter({RATE})": (minute, RayRateLimiter(RATE, name="given")),
        "each alone": (minute // 2, None),
    }
    for name, (count, limiter) in limiters.items():
        blocks = dataset(passages(count), 80)
        with stub(latency=0.05, rate=RATE, capacity=CAPACITY) as server:
            options = map_options(config(server, batch_size=1, rate_limiter=limiter))
            options |= {"compute": ActorPoolStrategy(size=8, max_concurrent_calls_per_actor=4), "num_cpus": 0.2}
            blocks.map_batches(EmbedBatch, **options).materialize()
            stats = server.stats()
        ideal = (count - CAPACITY) / RATE
        told = f"{stats.get('429', 0)} of {stats['requests']} requests refused"
        yield f"8 actors, {RATE} per second, {name}: time / ideal", seconds(stats) / ideal, told
        yield f"8 actors, {RATE} per second, {name}: refused / sent", stats.get("429", 0) / stats["requests"], ""


class KillOnce:
    """Kills its process when a call ends, the first time."""

    def __init__(self, marker: Path) -> None:
        self.marker, self.calls = marker, 0

    def __call__(self, event: Event) -> None:
        self.calls += isinstance(event, CallEnded)
        if self.calls == 3 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def killed(count: int = 20_000) -> Iterator[tuple[str, float, str]]:
    """An actor is killed in mid-run."""
    for cached in (False, True):
        with tempfile.TemporaryDirectory() as folder, stub(latency=0.05) as server:
            settings: dict[str, Any] = {"on_event": KillOnce(Path(folder, "killed"))}
            if cached:
                settings["cache"] = Path(folder, "vectors.sqlite")
            embedded = dataset(passages(count), 20).map_batches(EmbedBatch, **map_options(config(server, **settings)))
            table = pa.concat_tables(ray.get(embedded.to_arrow_refs()))
            if not Path(folder, "killed").exists():
                raise RuntimeError("no actor was killed")
            again = server.stats()["texts"] - count
        rows = Counter(table["id"].to_pylist())
        vectors = from_arrow(table["sparse"])
        wrong = sum(
            vector is None or vector.indices[0] != row
            for row, vector in zip(table["id"].to_pylist(), vectors, strict=True)
        )
        with_cache = "with a cache" if cached else "without a cache"
        told = f"{wrong} wrong vectors; {again:,} of {count:,} texts were paid for again"
        yield f"actor killed, {with_cache}: rows lost", count - len(rows), told
        yield f"actor killed, {with_cache}: rows doubled", rows.total() - len(rows), ""


@contextmanager
def billed() -> Iterator[tuple[str, Counter[str]]]:
    """The local provider, with the number of texts per model."""
    app: FastAPI = create_app(stand_in=True)
    texts: Counter[str] = Counter()

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        body = await request.json()
        texts[body["model"]] += len(body["inputs"])
        answer: Response = await call_next(request)
        return answer

    with serve_in_thread(app) as url:
        yield url, texts


def ingestion(count: int = 2_000) -> Iterator[tuple[str, float, str]]:
    """Nodes with dense and sparse vectors into Qdrant."""
    with billed() as (url, texts):
        where = {"base_url": url, "api_key": "key"}
        sparse = PineconeInferenceSparseEmbedding(cache=count, **where)
        store = QdrantVectorStore("docs", client=QdrantClient(":memory:"), **sparse.qdrant_kwargs())
        dense = RayTransformComponent(
            PineconeInferenceEmbedding, transform_kwargs=where, map_batches_kwargs={"batch_size": 1536}
        )
        pipeline = RayIngestionPipeline(transformations=[dense, RaySparsePrefetch(sparse)], vector_store=store)
        start = time.perf_counter()
        pipeline.run(nodes=[TextNode(text=text) for text in passages(count)])
        told = f"{store.client.count('docs').count:,} points in Qdrant after {time.perf_counter() - start:.0f} s"
    yield f"RayIngestionPipeline, {count:,} nodes, dense + sparse: texts billed", texts.total(), told


def main() -> None:
    sections = {"one": one_actor, "eight": eight_actors, "killed": killed, "ingestion": ingestion}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections))
    chosen = parser.parse_args().only
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=512 * 2**20,
        log_to_driver=False,
        _node_ip_address="127.0.0.2",  # Ray 2.60 replaces 127.0.0.1 by this machine's address in the network
    )
    DataContext.get_current().enable_progress_bars = False
    try:
        for name in chosen:
            for figure, value, told in sections[name]():
                rows[figure] = {"value": round(value, 4), "note": told}
                print(f"{figure}: {value:.3g}  {told}", flush=True)
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
