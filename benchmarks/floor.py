"""The floor: the shortest concurrent client that one would write by hand with httpx and orjson.

It has no retries, no checks and no errors of its own. What remains is the cost of HTTP and of parsing JSON.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import orjson

IN_FLIGHT = 16
BATCH = 96
HEADERS = {"Api-Key": "key", "X-Pinecone-Api-Version": "2025-10", "content-type": "application/json"}


def request(texts: list[str], input_type: str = "passage") -> bytes:
    return orjson.dumps(
        {
            "model": "pinecone-sparse-english-v0",
            "inputs": [{"text": text} for text in texts],
            "parameters": {"input_type": input_type, "truncate": "END"},
        }
    )


def batches(texts: list[str]) -> list[list[str]]:
    return [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]


class Threads:
    def __init__(self, base_url: str) -> None:
        self.url = f"{base_url}/embed"
        self.client = httpx.Client()
        self.pool = ThreadPoolExecutor(IN_FLIGHT)

    def one(self, texts: list[str]) -> list[Any]:
        response = self.client.post(self.url, content=request(texts), headers=HEADERS)
        return orjson.loads(response.content)["data"]

    def __call__(self, texts: list[str]) -> list[Any]:
        return [item for items in self.pool.map(self.one, batches(texts)) for item in items]


class Tasks:
    def __init__(self, base_url: str) -> None:
        self.url = f"{base_url}/embed"
        self.client = httpx.AsyncClient()
        self.permits = asyncio.Semaphore(IN_FLIGHT)

    async def one(self, texts: list[str]) -> list[Any]:
        async with self.permits:
            response = await self.client.post(self.url, content=request(texts), headers=HEADERS)
            return orjson.loads(response.content)["data"]

    async def __call__(self, texts: list[str]) -> list[Any]:
        answers = await asyncio.gather(*map(self.one, batches(texts)))
        return [item for items in answers for item in items]
