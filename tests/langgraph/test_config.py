"""``langgraph.json``: its own tools read the example, and its server runs it."""

import importlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langgraph_cli.config import validate_config_file
from langgraph_sdk import get_sync_client

from langchain_sparse_embed import ChromaCloudEmbeddings
from sparse_embed import ConfigurationError
from sparse_embed.server import local_provider

EXAMPLE = Path(__file__).parents[2] / "examples" / "langgraph"
KEY = "key-of-the-environment"


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A provider in Chroma's place, which accepts the environment's key alone."""
    with local_provider(api_key=KEY, stand_in=True) as url:
        monkeypatch.setenv("CHROMA_EMBED_URL", url)
        monkeypatch.setenv("CHROMA_API_KEY", KEY)
        yield url


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Embeddings]:
    """The function with which langgraph's server reads ``store.index``."""
    for name, value in {"DATABASE_URI": ":memory:", "REDIS_URI": "fake", "LANGGRAPH_RUNTIME_EDITION": "inmem"}.items():
        monkeypatch.setenv(name, value)  # as `langgraph dev` sets them, before the import
    return importlib.import_module("langgraph_api.graph").resolve_embeddings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, and where the loader looks from."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_is_valid_and_its_embeddings_are_loaded_as_they_are(folder: Path, load: Any) -> None:
    config = validate_config_file(folder / "langgraph.json")
    assert config["store"] is not None
    index = config["store"]["index"]
    embeddings = load(dict(index))
    assert isinstance(embeddings, ChromaCloudEmbeddings)
    with closing(embeddings):
        assert len(embeddings.embed_query("fox")) == index["dims"]
    assert KEY not in "".join(path.read_text() for path in folder.iterdir() if path.is_file())


def test_the_server_finds_notes_by_meaning(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=os.environ | quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said: list[str] = []
            while "Application started up" not in (line := server.stdout.readline()):
                said.append(line)
                assert line, "".join(said)  # the server ended
            notes = "The walrus operator binds a name.", "A lazy dog sleeps.", "Walrus operators bind names."
            with get_sync_client(url=f"http://127.0.0.1:{port}") as client:  # tries again until the port is open
                for note in notes:
                    state = client.runs.wait(None, "notes", input={"note": note})
            assert state["remembered"][0] == notes[0]
        finally:
            server.terminate()


def test_a_file_that_names_another_host_does_not_get_the_environments_key(folder: Path, load: Any) -> None:
    source = (folder / "notes.py").read_text()
    changed = source.replace('("chroma")', '("chroma", base_url="https://elsewhere.example")')
    assert changed != source
    (folder / "elsewhere.py").write_text(changed)
    embeddings = load({"embed": "./elsewhere.py:embeddings", "dims": 1024})
    with pytest.raises(ConfigurationError, match=r"is not sent to elsewhere\.example") as caught:
        embeddings.embed_query("fox")
    assert KEY not in str(caught.value)
