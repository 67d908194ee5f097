"""Every snippet of the README and of docs/ runs as it stands, against the local provider.

Those for Milvus run in ``tests/milvus``. PostgreSQL is real. Pinecone's indexes and Chroma Cloud are stubs, behind
their real clients.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import chromadb
import pytest

from sparse_embed.server import local_provider
from tests.snippets import PAGES, run, snippets
from tests.stubs.chroma_cloud import chroma_cloud_stub
from tests.stubs.pinecone_index import pinecone_index_stub


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with local_provider(stand_in=True) as url:
        yield url


@pytest.fixture(autouse=True)
def stores(postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stores that snippets reach by an address."""
    with ExitStack() as stack:
        monkeypatch.setenv("DATABASE_URL", postgres)
        monkeypatch.setenv("PINECONE_INDEX_HOST", stack.enter_context(pinecone_index_stub(dimension=1024)).url)
        monkeypatch.setenv("PINECONE_SPARSE_INDEX_HOST", stack.enter_context(pinecone_index_stub()).url)
        stub = {"cloud_host": "127.0.0.1", "cloud_port": stack.enter_context(chroma_cloud_stub()).port}
        monkeypatch.setattr(chromadb, "CloudClient", partial(chromadb.CloudClient, **stub, enable_ssl=False))
        yield


# True, and no matter here: llama-index-vector-stores-qdrant 0.10 asks for an index that the local mode does not need.
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
@pytest.mark.filterwarnings("ignore:The function `loads` is in beta:DeprecationWarning")  # langchain-core 1.7 says so
@pytest.mark.parametrize(("code", "printed"), snippets("python"))
def test_the_snippet_runs_and_prints_what_it_says(
    code: object, printed: list[str], provider: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = run(code, provider, tmp_path, monkeypatch)
    assert set(printed) <= set(output.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
