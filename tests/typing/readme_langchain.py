"""The LangChain snippet of README.md, unchanged, for type checkers. Never executed."""
# ruff: noqa: I001, T201  sorted as in a reader's project, where these packages are third-party; and it prints
# pyright: standard
# (langchain-qdrant 1.1 declares a bare `dict`, which pyright's strict mode reports wherever `from_texts` is called.)

from langchain_qdrant import QdrantVectorStore, RetrievalMode
from langchain_sparse_embed import ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings

store = QdrantVectorStore.from_texts(
    ["Qdrant stores vectors.", "SPLADE expands terms.", "BM25 counts them."],
    embedding=ChromaCloudEmbeddings(),  # CHROMA_API_KEY in the environment
    sparse_embedding=ChromaCloudSparseEmbeddings().as_qdrant(),  # or PineconeInferenceSparseEmbeddings()
    retrieval_mode=RetrievalMode.HYBRID,
    location=":memory:",
)
for document in store.similarity_search("What counts terms?", k=2):
    print(document.page_content)
