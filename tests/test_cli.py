"""`sparse-embed serve`, as a user's shell sees it."""

import inspect
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version

import httpx
import pytest
from typer.testing import CliRunner

from sparse_embed import __version__
from sparse_embed.cli import KEY_VARIABLE, app, serve
from sparse_embed.server.run import listen
from sparse_embed.server.served import Settings

CONSOLE_SCRIPT = "from sparse_embed.cli import app; app()"


@contextmanager
def serving(*options, **environment):
    """The command in a process of its own; gives its URL and the lines it printed."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"} | environment
    command = [sys.executable, "-W", "error", "-c", CONSOLE_SCRIPT, "serve", "--port", "0", *options]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline()]
            while "PINECONE" not in lines[-1] and lines[-1]:
                lines.append(process.stdout.readline())
            printed = "".join(lines)
            yield process, re.search(r"http://127\.0\.0\.1:\d+", printed).group(), printed
        finally:
            process.kill()


def test_serve_prints_a_url_that_answers_and_how_to_point_clients_at_it():
    with serving() as (_, url, printed):
        answer = httpx.get(f"{url}/models", headers={"Api-Key": "any"}).json()
        assert [model["model"] for model in answer["models"]] == ["local/bm25", "local/hashing"]
    assert f"export CHROMA_EMBED_URL={url}" in printed
    assert f"export PINECONE_CONTROLLER_HOST={url}" in printed
    assert "Stand-in" not in printed


def test_stand_in_is_announced():
    with serving("--stand-in") as (_, url, printed):
        answer = httpx.get(f"{url}/models", headers={"Api-Key": "any"}).json()
        assert "pinecone-sparse-english-v0" in [model["model"] for model in answer["models"]]
    assert "Stand-in" in printed


def test_the_key_comes_from_the_environment_and_is_not_printed():
    with serving(**{KEY_VARIABLE: "key-4711"}) as (process, url, printed):
        assert httpx.get(f"{url}/models", headers={"Api-Key": "other"}).status_code == 401
        assert httpx.get(f"{url}/models", headers={"Api-Key": "key-4711"}).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert "key-4711" not in printed + out + err
    assert KEY_VARIABLE in printed


def test_ctrl_c_ends_it_without_a_traceback():
    with serving("--log-level", "info") as (process, url, _):
        assert httpx.get(f"{url}/models").status_code == 401
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7"])
@pytest.mark.parametrize("key", [None, "", "  "])
def test_listening_beyond_this_machine_needs_a_key(host, key):
    result = CliRunner().invoke(app, ["serve", "--host", host], env={KEY_VARIABLE: key})
    assert result.exit_code == 2
    assert KEY_VARIABLE in result.output


@pytest.mark.parametrize("host", ["nosuchhost.invalid", "127.0.0.1x", "a..b"])
@pytest.mark.parametrize("key", [None, "key-4711"])
def test_a_host_that_does_not_exist_is_refused(host, key):
    result = CliRunner().invoke(app, ["serve", "--host", host], env={KEY_VARIABLE: key})
    assert result.exit_code == 2
    assert f"Invalid value for --host: this machine knows no host {host!r}" in result.output


def test_a_taken_port_is_said_in_one_line():
    with listen("127.0.0.1", 0) as taken:
        result = CliRunner().invoke(app, ["serve", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert result.output.startswith("Cannot listen on 127.0.0.1 port")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("package", "command"), [("typer", "--help"), ("uvicorn", "serve"), ("mmh3", "serve"), ("mmh3", "bm25-length")]
)
def test_a_missing_extra_is_said_in_one_line(package, command):
    code = f"import sys; sys.modules[{package!r}] = None\n{CONSOLE_SCRIPT}"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    line = [sys.executable, "-c", code, command, *(["texts.txt"] if command == "bm25-length" else [])]
    result = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == f"sparse-embed: {package} is not installed: pip install 'sparse-embed[cli]'\n"


def test_further_bm25_models_are_served_and_listed():
    with serving("--bm25", "de,language=german,document-length=90", "--bm25", "short,document-length=12") as (
        _,
        url,
        out,
    ):
        answer = httpx.get(f"{url}/models", headers={"Api-Key": "any"}).json()
        described = {model["model"]: model["short_description"] for model in answer["models"]}
    assert described["de"] == "BM25 term weights for German, 90 words in an average document."
    assert "12 words" in described["short"]
    assert "local/hashing (dense, no semantics), de (sparse), short (sparse)" in out


@pytest.mark.parametrize("options", [["x,language=klingon"], ["local/bm25"], ["twice", "twice"]])
def test_a_wrong_bm25_model_is_said_in_one_line_before_the_server_starts(options):
    result = CliRunner().invoke(app, ["serve", "--port", "0", *(f"--bm25={option}" for option in options)])
    assert result.exit_code == 2
    assert result.output.startswith("--bm25: ")
    assert result.output.count("\n") == 1


def test_bm25_length_prints_the_mean_alone_on_stdout(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("Die Häuser am Fluss\nder Hund\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["bm25-length", str(file), "--language", "german"])
    assert (result.exit_code, result.stdout) == (0, "1.5\n")
    assert "2 documents" in result.stderr
    result = CliRunner().invoke(app, ["bm25-length", str(file), "--language", "polish"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no stop word list for polish" in result.stderr


def test_help_needs_no_server():
    result = CliRunner().invoke(app, [])
    assert "serve" in result.output


def test_the_help_of_the_demo_names_its_extra():
    result = CliRunner().invoke(app, ["demo", "--help"])
    assert "pip install 'sparse-embed[all]'" in result.output


def test_python_m_is_the_same_command():
    command = [sys.executable, "-m", "sparse_embed", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == CliRunner().invoke(app, ["--version"]).output == f"sparse-embed {__version__}\n"
    assert __version__ == version("sparse-embed"), "the version that the installation records"


def test_the_default_batch_of_a_model_is_the_servers_own():
    assert inspect.signature(serve).parameters["max_batch_tokens"].default == Settings.max_batch_tokens
