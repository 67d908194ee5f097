"""The LangChain snippet of README.md, unchanged, for type checkers. Never executed."""
# ruff: noqa: I001  sorted as in a reader's project, where these packages are third-party

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
