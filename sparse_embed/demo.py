"""The demo: hybrid search over real English text, through LangChain and through LlamaIndex.

The text is Python's own language reference, which every installation of Python contains. Unless a provider is named, a
local one is started on a free port and nothing leaves the machine. LangChain then uses Chroma's wire format, and
LlamaIndex Pinecone's. It can run open models, from a folder or downloaded before.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pydoc_data.topics import topics
from time import perf_counter
from typing import Any, Literal, NamedTuple

from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore as LangChainStore
from langchain_qdrant import RetrievalMode
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexStore
from qdrant_client import QdrantClient
from qdrant_client.models import Modifier, SparseVectorParams
from rich.console import Console
from rich.table import Table

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceEmbeddings,
    PineconeInferenceSparseEmbeddings,
)
from llama_index_sparse_embed import (
    ChromaCloudEmbedding,
    ChromaCloudSparseEmbedding,
    PineconeInferenceEmbedding,
    PineconeInferenceSparseEmbedding,
)
from sparse_embed.encoder import SparseEncoder
from sparse_embed.explanation import explain
from sparse_embed.server import local_provider

QUESTIONS = (
    "What does the finally clause do with an exception that was not handled?",
    "What does a yield expression return when the generator is resumed?",
    "Which method is called when an attribute is not found?",
)
PASSAGE_WORDS = 80
SHOWN = 3
LANGCHAIN: dict[str, tuple[Any, Any]] = {
    "chroma": (ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings),
    "pinecone": (PineconeInferenceEmbeddings, PineconeInferenceSparseEmbeddings),
}
LLAMA_INDEX: dict[str, tuple[Any, Any]] = {
    "chroma": (ChromaCloudEmbedding, ChromaCloudSparseEmbedding),
    "pinecone": (PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding),
}


class Hit(NamedTuple):
    """One ranked passage."""

    score: float
    topic: str
    text: str


Search = Callable[[str], list[Hit]]


class Setup(NamedTuple):
    """One provider and how to reach it; without `models`, its default models are used."""

    provider: Literal["chroma", "pinecone"]
    address: dict[str, str]
    models: dict[Literal["sparse", "dense"], str]

    def arguments(self, kind: Literal["sparse", "dense"], model: str = "model") -> dict[str, Any]:
        """Arguments for a class of either framework; `model` is the name of its model argument."""
        return self.address | ({model: self.models[kind]} if kind in self.models else {})


def passages() -> list[Document]:
    """Python's language reference, split into passages of up to 80 words."""
    documents = []
    for topic, text in sorted(topics.items()):
        words = re.sub(r"[*=~^`|+-]{2,}", " ", text).split()
        for start in range(0, len(words), PASSAGE_WORDS):
            passage = " ".join(words[start : start + PASSAGE_WORDS])
            documents.append(Document(passage, metadata={"topic": topic}))
    return documents


def run(
    provider: Literal["chroma", "pinecone"] | None,
    console: Console,
    *,
    sparse_model: str | None = None,
    dense_model: str | None = None,
) -> None:
    """Index the passages and search them, once with each framework.

    Args:
        provider: A real provider, with its key in the environment; None starts a local one.
        console: Where to print.
        sparse_model: A model with weights for the local one, ``NAME`` or ``NAME=PATH``; None for BM25.
        dense_model: The same, dense; None for hashed n-grams.

    Raises:
        SparseEmbedError: The real provider cannot be used.
        ModelError: A model cannot be served.
    """
    documents = passages()
    console.print(
        f"{len(documents)} passages of Python's language reference, hybrid search (sparse + dense) in Qdrant\n"
    )
    with _setups(provider, console, sparse_model, dense_model) as (for_langchain, for_llama_index):
        for framework, setup, index in (
            ("LangChain", for_langchain, _with_langchain),
            ("LlamaIndex", for_llama_index, _with_llama_index),
        ):
            start = perf_counter()
            search, sparse_name = index(setup, documents)
            seconds = perf_counter() - start
            console.print(f"[bold]{framework}[/], {sparse_name}: indexed in {seconds:.1f} s")
            with SparseEncoder(setup.provider, return_tokens=True, **setup.arguments("sparse")) as encoder:
                for question in QUESTIONS:
                    console.print(_table(question, search(question), encoder))
            console.print()


@contextmanager
def _setups(
    provider: Literal["chroma", "pinecone"] | None, console: Console, sparse_model: str | None, dense_model: str | None
) -> Iterator[tuple[Setup, Setup]]:
    if provider is not None:
        setup = Setup(provider, {}, {})
        yield setup, setup
        return
    models: dict[Literal["sparse", "dense"], str] = {
        "sparse": _name(sparse_model) or "local/bm25",
        "dense": _name(dense_model) or "local/hashing",
    }
    with local_provider(models=[option for option in (sparse_model, dense_model) if option]) as url:
        described = {"local/bm25": "BM25", "local/hashing": "hashed character n-grams, no semantics"}
        sparse, dense = (described.get(name, name) for name in models.values())
        console.print(f"Local provider on {url}: {sparse} (sparse) and {dense} (dense)\n")
        address = {"base_url": url, "api_key": "local"}
        yield Setup("chroma", address, models), Setup("pinecone", address, models)


def _name(option: str | None) -> str:
    return (option or "").partition("=")[0]


# BM25 leaves the weight of rare terms (IDF) to the store; learned models such as SPLADE include it.
def _modifier(setup: Setup) -> Modifier | None:
    return Modifier.IDF if setup.models.get("sparse") == "local/bm25" else None


def _with_langchain(setup: Setup, documents: list[Document]) -> tuple[Search, str]:
    dense_class, sparse_class = LANGCHAIN[setup.provider]
    sparse = sparse_class(**setup.arguments("sparse"))
    store = LangChainStore.from_documents(
        documents,
        embedding=dense_class(**setup.arguments("dense")),
        sparse_embedding=sparse.as_qdrant(),
        retrieval_mode=RetrievalMode.HYBRID,
        location=":memory:",
        collection_name="demo",
        sparse_vector_params={"modifier": _modifier(setup)},
        batch_size=len(documents),
    )

    def search(question: str) -> list[Hit]:
        found = store.similarity_search_with_score(question, k=SHOWN)
        return [Hit(score, document.metadata["topic"], document.page_content) for document, score in found]

    return search, sparse_class.__name__


def _with_llama_index(setup: Setup, documents: list[Document]) -> tuple[Search, str]:
    dense_class, sparse_class = LLAMA_INDEX[setup.provider]
    sparse = sparse_class(**setup.arguments("sparse", model="model_name"))
    store = LlamaIndexStore(
        "demo",
        client=QdrantClient(":memory:"),
        batch_size=len(documents),
        sparse_config=SparseVectorParams(modifier=_modifier(setup)),
        **sparse.qdrant_kwargs(),
    )
    with warnings.catch_warnings():
        # llama-index-vector-stores-qdrant 0.10 creates a payload index, which Qdrant's local mode does not need.
        warnings.filterwarnings("ignore", "Payload indexes have no effect in the local Qdrant")
        index = VectorStoreIndex(
            [TextNode(text=document.page_content, metadata=document.metadata) for document in documents],
            storage_context=StorageContext.from_defaults(vector_store=store),
            embed_model=dense_class(**setup.arguments("dense", model="model_name")),
        )
    retriever = index.as_retriever(
        vector_store_query_mode=VectorStoreQueryMode.HYBRID, similarity_top_k=SHOWN, sparse_top_k=SHOWN
    )

    def search(question: str) -> list[Hit]:
        return [Hit(node.score or 0.0, node.metadata["topic"], node.text) for node in retriever.retrieve(question)]

    return search, sparse_class.__name__


def _table(question: str, hits: list[Hit], encoder: SparseEncoder) -> Table:
    table = Table(title=f"\n{question}", title_justify="left", title_style="bold cyan", expand=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("topic", no_wrap=True, ratio=1)
    table.add_column("terms that matched", ratio=2)
    table.add_column("passage", ratio=4)
    query = encoder.embed_query(question)
    for hit, vector in zip(hits, encoder.embed_documents([hit.text for hit in hits]), strict=True):
        terms = ", ".join(f"{match.term} {match.product:.2f}" for match in explain(query, vector).contributions[:4])
        table.add_row(f"{hit.score:.3f}", hit.topic, terms or "none (dense only)", f"{hit.text[:110]} …")
    return table
