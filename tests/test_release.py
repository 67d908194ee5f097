"""What a release rests on: one version, workflows that name what exists, and code that loads on Windows."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import sparse_embed

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_written_in_one_place() -> None:
    assert version("sparse-embed") == sparse_embed.__version__
    assert "version" in PROJECT["dynamic"]


def test_ci_tests_every_promised_python() -> None:
    prefix = "Programming Language :: Python :: "
    promised = {name.removeprefix(prefix) for name in PROJECT["classifiers"] if re.match(rf"{prefix}3\.\d", name)}
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert set(jobs["test"]["strategy"]["matrix"]["python"]) == promised


def test_workflows_call_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for workflow in WORKFLOWS:
        text = workflow.read_text()
        called = re.findall(r"run: make ([a-z0-9 -]+)$", text, re.MULTILINE)
        called += re.findall(r"\btarget: \[?([a-z0-9-]+)", text)
        assert {target for line in called for target in line.split()} <= targets, workflow.name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_every_action_is_pinned_to_a_commit_and_names_its_version(workflow: Path) -> None:
    for used in re.findall(r"uses: (.+)$", workflow.read_text(), re.MULTILINE):
        assert used.startswith("./") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", used), used


# Other packages, and the standard library, choose by the system when they load: they load first, as they are.
AS_ON_WINDOWS = """
import asyncio, os, pkgutil, re, signal, sys, tempfile
from importlib import import_module

PACKAGES = ("sparse_embed", "langchain_sparse_embed", "llama_index_sparse_embed")
# The first runs when imported; the others need Milvus, torch or Ray, which have environments of their own.
SKIPPED = r"[.]__main__|[.]stores[.]milvus|[.]transformers|[.]splade_head|[.]ray"

def load_all():
    for package in PACKAGES:
        for found in pkgutil.walk_packages(import_module(package).__path__, package + "."):
            if not re.search(SKIPPED, found.name):
                import_module(found.name)

load_all()
for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
    del sys.modules[name]
for name in ("fcntl", "grp", "pwd", "resource", "termios", "uvloop"):
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "getuid", "geteuid"):
    delattr(os, name)
for name in vars(signal).copy():
    if re.match("SIG[A-Z]", name) and name not in ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"):
        delattr(signal, name)
load_all()

from sparse_embed import SparseEncoder
from sparse_embed.server import local_provider

with tempfile.TemporaryDirectory() as folder, local_provider() as url:
    encoder = SparseEncoder("chroma", model="local/bm25", base_url=url, api_key="any", cache=folder + "/vectors.sqlite")
    texts = [f"text {number}" for number in range(250)]
    assert len(encoder.embed_documents(texts)) == 250
    assert asyncio.run(encoder.aembed_query("text")).nnz == 1
    encoder.close()
print("loaded and used")
"""


def test_nothing_posix_only_is_imported_or_called_at_load() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    assert done.stdout == "loaded and used\n", done.stderr
