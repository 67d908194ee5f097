"""What is missing is named, with the command that installs it."""

import subprocess
import sys

import pytest

MISSING = {
    "server": ("fastapi", "import sparse_embed.server", "fastapi: pip install 'sparse-embed[server]'"),
    "Ray": ("ray", "import sparse_embed.ray", "ray is not installed: pip install 'sparse-embed[ray]'"),
    "LlamaIndex on Ray": (
        "llama_index.ingestion.ray",
        "import llama_index_sparse_embed.ray",
        "llama-index-ingestion-ray is not installed: pip install 'sparse-embed[llama-index-ray]'",
    ),
    "Milvus for LlamaIndex": (
        "llama_index.vector_stores.milvus",
        "import llama_index_sparse_embed as l; l.ChromaCloudSparseEmbedding().as_milvus()",
        "pip install 'sparse-embed[milvus]'",
    ),
}


@pytest.mark.parametrize(("module", "body", "said"), MISSING.values(), ids=MISSING)
def test_a_missing_package_is_one_sentence(module, body, said):
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
{body}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said in done.stderr.splitlines()[-1]


def test_the_command_installs_an_extra_though_the_package_is_on_no_index():
    """pip takes the package that is installed, and looks only for what the extra adds (here: nothing)."""
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "sparse-embed[all]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("package", "call", "command"),
    [
        ("numpy", "to_numpy(vector)", "numpy is not installed: pip install 'sparse-embed[retrievers]'"),
        ("scipy", "to_scipy([vector])", "scipy is not installed: pip install scipy"),
        ("qdrant_client", "to_qdrant(vector)", "qdrant-client is not installed: pip install 'sparse-embed[qdrant]'"),
        ("pyarrow", "to_arrow([vector])", "pyarrow is not installed: pip install 'sparse-embed[bulk]'"),
        ("chromadb", "to_chroma(vector)", "chromadb is not installed: pip install 'sparse-embed[chroma]'"),
    ],
)
def test_a_conversion_without_its_package_names_what_installs_it(package, call, command):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from sparse_embed import SparseVector\n"
        "from sparse_embed.convert import *\n"
        f"vector = SparseVector([1], [1.0]); {call}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"ImportError: {command}" in done.stderr.splitlines()[-1]
