"""Who is measured: name → environment, and a function of the stub's address that gives a function of texts.

Imports are inside: each contender runs in an environment of its own.
"""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

Embed = Callable[[list[str]], Any]
SPARSE = "pinecone-sparse-english-v0"


class Contender(NamedTuple):
    environment: str
    make: Callable[[str], Embed]


def core(base_url: str) -> Embed:
    from sparse_embed import SparseEncoder

    return SparseEncoder("pinecone", api_key="key", base_url=base_url).embed_documents


def acore(base_url: str) -> Embed:
    from sparse_embed import SparseEncoder

    return SparseEncoder("pinecone", api_key="key", base_url=base_url).aembed_documents


def core_chroma(base_url: str) -> Embed:
    from sparse_embed import SparseEncoder

    return SparseEncoder("chroma", api_key="key", base_url=base_url).embed_documents


def langchain(base_url: str) -> Embed:
    from langchain_sparse_embed import PineconeInferenceSparseEmbeddings

    return PineconeInferenceSparseEmbeddings(api_key="key", base_url=base_url).embed_documents


def alangchain(base_url: str) -> Embed:
    from langchain_sparse_embed import PineconeInferenceSparseEmbeddings

    return PineconeInferenceSparseEmbeddings(api_key="key", base_url=base_url).aembed_documents


def llama_index(base_url: str) -> Embed:
    from llama_index_sparse_embed import PineconeInferenceSparseEmbedding

    return PineconeInferenceSparseEmbedding(api_key="key", base_url=base_url).get_text_embedding_batch


def allama_index(base_url: str) -> Embed:
    from llama_index_sparse_embed import PineconeInferenceSparseEmbedding

    return PineconeInferenceSparseEmbedding(api_key="key", base_url=base_url).aget_text_embedding_batch


def floor(base_url: str) -> Embed:
    from benchmarks.floor import Threads

    return Threads(base_url)


def afloor(base_url: str) -> Embed:
    from benchmarks.floor import Tasks

    return Tasks(base_url).__call__


def _langchain_pinecone(base_url: str) -> Any:
    import os

    os.environ["PINECONE_CONTROLLER_HOST"] = base_url
    from langchain_pinecone import PineconeSparseEmbeddings

    class Offline(PineconeSparseEmbeddings):
        def validate_model_supported(self) -> "Offline":  # the stub lists no models
            return self

    return Offline(model=SPARSE, api_key="key")


def langchain_pinecone(base_url: str) -> Embed:
    return _langchain_pinecone(base_url).embed_documents


def alangchain_pinecone(base_url: str) -> Embed:
    return _langchain_pinecone(base_url).aembed_documents


def pinecone_sdk(base_url: str, size: int = 96) -> Embed:
    from pinecone import Pinecone

    client = Pinecone(api_key="key", host=base_url)

    def embed(texts: list[str]) -> list[Any]:
        found: list[Any] = []
        for at in range(0, len(texts), size):
            parameters = {"input_type": "passage", "truncate": "END"}
            found += client.inference.embed(model=SPARSE, inputs=texts[at : at + size], parameters=parameters).data
        return found

    return embed


def chromadb(base_url: str, size: int = 100) -> Embed:
    import os

    os.environ |= {"CHROMA_EMBED_URL": base_url, "CHROMA_API_KEY": "key"}
    from chromadb.utils.embedding_functions import ChromaCloudSpladeEmbeddingFunction

    function = ChromaCloudSpladeEmbeddingFunction()

    def embed(texts: list[str]) -> list[Any]:
        return [vector for at in range(0, len(texts), size) for vector in function(texts[at : at + size])]

    return embed


OURS = ""  # the environment that runs the benchmarks
CONTENDERS = {
    "sparse-embed": Contender(OURS, core),
    "sparse-embed async": Contender(OURS, acore),
    "sparse-embed, Chroma": Contender(OURS, core_chroma),
    "our LangChain class": Contender(OURS, langchain),
    "our LangChain class async": Contender(OURS, alangchain),
    "our LlamaIndex class": Contender(OURS, llama_index),
    "our LlamaIndex class async": Contender(OURS, allama_index),
    "floor": Contender(OURS, floor),
    "floor async": Contender(OURS, afloor),
    "langchain-pinecone": Contender("langchain-pinecone", langchain_pinecone),
    "langchain-pinecone async": Contender("langchain-pinecone", alangchain_pinecone),
    "pinecone SDK": Contender("pinecone", pinecone_sdk),
    "chromadb": Contender("chromadb", chromadb),
}


def caller(name: str, address: str) -> Embed:
    """A plain function for either kind; an asynchronous contender keeps one event loop, and so its connections."""
    runner = asyncio.Runner()

    async def make() -> Embed:  # on the loop: some clients look for it
        return CONTENDERS[name].make(address)

    embed = runner.run(make())
    return (lambda texts: runner.run(embed(texts))) if inspect.iscoroutinefunction(embed) else embed
