"""Every snippet of the README and of docs/ runs as it stands, against the local provider.

Those for Milvus run in ``tests/milvus``, for Ray in ``tests/ray``, for Spark and Daft in ``tests/engines``. PostgreSQL
is real. Pinecone's indexes and Chroma Cloud are stubs, behind their real clients.
"""

import inspect
import logging
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import chromadb
import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once
from typer.testing import CliRunner

import sparse_embed
from sparse_embed import SparseEncoder, telemetry
from sparse_embed.cli import app
from sparse_embed.encoder import ProviderOptions
from sparse_embed.server import local_provider
from tests.snippets import PAGES, ROOT, run, snippets
from tests.stubs.chroma_cloud import chroma_cloud_stub
from tests.stubs.pinecone_index import pinecone_index_stub


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with local_provider(stand_in=True) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all snippets: a reader also pastes them in one folder, and the files that they write stay there."""
    return tmp_path_factory.mktemp("snippets")


@pytest.fixture(autouse=True)
def process_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A snippet may set the log's level, and OpenTelemetry's provider, of which a process takes one."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(telemetry, "_tracer", trace.get_tracer("sparse_embed"))
    logger = logging.getLogger("sparse_embed")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module", autouse=True)
def stores(postgres: str) -> Iterator[None]:
    """The stores that snippets reach by an address; like the folder, one of each for all snippets."""
    with ExitStack() as stack:
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        monkeypatch.setenv("DATABASE_URL", postgres)
        monkeypatch.setenv("PINECONE_INDEX_HOST", stack.enter_context(pinecone_index_stub(dimension=1024)).url)
        monkeypatch.setenv("PINECONE_SPARSE_INDEX_HOST", stack.enter_context(pinecone_index_stub()).url)
        stub = {"cloud_host": "127.0.0.1", "cloud_port": stack.enter_context(chroma_cloud_stub()).port}
        monkeypatch.setattr(chromadb, "CloudClient", partial(chromadb.CloudClient, **stub, enable_ssl=False))
        yield


# Harmless: llama-index-vector-stores-qdrant 0.10 asks for an index that the local mode does not need.
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
@pytest.mark.filterwarnings("ignore:The function `loads` is in beta:DeprecationWarning")  # langchain-core 1.7 says so
@pytest.mark.filterwarnings("ignore:The anyio.abc.BlockingPortal alias:DeprecationWarning")  # Starlette 0.38
@pytest.mark.parametrize(("code", "printed"), [*snippets("python"), *snippets("diff")])
def test_the_snippet_runs_and_prints_what_it_says_each_time(
    code: object, printed: list[str], provider: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    for _ in ("first run", "second run"):
        lines = iter(run(code, provider, folder, monkeypatch).splitlines())
        assert [line for line in printed if line not in lines] == [], "not printed, or in another order"


def test_the_readmes_command_lines_run_as_they_stand(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs.jsonl").write_text('{"text": "BM25 counts terms.", "title": "BM25"}')
    section = (ROOT / "README.md").read_text().partition("## On the command line")[2].partition("\n## ")[0]
    lines = re.findall(r"^\$ sparse-embed (.*)", section, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["check", "embed", "search"]
    for line in lines:
        environment = {"PINECONE_CONTROLLER_HOST": provider, "PINECONE_API_KEY": "any"}
        done = CliRunner().invoke(app, shlex.split(line, comments=True), env=environment)
        assert done.exit_code == 0, done.output
    assert "title: BM25" in done.output


def test_type_checkers_see_the_readmes_langchain_snippet_as_it_stands() -> None:
    snippet = re.search(r"## LangChain\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippet
    assert (ROOT / "tests/typing/readme_langchain.py").read_text().endswith(snippet.group(1))


@pytest.mark.parametrize("example", sorted((ROOT / "examples").rglob("*.py")), ids=lambda example: example.name)
def test_the_readme_links_every_example(example: Path) -> None:
    assert f"({example.relative_to(ROOT)})" in (ROOT / "README.md").read_text()


def test_every_extra_is_in_the_readme() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    table = re.search(r"^\| extra \|.*?\n\n", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert table
    named = set(re.findall(r"`([a-z-]+)`", table.group()))
    assert extras - {"all", "dev"} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_install_lines_name_extras_that_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    for named in re.findall(r"'(?:sparse-embed|\.)\[([a-z,-]+)\]'", page.read_text()):
        assert set(named.split(",")) <= extras


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_setting_is_in_the_table() -> None:
    arguments = inspect.signature(SparseEncoder.__init__).parameters.keys() - {"self", "provider", "provider_options"}
    table = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs/settings.md").read_text()))
    assert arguments | ProviderOptions.__annotations__.keys() <= table


def test_every_error_is_in_the_table() -> None:
    table = (ROOT / "docs/errors.md").read_text()
    errors = {name for name in sparse_embed.__all__ if name.endswith("Error")} - {"SparseEmbedError", "APIStatusError"}
    assert errors <= set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
