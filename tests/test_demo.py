"""The demo runs without an account, and says in one line why it cannot run with one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparse_embed.cli import app

COMMAND = Path(sys.executable).parent / "sparse-embed"


def test_the_demo_finds_passages_with_both_frameworks_and_leaves_nothing_on_stderr() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHROMA_", "PINECONE_"))}
    result = subprocess.run(
        [COMMAND, "demo"],
        env=clean | {"COLUMNS": "140"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for expected in ("LangChain, ChromaCloudSparseEmbeddings", "LlamaIndex, PineconeInferenceSparseEmbedding"):
        assert expected in result.stdout
    assert result.stdout.count("│ yield ") >= 2, "both find the topic yield for the question about yield"
    assert "yield 3." in result.stdout, "a matched term with its weight"


@pytest.mark.parametrize(("provider", "variable"), [("chroma", "CHROMA_API_KEY"), ("pinecone", "PINECONE_API_KEY")])
def test_a_real_provider_without_a_key_is_one_line(provider: str, variable: str) -> None:
    result = CliRunner().invoke(app, ["demo", "--provider", provider], env={variable: None})
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [f"ConfigurationError: no API key: set {variable} or pass api_key="]
