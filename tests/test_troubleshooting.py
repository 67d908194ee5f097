"""Every message on docs/troubleshooting.md is what a user sees, word for word: each one is provoked here.

``…`` on the page stands for what differs from case to case, such as a port.
"""

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_qdrant import QdrantVectorStore, RetrievalMode

from langchain_sparse_embed import (
    ChromaCloudEmbeddings,
    ChromaCloudSparseEmbeddings,
    PineconeInferenceSparseEmbeddings,
)
from sparse_embed import DenseEncoder, SparseEncoder
from sparse_embed.server import local_provider
from sparse_embed.testing import fake_clients
from tests.faultserver import Action, Gate
from tests.ways import deaf_port, meeting

PAGE = Path(__file__).parents[1] / "docs/troubleshooting.md"
ON_PAGE: dict[str, str] = dict(
    re.findall(r"^## (.+?)\n\n```output\n(.+?)\n```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)


def fail(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as failed:  # noqa: PT011  # the page says which
        call()
    return f"{failed.type.__name__}: {failed.value}"


def chroma(**settings: Any) -> SparseEncoder:
    return SparseEncoder("chroma", **settings)


def start(code: str) -> str:
    """The last line that a Python process writes, with the packages of one extra missing."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stderr.splitlines()[-1]


def no_key(monkeypatch: pytest.MonkeyPatch) -> str:
    return fail(lambda: chroma().embed_query("fox"))


def key_for_another_host(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CHROMA_API_KEY", "any")
    return fail(lambda: chroma(base_url="https://gateway.example.com").embed_query("fox"))


def wrong_key(monkeypatch: pytest.MonkeyPatch) -> str:
    with local_provider(api_key="right") as url:
        monkeypatch.setenv("CHROMA_EMBED_URL", url)
        monkeypatch.setenv("CHROMA_API_KEY", "wrong")
        return fail(lambda: chroma().embed_query("fox"))


def nothing_listens(monkeypatch: pytest.MonkeyPatch) -> str:
    with deaf_port() as port:
        monkeypatch.setenv("CHROMA_EMBED_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("CHROMA_API_KEY", "any")
        return fail(lambda: chroma().embed_query("fox"))


def no_scheme(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CHROMA_EMBED_URL", "localhost:8900")
    return fail(lambda: chroma(api_key="any").embed_query("fox"))


def plain_http(monkeypatch: pytest.MonkeyPatch) -> str:
    return fail(lambda: chroma(api_key="any", base_url="http://models.internal:8900"))


def unknown_host(monkeypatch: pytest.MonkeyPatch) -> str:
    return fail(lambda: chroma(api_key="any", base_url="https://no-such-host.invalid").embed_query("fox"))


def not_stand_in(monkeypatch: pytest.MonkeyPatch) -> str:
    with local_provider() as url:
        return fail(lambda: chroma(api_key="any", base_url=url).embed_query("fox"))


def no_text(monkeypatch: pytest.MonkeyPatch) -> str:
    texts: Any = ["fox", None]
    return fail(lambda: chroma(api_key="any").embed_documents(texts))


def bare_text(monkeypatch: pytest.MonkeyPatch) -> str:
    return fail(lambda: chroma(api_key="any").embed_documents("fox"))


def blank_text(monkeypatch: pytest.MonkeyPatch) -> str:
    return fail(lambda: DenseEncoder("chroma", api_key="any").embed_documents(["fox", " "]))


def long_pause(monkeypatch: pytest.MonkeyPatch) -> str:
    with meeting(lambda seen: Action(429, {"error": "slow down"}, {"retry-after": "60"}), deadline=5) as (_, encoder):
        return fail(lambda: encoder.embed_query("fox"))


def stalled(monkeypatch: pytest.MonkeyPatch) -> str:
    gate = Gate()
    with meeting(lambda seen: Action(gate=gate), timeout=0.2, max_retries=0) as (_, encoder):
        said = fail(lambda: encoder.embed_query("fox"))
        gate.open()
        return said


def missing_extra(monkeypatch: pytest.MonkeyPatch) -> str:
    return start("import sys; sys.modules['langchain_core'] = None; import langchain_sparse_embed")


def missing_command_line(monkeypatch: pytest.MonkeyPatch) -> str:
    return start("import sys; sys.modules['typer'] = None; import sparse_embed.cli")


def swapped(monkeypatch: pytest.MonkeyPatch) -> str:
    dense, sparse = (
        cls(api_key="any", **fake_clients()) for cls in (ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings)
    )
    return fail(
        lambda: QdrantVectorStore.from_texts(
            ["fox"], sparse, sparse_embedding=dense, retrieval_mode=RetrievalMode.HYBRID, location=":memory:"
        )
    )


def no_terms(monkeypatch: pytest.MonkeyPatch) -> str:
    sparse = PineconeInferenceSparseEmbeddings(api_key="any", **fake_clients()).as_pinecone()
    return fail(lambda: sparse.embed_documents(["fox", " "]))


def own_client(monkeypatch: pytest.MonkeyPatch) -> str:
    return fail(lambda: pickle.dumps(chroma(api_key="any", **fake_clients())))


PROVOKED = {
    "No key": no_key,
    "The key does not go to this host": key_for_another_host,
    "The key is refused": wrong_key,
    "Nothing listens": nothing_listens,
    "An address without its scheme": no_scheme,
    "Plain http": plain_http,
    "An unknown host": unknown_host,
    "The local provider does not know the model": not_stand_in,
    "A text that is not a text": no_text,
    "A text in the place of a list": bare_text,
    "A blank text for a dense model": blank_text,
    "A rate limit that lasts too long": long_pause,
    "No answer": stalled,
    "A missing framework": missing_extra,
    "A missing command line": missing_command_line,
    "Dense and sparse swapped": swapped,
    "Pinecone and texts without terms": no_terms,
    "An encoder that cannot be pickled": own_client,
}


def test_every_message_on_the_page_is_provoked() -> None:
    assert list(ON_PAGE) == list(PROVOKED)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("title", PROVOKED)
def test_the_message_is_on_the_page(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CHROMA_API_KEY", "CHROMA_EMBED_URL"):
        monkeypatch.delenv(variable, raising=False)
    seen = PROVOKED[title](monkeypatch)
    pattern = ".+?".join(map(re.escape, ON_PAGE[title].replace("\n", " ").split("…")))
    assert re.fullmatch(pattern, seen), seen
