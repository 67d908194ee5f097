"""What was paid for once is not paid for again."""

import multiprocessing
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.stores import InMemoryByteStore

from langchain_sparse_embed import ChromaCloudEmbeddings, init_sparse_embeddings
from llama_index_sparse_embed import PineconeInferenceSparseEmbedding, init_embedding
from sparse_embed import (
    ConfigurationError,
    DenseEncoder,
    ServerError,
    SparseEncoder,
    SparseVector,
    UnsupportedModelError,
)
from sparse_embed.cache import CacheWarning, pack, unpack
from sparse_embed.testing import fake_clients, no_wait
from tests.faultserver import Action, Gate, Seen
from tests.ways import Way, both_ways, meeting, right

TEXTS = [f"text number {at} of many" for at in range(700)]


@pytest.fixture(params=["memory", "path", "byte store"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return {"memory": 1000, "path": tmp_path / "deep" / "vectors.sqlite", "byte store": InMemoryByteStore()}[
        request.param
    ]


def _encoder(kind: Any = SparseEncoder, provider: Any = "pinecone", **arguments: Any) -> Any:
    return kind(provider, api_key="k", **{**fake_clients(), **arguments})


@pytest.mark.parametrize("kind", [SparseEncoder, DenseEncoder])
@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
async def test_a_text_is_asked_once_whatever_method_asks(cache: Any, kind: Any, provider: Any) -> None:
    encoder = _encoder(kind, provider, cache=cache, return_tokens=kind is SparseEncoder)
    first = encoder.embed_documents(TEXTS)
    sent = encoder.usage
    assert sent.cache_hits == 0
    assert encoder.embed_documents(TEXTS) == first
    assert await encoder.aembed_documents(TEXTS) == first
    assert list(encoder.stream_documents(TEXTS)) == first
    assert [vector async for vector in encoder.astream_documents(TEXTS)] == first
    assert encoder.usage.requests == sent.requests
    assert encoder.usage.cache_hits == 4 * len(TEXTS)
    query = encoder.embed_query("a query")
    assert await encoder.aembed_query("a query") == query
    assert encoder.usage.requests == sent.requests + 1, "a query is remembered too"


def test_only_what_is_missing_is_sent(cache: Any) -> None:
    encoder = _encoder(cache=cache)
    encoder.embed_documents(TEXTS[::2])
    assert encoder.embed_documents(TEXTS) == _encoder().embed_documents(TEXTS)
    assert encoder.usage.texts == len(TEXTS)


def test_model_role_options_provider_and_address_are_told_apart(tmp_path: Path) -> None:
    shared = tmp_path / "vectors.sqlite"
    different: list[dict[str, Any]] = [
        {},
        {"model": "other-sparse"},
        {"truncate": "NONE"},
        {"parameters": {"extra": 1}},
        {"return_tokens": True},
        {"base_url": "http://127.0.0.1:9"},
        {"provider": "chroma"},
        {"provider": "chroma", "task": "t"},
        {"provider": "chroma", "model": "naver/efficient-splade-VI-BT-large-doc"},
        {"kind": DenseEncoder, "model": "sparse-looking-dense"} | {"provider": "chroma"},
    ]
    for arguments in different:
        encoder = _encoder(**arguments, cache=shared)
        encoder.embed_documents(["same text"])
        encoder.embed_query("same text")
        assert encoder.usage.cache_hits == 0, arguments
        assert encoder.usage.requests == 2, arguments


def test_vectors_received_before_an_error_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    failing = _encoder(cache=path, batch_size=10, max_concurrency=1, **fake_clients(200, 200, 501))
    with pytest.raises(Exception, match="501") as caught:
        failing.embed_documents(TEXTS[:50])
    assert len(caught.value.partial) == 20
    again = _encoder(cache=path)
    again.embed_documents(TEXTS[:50])
    assert (again.usage.cache_hits, again.usage.texts) == (20, 30)


def _count_entries(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        try:
            return int(file.execute("SELECT count(*) FROM vectors").fetchone()[0])
        except sqlite3.OperationalError:  # the table is being created
            return 0


@both_ways
def test_a_vector_is_remembered_when_it_arrives_not_when_it_is_returned(tmp_path: Path, use: Way) -> None:
    """The first request is answered when the cache holds the vectors of all others."""
    path, first = tmp_path / "vectors.sqlite", Gate()

    def answer(seen: Seen) -> Action:
        return Action(gate=first) if "text number 0 of many" in seen.texts else Action()

    def open_when_sixty_are_stored() -> None:
        for _ in range(2000):  # 20 s: never reached when all is well
            if path.exists() and _count_entries(path) == 60:
                break
            time.sleep(0.01)
        stored.append(_count_entries(path))
        first.open()

    stored: list[int] = []
    with meeting(answer, batch_size=10, cache=path, timeout=30.0) as (_, encoder):
        watcher = threading.Thread(target=open_when_sixty_are_stored)
        watcher.start()
        assert use(encoder, "stream_documents", TEXTS[:70]) == right(encoder, TEXTS[:70])
        watcher.join()
    assert stored == [60], "before the first vector could be returned"


def test_the_least_recently_used_entry_is_forgotten_first() -> None:
    encoder = _encoder(cache=2)
    for text in ("a", "b", "a", "c"):
        encoder.embed_documents([text])
    assert encoder.usage.cache_hits == 1
    encoder.embed_documents(["a"])
    encoder.embed_documents(["b"])
    assert encoder.usage.cache_hits == 2, "b made room for c"


def test_a_damaged_entry_is_a_miss_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    _encoder(cache=path).embed_documents(["a", "b", "c"])
    with sqlite3.connect(path) as file:
        file.execute("UPDATE vectors SET value = x'00ff' WHERE key = (SELECT min(key) FROM vectors)")
    file.close()
    encoder = _encoder(cache=path)
    with pytest.warns(CacheWarning, match="damaged"):
        assert encoder.embed_documents(["a", "b", "c"]) == _encoder().embed_documents(["a", "b", "c"])
    assert (encoder.usage.cache_hits, encoder.usage.texts) == (2, 1)


def test_a_broken_file_or_store_costs_no_vector(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    encoder = _encoder(cache=path)
    path.write_bytes(b"this is no database" * 100)
    with pytest.warns(CacheWarning, match=r"vectors.sqlite: the cache failed and is ignored: DatabaseError"):
        assert len(encoder.embed_documents(["a"])) == 1


def test_a_file_that_another_process_is_writing_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    _encoder(cache=path).embed_documents(TEXTS[:10])
    with sqlite3.connect(path, isolation_level=None) as file:
        file.execute("PRAGMA journal_mode=DELETE")  # as in a new file, which opening turns into a write-ahead log
        file.execute("BEGIN IMMEDIATE")
        encoder = _encoder(cache=path)
        encoder.embed_documents(TEXTS[:10])
        assert encoder.usage.cache_hits == 10
        file.execute("ROLLBACK")
    file.close()


class OnlyReading(InMemoryByteStore):
    def mset(self, key_value_pairs: Any) -> None:
        raise OSError("the disk is full")


def test_a_cache_that_fails_does_not_hide_the_providers_error() -> None:
    """Warnings are errors here, as they may be in a user's tests."""
    failing = _encoder(cache=OnlyReading(), **fake_clients(413, 200, 501))
    with pytest.raises(UnsupportedModelError) as caught:
        failing.embed_documents(TEXTS[:20])
    assert len(caught.value.partial) == 10


@pytest.mark.parametrize("tilde", ["~/v.sqlite", Path("~/v.sqlite")])
def test_a_path_in_the_home_directory_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tilde: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    _encoder(cache=tilde).embed_documents(["a"])
    assert (tmp_path / "v.sqlite").is_file()


def test_a_pickled_encoder_finds_its_file_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = SparseEncoder("pinecone", api_key="k", cache="v.sqlite", max_retries=0)
    _encoder(cache="v.sqlite").embed_documents(["a"])
    pickled = pickle.dumps(encoder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    copy = pickle.loads(pickled)
    copy.embed_documents(["a"])
    assert copy.usage.cache_hits == 1


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, object(), []])
def test_what_is_no_cache_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="cache must be a number of entries, a path, or a store"):
        SparseEncoder("chroma", cache=wrong)


@pytest.mark.parametrize(
    "build",
    [
        lambda cache: SparseEncoder("chroma", cache=cache),
        lambda cache: DenseEncoder.from_config({"provider": "pinecone", "cache": cache}),
        lambda cache: ChromaCloudEmbeddings(cache=cache),
        lambda cache: init_sparse_embeddings({"provider": "pinecone", "cache": cache}),
        lambda cache: PineconeInferenceSparseEmbedding(cache=cache),
        lambda cache: init_embedding({"provider": "chroma", "cache": cache}),
    ],
    ids=["sparse", "dense from a file", "LangChain", "LangChain from a file", "LlamaIndex", "LlamaIndex from a file"],
)
def test_a_path_that_cannot_be_a_cache_is_refused_at_once_everywhere(build: Any, tmp_path: Path) -> None:
    other_file = tmp_path / "vectors.csv"
    other_file.write_text("id,text\n")
    for wrong, said in {
        str(tmp_path): f"cache {tmp_path} is a folder",
        "": "is a folder",
        str(other_file): f"cache {other_file} is not a SQLite file",
        "1000": "cache is the text '1000': for entries in memory, pass the number 1000",
        " 7\n": "pass the number 7",
    }.items():
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            build(wrong)
    assert other_file.read_text() == "id,text\n"
    assert list(tmp_path.iterdir()) == [other_file]


@pytest.mark.parametrize("name", ["empty.sqlite", "new?/folder#/%20.sqlite"])
def test_an_empty_file_and_a_missing_one_are_written_when_they_are_used(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite").touch()
    encoder = _encoder(cache=tmp_path / name)
    assert [(entry.name, entry.stat().st_size) for entry in tmp_path.iterdir()] == [("empty.sqlite", 0)]
    encoder.embed_documents(["a"])
    again = _encoder(cache=tmp_path / name)
    again.embed_documents(["a"])
    assert again.usage.cache_hits == 1


def test_a_file_that_is_in_use_stays_locked_when_another_encoder_is_made(tmp_path: Path) -> None:
    """POSIX drops all of a process's locks on a file when any of its descriptors is closed."""
    path = tmp_path / "vectors.sqlite"
    _encoder(cache=path).embed_documents(["a"])
    asks = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with sqlite3.connect(path, isolation_level=None) as file:
        file.execute("PRAGMA journal_mode=DELETE")
        file.execute("BEGIN IMMEDIATE")
        _encoder(cache=path)
        other = subprocess.run([sys.executable, "-c", asks], check=False, capture_output=True, text=True, timeout=60)
        file.execute("ROLLBACK")
    file.close()
    assert "database is locked" in other.stderr


def _embed_all(path: Path) -> int:
    encoder = _encoder(cache=path, batch_size=7)
    encoder.embed_documents(TEXTS)
    return int(encoder.usage.requests)


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert sum(pool.map(_embed_all, [path] * 2)) >= 100
    assert _embed_all(path) == 0


def test_an_encoder_with_a_cache_travels_without_its_entries_and_with_its_file(tmp_path: Path) -> None:
    for cache in (10, tmp_path / "vectors.sqlite"):
        encoder = SparseEncoder("chroma", api_key="k", cache=cache)
        assert pickle.loads(pickle.dumps(encoder)).usage.cache_hits == 0


def test_a_killed_process_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    script = textwrap.dedent(
        f"""
        import os, signal
        from sparse_embed import SparseEncoder
        from sparse_embed.testing import fake_clients
        encoder = SparseEncoder("pinecone", api_key="k", cache={str(path)!r}, batch_size=5, **fake_clients())
        for at, _ in enumerate(encoder.stream_documents(f"text number {{at}} of many" for at in range(10_000))):
            if at == 400:
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert killed.returncode == -9
    encoder = _encoder(cache=path)
    encoder.embed_documents(TEXTS[:400])
    assert encoder.usage.cache_hits == 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 warns about forking with threads
def test_a_forked_child_opens_the_file_anew(tmp_path: Path) -> None:
    encoder = _encoder(cache=tmp_path / "vectors.sqlite")
    encoder.embed_documents(TEXTS[:10])
    child = os.fork()
    if child == 0:
        vectors = encoder.embed_documents(TEXTS[:20])
        os._exit(0 if len(vectors) == 20 and encoder.usage.cache_hits == 10 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    encoder.embed_documents(TEXTS[:20])
    assert encoder.usage.cache_hits == 20


async def test_an_error_from_the_provider_is_not_remembered(cache: Any) -> None:
    encoder = _encoder(cache=cache, max_retries=0, **fake_clients(500))
    with no_wait(), pytest.raises(ServerError):
        await encoder.aembed_documents(["a"])
    assert len(await encoder.aembed_documents(["a"])) == 1


entries = st.dictionaries(st.integers(0, 2**32 - 1), st.floats(allow_nan=False, allow_infinity=False).filter(bool))


@given(entries, st.booleans())
def test_a_stored_sparse_vector_comes_back_exactly(entries: dict[int, float], with_tokens: bool) -> None:
    tokens = [f"tök{index}" for index in entries] if with_tokens else None
    vector = SparseVector.from_pairs(list(entries), list(entries.values()), tokens)
    assert unpack(pack(vector)) == vector


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_stored_dense_vector_comes_back_exactly(vector: list[float]) -> None:
    assert unpack(pack(vector)) == vector


@given(st.binary())
@example(b"\0" * 8)
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        unpack(raw)


def test_provider_values_of_four_bytes_are_stored_in_four_bytes() -> None:
    vector = SparseVector(list(range(200)), [0.5] * 200)
    assert len(pack(vector)) < 200 * 8 + 20
