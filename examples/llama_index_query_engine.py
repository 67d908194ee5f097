"""Ask questions about Python's own documentation: hybrid retrieval with LlamaIndex and Qdrant.

    pip install '.[all]'
    python examples/llama_index_query_engine.py "how do I compare two values?"

With CHROMA_API_KEY set, Chroma Cloud computes the embeddings. Without it, a local provider in this process does, and
everything runs offline: BM25 (sparse) and hashed n-grams (dense).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pydoc_data.topics import topics

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from qdrant_client.models import Modifier, SparseVectorParams

from llama_index_sparse_embed import ChromaCloudEmbedding, ChromaCloudSparseEmbedding

QUESTION = "how do I delete a name with the del statement?"


@contextmanager
def embeddings() -> Iterator[tuple[ChromaCloudEmbedding, ChromaCloudSparseEmbedding]]:
    if os.environ.get("CHROMA_API_KEY"):
        yield ChromaCloudEmbedding(), ChromaCloudSparseEmbedding()
        return
    from sparse_embed.server import local_provider

    with local_provider() as url:
        yield (
            ChromaCloudEmbedding(model_name="local/hashing", api_key="any", base_url=url),
            ChromaCloudSparseEmbedding(model_name="local/bm25", api_key="any", base_url=url),
        )


def passages() -> list[TextNode]:
    """One node per paragraph, so that no splitter has to load a tokenizer."""
    return [
        TextNode(text=paragraph, metadata={"topic": topic})
        for topic, text in topics.items()
        for paragraph in text.split("\n\n")
        if len(paragraph.split()) > 20
    ]


def main(question: str = QUESTION) -> None:
    with embeddings() as (dense, sparse):
        store = QdrantVectorStore(
            "python-docs",
            client=QdrantClient(":memory:"),
            # BM25 leaves the weight of rare words (IDF) to the store. SPLADE models need no IDF.
            sparse_config=SparseVectorParams(modifier=Modifier.IDF) if "bm25" in sparse.model_name else None,
            index_doc_id=False,  # Qdrant in memory has no payload indexes, and warns
            **sparse.qdrant_kwargs(),
        )
        index = VectorStoreIndex(
            passages(), storage_context=StorageContext.from_defaults(vector_store=store), embed_model=dense
        )
        engine = index.as_query_engine(
            llm=MockLLM(),  # repeats its prompt: put your own model here
            vector_store_query_mode="hybrid",
            similarity_top_k=3,
            sparse_top_k=20,
            alpha=0.3,  # 0: only sparse, 1: only dense
        )
        response = engine.query(question)
        print("Question:", question)
        for hit in response.source_nodes:
            print(f"\n{hit.score:.3f}  {hit.metadata['topic']}\n{hit.text.strip()[:300]}")
        print("\nAnswer:", str(response).strip()[:500])


if __name__ == "__main__":
    main(*sys.argv[1:])
