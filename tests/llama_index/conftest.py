import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llama_index_sparse_embed import (
    ChromaCloudEmbedding,
    ChromaCloudSparseEmbedding,
    PineconeInferenceEmbedding,
    PineconeInferenceSparseEmbedding,
)
from sparse_embed.server import local_provider
from sparse_embed.testing import fake_clients

DENSE = (ChromaCloudEmbedding, PineconeInferenceEmbedding)
SPARSE = (ChromaCloudSparseEmbedding, PineconeInferenceSparseEmbedding)
KEY_VARIABLES = {"Chroma": "CHROMA_API_KEY", "Pinecone": "PINECONE_API_KEY"}


class Wire:
    """Requests as they leave; an answer comes without a network."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.clients = fake_clients()
        self.clients["http_client"].event_hooks = {"request": [self.requests.append]}
        self.clients["http_async_client"].event_hooks = {"request": [self._anote]}

    async def _anote(self, request: httpx.Request) -> None:
        self.requests.append(request)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    with local_provider() as url:
        yield url


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHROMA_API_KEY", "CHROMA_EMBED_URL", "PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=[*DENSE, *SPARSE], ids=lambda cls: cls.__name__)
def cls(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def local(cls: Any, provider: str) -> Any:
    """An object of each class on the local provider."""
    model = "local/hashing" if cls in DENSE else "local/bm25"
    return cls(model_name=model, api_key="any", base_url=provider)


@pytest.fixture
def key_variable(cls: Any) -> str:
    return next(variable for name, variable in KEY_VARIABLES.items() if cls.__name__.startswith(name))


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """Call a method by its sync name, or its async twin."""

    async def calling(target: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(target, name)(*args, **kwargs)
        return await getattr(target, f"a{name}")(*args, **kwargs)

    return calling
