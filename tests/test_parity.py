"""The first promise: sync and async are one policy. Same results, same requests, whatever goes wrong."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sparse_embed import DenseEncoder, SparseEmbedError, SparseEncoder
from sparse_embed.testing import no_wait

SEEDS = 320
PASSING = ["429", "429 soon", "500", "502 html", "503", "504", "408", "reset", "stall", "cut", "413"]
FINAL = ["400", "401", "403", "404", "422", "501", "429 month", "too few", "nan", "twice"]


class ScriptedProvider:
    """Answers by what is asked and how often it was asked before: never by the order in which requests arrive."""

    def __init__(self, seed: int, final: bool) -> None:
        self.seed = seed
        self.final = final
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def fault(self, texts: list[str], body: str, attempt: int) -> str | None:
        rng = random.Random(f"{self.seed} {body}")  # a string seeds the same in every process
        number_of_faults = rng.choice([0, 0, 0, 1, 1, 2, 3, 4])
        possible = PASSING if len(texts) > 1 else [fault for fault in PASSING if fault != "413"]
        faults = [rng.choice(possible) for _ in range(number_of_faults)]
        if self.final:
            faults.append(rng.choice(FINAL))
        return faults[attempt] if attempt < len(faults) else None

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = request.content.decode()
        parsed = json.loads(body)
        texts = parsed.get("texts") or [item["text"] for item in parsed["inputs"]]
        with self._lock:
            key = (request.url.path, request.headers.get("x-chroma-embedding-model", ""), body)
            attempt = self.requests[key]
            self.requests[key] += 1
        fault = self.fault(texts, body, attempt)
        match fault:
            case "reset":
                raise httpx.ReadError("connection reset", request=request)
            case "stall":
                raise httpx.ReadTimeout("timed out", request=request)
            case "429 soon":
                return httpx.Response(429, json={"error": "slow down"}, headers={"retry-after": "1"})
            case "429 month":
                message = "Request failed. You've reached the max embedding tokens for the current month"
                return httpx.Response(401 if "texts" in parsed else 429, json={"error": {"message": message}})
            case "502 html":
                return httpx.Response(502, html="<html><body>Bad <b>gateway</b></body></html>")
            case str() as status if status.isdigit():
                return httpx.Response(int(status), json={"error": f"scripted {status}"})
        answer = _answer(request.url.path, parsed, texts, fault)
        content = json.dumps(answer).encode()
        return httpx.Response(200, content=content[: len(content) // 2] if fault == "cut" else content)


def _answer(path: str, parsed: dict[str, Any], texts: list[str], fault: str | None) -> dict[str, Any]:
    numbers = [int(text.split()[1]) for text in texts]
    if fault == "too few":
        numbers = numbers[1:]
    sparse = path == "/embed_sparse" or "sparse" in parsed.get("model", "")
    if not sparse:
        dense = [[n + 0.5, float("nan") if fault == "nan" else 1.0] for n in numbers]
        if fault == "twice":
            dense.append(dense[-1])
        return {"embeddings": dense} if "texts" in parsed else {"data": [{"values": v} for v in dense]}
    items = [([n + 7, n], [0.5, float("nan") if fault == "nan" else 1.0]) for n in numbers]
    if fault == "twice":
        items = [([5, 5], [1.0, 2.0]) for _ in items]
    if "texts" in parsed:
        return {"embeddings": [{"indices": i, "values": v} for i, v in items], "num_tokens": 3}
    return {
        "data": [{"sparse_indices": i, "sparse_values": v} for i, v in items],
        "usage": {"total_tokens": 3},
    }


def _run(seed: int, final: bool, use: Callable[[Any, list[str]], Any]) -> tuple[Any, Any, Any]:
    rng = random.Random(seed)
    provider = ScriptedProvider(seed, final)
    transport = httpx.MockTransport(provider.handle)
    encoder_class = rng.choice([SparseEncoder, DenseEncoder])
    encoder = encoder_class(
        rng.choice(["chroma", "pinecone"]),
        api_key="secret",
        batch_size=rng.choice([1, 2, 7, 96]),
        max_concurrency=rng.choice([1, 3, 16]),
        max_retries=8,
        http_client=httpx.Client(transport=transport),
        http_async_client=httpx.AsyncClient(transport=transport),
    )
    # A final fault ends the whole call, so which siblings were still sent is a race: one batch, one story.
    count = 1 if final else rng.choice([1, 5, 40, 150])
    texts = [f"text {number}" for number in rng.choices(range(10_000), k=count)]
    try:
        outcome: Any = use(encoder, texts)
    except SparseEmbedError as error:
        outcome = (type(error), error.message, error.status, error.attempts, error.texts, error.partial)
    else:
        assert [v.indices[0] if isinstance(encoder, SparseEncoder) else int(v[0]) for v in outcome] == [
            int(text.split()[1]) for text in texts
        ], "a vector came back at another text's position"
    return outcome, provider.requests, encoder.usage


async def _drain(encoder: Any, texts: list[str]) -> list[Any]:
    return [vector async for vector in encoder.astream_documents(texts)]


@pytest.mark.parametrize("final", [False, True], ids=["recovers", "fails for good"])
@pytest.mark.parametrize("block", range(8))
def test_sync_and_async_agree_in_results_errors_requests_and_usage(block: int, final: bool) -> None:
    with no_wait():
        for seed in range(block, SEEDS, 8):
            sync = _run(seed, final, lambda encoder, texts: encoder.embed_documents(texts))
            asynchronous = _run(seed, final, lambda encoder, texts: asyncio.run(encoder.aembed_documents(texts)))
            assert sync == asynchronous, f"seed {seed}"
            assert isinstance(sync[0], tuple) == final, f"seed {seed}"


@pytest.mark.parametrize("block", range(4))
def test_streams_agree_too(block: int) -> None:
    with no_wait():
        for seed in range(block, SEEDS // 4, 4):
            sync = _run(seed, False, lambda encoder, texts: list(encoder.stream_documents(iter(texts))))
            asynchronous = _run(seed, False, lambda encoder, texts: asyncio.run(_drain(encoder, texts)))
            assert sync == asynchronous, f"seed {seed}"
