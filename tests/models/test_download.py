"""Only ``--download`` asks the hub, and fetches what is needed; afterwards the model is there without it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.models.hub import NAME, commit_of, hub

COMMAND = str(Path(sys.executable).parent / "sparse-embed")
NOT_NEEDED = {"pytorch_model.bin": b"the same again", "onnx/model.onnx": b"again", "model.onnx": b"again"}


@pytest.fixture
def files(folder) -> Mapping[str, bytes]:
    at = folder("bert")
    return {str(file.relative_to(at)): file.read_bytes() for file in at.rglob("*") if file.is_file()}


def find(home: Path, endpoint: str | None, **options: object) -> subprocess.CompletedProcess[str]:
    """`find_files` in a process of its own: the hub's client reads its environment once. No endpoint: no hub."""
    code = f"from sparse_embed.server.engines.weights import *\nprint(find_files({NAME!r}, **{options!r}))"
    environment = os.environ | {"HF_HOME": str(home)}
    environment |= {"HF_HUB_OFFLINE": "1"} if endpoint is None else {"HF_ENDPOINT": endpoint}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@contextmanager
def serve(home: Path, endpoint: str, *options: str) -> Iterator[str]:
    environment = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint}
    command = [COMMAND, "serve", "--port", "0", "--threads", "1", "--model", f"mine={NAME}", *options]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[3]
        finally:
            process.terminate()


def revision_of(url: str) -> str:
    models = httpx.get(f"{url}/info", headers={"api-key": "any"}).raise_for_status().json()["models"]
    return str(next(model["revision"] for model in models if model["name"] == "mine"))


def test_a_revision_is_fetched_once_and_then_served_without_the_hub(tmp_path, files):
    with hub({"main": {}, "v1": files | NOT_NEEDED}) as server:
        with serve(tmp_path, server.url, "--revision", "v1", "--download") as url:
            assert revision_of(url) == commit_of("v1")
        assert sorted(server.fetched) == sorted(files)
    assert commit_of("v1") in find(tmp_path, None, revision="v1").stdout


def test_without_download_nobody_is_asked(tmp_path, files):
    with hub({"main": files}) as server:
        refused = find(tmp_path, server.url)
        assert f"it comes with: sparse-embed serve --model {NAME} --download" in refused.stderr
        assert server.fetched == []
        assert find(tmp_path, server.url, download=True).returncode == 0
        assert sorted(server.fetched) == sorted(files)
        assert find(tmp_path, server.url, download=True).returncode == 0
        assert len(server.fetched) == len(files), "what is here already is not fetched again"
    assert find(tmp_path, server.url).returncode == 0
    other = find(tmp_path, server.url, revision="v2")
    assert f"--model {NAME} --revision v2 --download" in other.stderr


def test_weights_of_the_older_format_are_fetched_where_there_are_no_others(tmp_path, files):
    older = {name: content for name, content in files.items() if not name.endswith(".safetensors")}
    with hub({"main": older | {"pytorch_model.bin": b"weights"}}) as server:
        assert find(tmp_path, server.url, download=True).returncode == 0
        assert "pytorch_model.bin" in server.fetched
    assert find(tmp_path, None).returncode == 0
    assert find(tmp_path, None, download=True).returncode == 0, "the files are here: the hub need not be"


@pytest.mark.parametrize("revision", [None, "v9"])
def test_a_model_or_revision_that_the_hub_does_not_have_is_one_sentence(tmp_path, files, revision):
    with hub({} if revision is None else {"main": files}) as server:
        refused = find(tmp_path, server.url, download=True, revision=revision)
    said = refused.stderr.splitlines()[-1]
    assert said.startswith(f"sparse_embed.server.engines.weights.ModelError: {NAME} cannot be downloaded: "), said


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path):
    refused = find(tmp_path, None, download=True)
    assert f"{NAME} cannot be downloaded: " in refused.stderr.splitlines()[-1]
