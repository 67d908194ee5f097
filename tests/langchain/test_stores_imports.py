"""A store's package is imported when its seam is asked for, and its absence is one clear sentence."""

import subprocess
import sys

import pytest


def run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_no_store_is_imported_before_its_seam_is_asked_for():
    stores = {"langchain_qdrant", "langchain_milvus", "langchain_pinecone", "pinecone", "chromadb", "qdrant_client"}
    ran = run(f"import sys, langchain_sparse_embed; print(*{stores} & sys.modules.keys())")
    assert (ran.stdout.strip(), ran.stderr) == ("", "")


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("as_qdrant", "langchain-qdrant"),
        ("as_milvus", "langchain-milvus"),
        ("as_pinecone", "langchain-pinecone"),
        ("as_chroma", "chromadb"),
    ],
)
def test_a_missing_package_is_named(method, package):
    ran = run(
        f"import sys; sys.modules['{package.replace('-', '_')}'] = None\n"
        f"from langchain_sparse_embed import ChromaCloudSparseEmbeddings as Sparse\n"
        f"Sparse().{method}()"
    )
    extra = method.removeprefix("as_")
    assert ran.stderr.splitlines()[-1] == (
        f"ImportError: {package} is not installed: pip install 'sparse-embed[{extra}]'"
    )
