"""Question answering over Python's own reference, with hybrid retrieval: dense and sparse vectors in one Qdrant store.

    pip install '.[all]'
    python examples/langchain_rag.py "When is the else clause of a loop executed?"

With CHROMA_API_KEY set, Chroma Cloud computes the embeddings. Without it, a local provider in this process does, and
everything runs offline: BM25 (sparse) and hashed n-grams (dense).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pydoc_data.topics import topics
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_qdrant import QdrantVectorStore, RetrievalMode

from langchain_sparse_embed import ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings
from sparse_embed.server import local_provider

PROMPT = ChatPromptTemplate.from_template("Answer from these passages only.\n\n{passages}\n\nQuestion: {question}")


@contextmanager
def embeddings() -> Iterator[tuple[ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings]]:
    """A dense and a sparse model."""
    if os.environ.get("CHROMA_API_KEY"):
        yield ChromaCloudEmbeddings(), ChromaCloudSparseEmbeddings()
        return
    with local_provider() as url:
        yield (
            ChromaCloudEmbeddings(model="local/hashing", base_url=url, api_key="local"),
            ChromaCloudSparseEmbeddings(model="local/bm25", base_url=url, api_key="local"),
        )


def paragraphs() -> list[Document]:
    """The language reference from Python's own help; a paragraph that appears under two topics is kept once."""
    found = {paragraph: topic for topic, text in topics.items() for paragraph in text.split("\n\n")}
    return [Document(text, metadata={"topic": topic}) for text, topic in found.items() if len(text) > 100]


def as_text(inputs: dict[str, Any]) -> dict[str, str]:
    """The passages joined into one text, for the prompt."""
    return {**inputs, "passages": "\n\n".join(passage.page_content for passage in inputs["passages"])}


def chat_model() -> BaseChatModel:
    """A placeholder that needs no key: put your own chat model here."""
    return FakeListChatModel(responses=["(A chat model would answer here, from the passages above.)"])


def main(question: str = "When is the else clause of a loop executed?") -> None:
    with embeddings() as (dense, sparse):
        store = QdrantVectorStore.from_documents(
            paragraphs(),
            embedding=dense,
            sparse_embedding=sparse,
            retrieval_mode=RetrievalMode.HYBRID,
            location=":memory:",
        )
        retriever = store.as_retriever(search_kwargs={"k": 4})
        answer = RunnableLambda(as_text) | PROMPT | chat_model() | StrOutputParser()
        chain = {"passages": retriever, "question": RunnablePassthrough()} | RunnablePassthrough.assign(answer=answer)
        result = chain.invoke(question)
    print(f"Question: {question}\n")
    for passage in result["passages"]:
        print(f"[{passage.metadata['topic']}]\n{passage.page_content}\n")
    print(f"Answer: {result['answer']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
