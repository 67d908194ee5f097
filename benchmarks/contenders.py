"""What is measured: for each contender its environment, and how to get its embedding method for a provider's address.

Packages are imported when a contender is made, since each contender runs in its own environment.
"""

import asyncio
import inspect
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

Embed = Callable[[list[str]], Any]
Make = Callable[[str], Embed]


def ours(cls: str, method: str, *given: str) -> Make:
    """Make an object of one of our classes, and take its method."""
    module, _, name = cls.rpartition(".")

    def make(base_url: str) -> Embed:
        embedder = getattr(import_module(module), name)(*given, api_key="key", base_url=base_url)
        embed: Embed = getattr(embedder, method)
        return embed

    return make


def floor(base_url: str) -> Embed:
    from benchmarks.floor import Threads

    return Threads(base_url)


def floor_async(base_url: str) -> Embed:
    from benchmarks.floor import Tasks

    return Tasks(base_url).__call__


def langchain_pinecone(method: str) -> Make:
    def make(base_url: str) -> Embed:
        os.environ["PINECONE_CONTROLLER_HOST"] = base_url
        from langchain_pinecone import PineconeSparseEmbeddings

        class Offline(PineconeSparseEmbeddings):
            def validate_model_supported(self) -> "Offline":  # the stub does not list models
                return self

        embed: Embed = getattr(Offline(model="pinecone-sparse-english-v0", api_key="key"), method)
        return embed

    return make


def pinecone_sdk(base_url: str, size: int = 96) -> Embed:
    from pinecone import Pinecone

    client = Pinecone(api_key="key", host=base_url)
    options = {"model": "pinecone-sparse-english-v0", "parameters": {"input_type": "passage", "truncate": "END"}}

    def embed(texts: list[str]) -> list[Any]:
        batches = (texts[at : at + size] for at in range(0, len(texts), size))
        return [item for batch in batches for item in client.inference.embed(inputs=batch, **options).data]

    return embed


def chromadb(base_url: str, size: int = 100) -> Embed:
    os.environ |= {"CHROMA_EMBED_URL": base_url, "CHROMA_API_KEY": "key"}
    from chromadb.utils.embedding_functions import ChromaCloudSpladeEmbeddingFunction

    function = ChromaCloudSpladeEmbeddingFunction()
    return lambda texts: [item for at in range(0, len(texts), size) for item in function(texts[at : at + size])]


class Contender(NamedTuple):
    environment: str
    make: Make


OURS = ""  # the environment that runs the benchmarks
CORE = "sparse_embed.SparseEncoder"
LANGCHAIN = "langchain_sparse_embed.PineconeInferenceSparseEmbeddings"
LLAMA_INDEX = "llama_index_sparse_embed.PineconeInferenceSparseEmbedding"
CONTENDERS = {
    "sparse-embed": Contender(OURS, ours(CORE, "embed_documents", "pinecone")),
    "sparse-embed async": Contender(OURS, ours(CORE, "aembed_documents", "pinecone")),
    "sparse-embed, Chroma": Contender(OURS, ours(CORE, "embed_documents", "chroma")),
    "our LangChain class": Contender(OURS, ours(LANGCHAIN, "embed_documents")),
    "our LangChain class async": Contender(OURS, ours(LANGCHAIN, "aembed_documents")),
    "our LlamaIndex class": Contender(OURS, ours(LLAMA_INDEX, "get_text_embedding_batch")),
    "our LlamaIndex class async": Contender(OURS, ours(LLAMA_INDEX, "aget_text_embedding_batch")),
    "floor": Contender(OURS, floor),
    "floor async": Contender(OURS, floor_async),
    "langchain-pinecone": Contender("langchain-pinecone", langchain_pinecone("embed_documents")),
    "langchain-pinecone async": Contender("langchain-pinecone", langchain_pinecone("aembed_documents")),
    "pinecone SDK": Contender("pinecone", pinecone_sdk),
    "chromadb": Contender("chromadb", chromadb),
}


def caller(name: str, address: str) -> Embed:
    """Make a contender a plain function. An asynchronous one keeps its event loop, and so its connections."""
    runner = asyncio.Runner()

    async def make() -> Embed:  # some clients need a running loop when they are made
        return CONTENDERS[name].make(address)

    embed = runner.run(make())
    return (lambda texts: runner.run(embed(texts))) if inspect.iscoroutinefunction(embed) else embed
