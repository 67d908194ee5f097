"""Real weights behind the real wires: meaning, official clients, both frameworks, and the demo."""

import asyncio
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import httpx
import numpy as np
import pinecone
import pytest
from chromadb.utils.embedding_functions import ChromaCloudQwenEmbeddingFunction, ChromaCloudSpladeEmbeddingFunction
from chromadb.utils.embedding_functions.chroma_cloud_qwen_embedding_function import ChromaCloudQwenEmbeddingModel
from langchain_core.documents import Document
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore as LlamaIndexStore
from qdrant_client import QdrantClient
from sentence_transformers import SentenceTransformer, SparseEncoder

import sparse_embed
from langchain_sparse_embed import ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings
from llama_index_sparse_embed import PineconeInferenceEmbedding, PineconeInferenceSparseEmbedding
from sparse_embed.server import local_provider

KEY = "models-test-key"
SPLADE, MINILM = "prithivida/Splade_PP_en_v1", "sentence-transformers/all-MiniLM-L6-v2"
QUESTION = "how to treat a headache"
PASSAGES = [
    "The stock market fell sharply on Monday as investors sold shares.",
    "Migraine pain is often relieved by ibuprofen, rest and a dark room.",
    "Knead the dough and let the bread rise for an hour.",
    "The treaty between the two kingdoms ended a long war.",
    "Plants turn sunlight into sugar in their leaves.",
]
ANSWER = PASSAGES[1]


@pytest.fixture(scope="module")
def url(weights):
    models = [f"{SPLADE}={weights / 'splade'}", f"{MINILM}={weights / 'minilm'}"]
    with local_provider(api_key=KEY, models=models) as url:
        yield url


@pytest.fixture(scope="module")
def reference(weights):
    """What sentence-transformers gives for each text alone: sparse and dense vectors of documents."""
    sparse = SparseEncoder(str(weights / "splade"), device="cpu", local_files_only=True)
    dense = SentenceTransformer(str(weights / "minilm"), device="cpu", local_files_only=True)
    return (
        [sparse.encode_document(text, convert_to_sparse_tensor=False).numpy() for text in PASSAGES],
        [dense.encode_document(text) for text in PASSAGES],
    )


@pytest.fixture
def official(url, monkeypatch):
    monkeypatch.setenv("CHROMA_EMBED_URL", url)
    monkeypatch.setenv("CHROMA_API_KEY", KEY)


def assert_same(vector, expected):
    weights = np.zeros_like(expected)
    weights[list(vector.indices)] = vector.values
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_the_question_and_its_answer_share_no_word():
    assert not {*re.findall(r"\w+", QUESTION.lower())} & ({*re.findall(r"\w+", ANSWER.lower())} - {"a"})


def test_chromadbs_functions_get_the_vectors_of_sentence_transformers_and_so_do_we(official, reference):
    function = ChromaCloudSpladeEmbeddingFunction(include_tokens=True)
    theirs = function(PASSAGES)
    ours = sparse_embed.SparseEncoder("chroma", return_tokens=True).embed_documents(PASSAGES)
    for vector, own, expected in zip(theirs, ours, reference[0], strict=True):
        assert_same(vector, expected)
        assert_same(own, expected)
        assert list(own.tokens) == vector.labels
    assert "##raine" in ours[1].tokens
    function.close()


def test_pinecones_sdk_gets_the_vectors_of_sentence_transformers_and_so_do_we(url, reference):
    client = pinecone.Pinecone(api_key=KEY, host=url)
    parameters = {"input_type": "passage", "truncate": "END"}
    sparse = client.inference.embed(model=SPLADE, inputs=PASSAGES, parameters=parameters | {"return_tokens": True})
    dense = client.inference.embed(model=MINILM, inputs=PASSAGES, parameters=parameters)
    options = {"base_url": url, "api_key": KEY}
    own_sparse = sparse_embed.SparseEncoder("pinecone", model=SPLADE, **options).embed_documents(PASSAGES)
    own_dense = sparse_embed.DenseEncoder("pinecone", model=MINILM, **options).embed_documents(PASSAGES)
    for at, expected in enumerate(reference[0]):
        item = sparse.data[at]
        vector = sparse_embed.SparseVector(item["sparse_indices"], item["sparse_values"], item["sparse_tokens"])
        assert_same(vector, expected)
        assert_same(own_sparse[at], expected)
    np.testing.assert_allclose([item["values"] for item in dense.data], reference[1], atol=1e-5)
    np.testing.assert_allclose(own_dense, reference[1], atol=1e-5)
    assert dense.usage["total_tokens"] == sparse.usage["total_tokens"] > 50


async def test_asyncio_and_threads_get_the_same_at_once(url, reference):
    encoder = sparse_embed.SparseEncoder("chroma", model=SPLADE, base_url=url, api_key=KEY, batch_size=2)
    answers = await asyncio.gather(
        *(encoder.aembed_documents(PASSAGES) for _ in range(5)),
        *(asyncio.to_thread(encoder.embed_documents, PASSAGES) for _ in range(5)),
    )
    for vectors in answers:
        for vector, expected in zip(vectors, reference[0], strict=True):
            assert_same(vector, expected)


@pytest.mark.parametrize("mode", [RetrievalMode.SPARSE, RetrievalMode.DENSE, RetrievalMode.HYBRID])
def test_langchain_finds_the_passage_that_shares_no_word(url, mode):
    options = {"base_url": url, "api_key": KEY}
    store = QdrantVectorStore.from_documents(
        [Document(text) for text in PASSAGES],
        embedding=ChromaCloudEmbeddings(model=MINILM, **options),
        sparse_embedding=ChromaCloudSparseEmbeddings(model=SPLADE, **options).as_qdrant(),
        retrieval_mode=mode,
        location=":memory:",
    )
    assert store.similarity_search(QUESTION, k=1)[0].page_content == ANSWER


@pytest.mark.parametrize(
    "mode", [VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID]
)
def test_llama_index_finds_the_passage_that_shares_no_word(url, mode):
    options = {"base_url": url, "api_key": KEY}
    sparse = PineconeInferenceSparseEmbedding(model_name=SPLADE, **options)
    store = LlamaIndexStore("docs", client=QdrantClient(":memory:"), **sparse.qdrant_kwargs())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect in the local Qdrant")
        index = VectorStoreIndex(
            [TextNode(text=text) for text in PASSAGES],
            storage_context=StorageContext.from_defaults(vector_store=store),
            embed_model=PineconeInferenceEmbedding(model_name=MINILM, **options),
        )
    retriever = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=1, sparse_top_k=1)
    assert retriever.retrieve(QUESTION)[0].text == ANSWER


def test_chromas_instructions_are_refused_by_a_model_without_prompts(official, monkeypatch):
    monkeypatch.setattr(ChromaCloudQwenEmbeddingModel.QWEN3_EMBEDDING_0p6B, "_value_", MINILM)
    function = ChromaCloudQwenEmbeddingFunction(ChromaCloudQwenEmbeddingModel.QWEN3_EMBEDDING_0p6B, task="nl_to_code")
    assert len(function(["def f(): pass"])[0]) == 384  # for documents chromadb's text is empty
    with pytest.raises(RuntimeError, match="not trained with instructions"):
        function.embed_query(["how to define a function"])
    function._session.close()


# --- the command line ---------------------------------------------------------------------------------------------


COMMAND = str(Path(sys.executable).parent / "sparse-embed")


def test_serve_announces_its_port_when_the_models_are_loaded_and_logs_json(weights, tmp_path):
    options = ["--model", f"{SPLADE}={weights / 'splade'}", "--threads", "1", "--log-level", "info"]
    command = [COMMAND, "serve", "--port", "0", "--log-format", "json", *options]
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            first = process.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+", first).group()
            assert httpx.get(f"{url}/health").json() == {"status": "ok"}
            encoder = sparse_embed.SparseEncoder("chroma", model=SPLADE, base_url=url, api_key="any")
            assert encoder.embed_query(QUESTION).nnz > 5
            process.send_signal(signal.SIGINT)
            out = process.stdout.read()
            assert process.wait(30) == 0
        finally:
            process.kill()
    err = log.read_text()
    assert f"{SPLADE} (sparse)" in out
    assert "Traceback" not in err
    assert re.search(r'"path": "/embed_sparse", "status": 200, .*"texts": 1, "tokens": 7', err)
    assert QUESTION not in out + err


def test_a_model_that_cannot_be_loaded_ends_the_server_with_a_sentence(weights, tmp_path):
    (tmp_path / "config.json").write_bytes((weights / "splade" / "config.json").read_bytes())
    command = [COMMAND, "serve", "--port", "0", "--model", f"mine={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"model mine: {tmp_path} cannot be loaded: OSError: ")


def test_an_absent_model_says_how_it_is_fetched_and_asks_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there: a request would be an error
    done = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--model", "BAAI/bge-m3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "sparse-embed serve --model BAAI/bge-m3 --download" in done.stderr
    assert done.stderr.count("\n") == 1
