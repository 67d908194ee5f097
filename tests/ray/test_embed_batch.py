"""`EmbedBatch` adds vectors to a dataset of Ray Data."""

import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray.data import DataContext

from sparse_embed import AuthenticationError, ConfigurationError
from sparse_embed.convert import from_arrow
from sparse_embed.events import CallEnded, Event
from sparse_embed.ray import EmbedBatch, map_options
from tests.faultserver import Action, FaultServer, Gate, Seen, dense_of, sparse_of, status

from .conftest import ENVIRONMENT_KEY

KEY = "top-secret-key-0815"
HEADER = "top-secret-header-0815"


def dataset(texts: list[str | None], blocks: int = 1) -> Any:
    rows = pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string())})
    return ray.data.from_arrow(rows).repartition(blocks)


def numbered(count: int) -> list[str | None]:
    return [f"text {at}" for at in range(count)]


def embed(texts: Any, *args: Any, **options: Any) -> pa.Table:
    """All rows with their vectors, sorted by id."""
    parts = texts.map_batches(EmbedBatch, **map_options(*args, **options)).to_arrow_refs()
    return pa.concat_tables(ray.get(parts)).sort_by("id")


def test_each_row_has_the_vectors_of_its_text() -> None:
    with FaultServer() as server:
        where = {"provider": "pinecone", "base_url": server.url}
        table = embed(dataset(numbered(500), blocks=5), where, where)
    texts = table["text"].to_pylist()
    assert texts == numbered(500)
    assert from_arrow(table["sparse"]) == [sparse_of(text) for text in texts]
    assert table["dense"].to_pylist() == [pytest.approx(dense_of(text)) for text in texts]
    assert table.schema.field("sparse").type == pa.struct(
        {"indices": pa.list_(pa.uint32()), "values": pa.list_(pa.float32())}
    )
    assert table.schema.field("dense").type == pa.list_(pa.float32())


async def test_missing_and_blank_texts_have_no_vectors_and_are_not_sent() -> None:
    with FaultServer() as server:
        where = {"provider": "pinecone", "base_url": server.url}
        table = await EmbedBatch(where, where)(pa.table({"text": [None, "fox", "", " \n", "dog"]}))
        assert sorted(server.texts) == [["fox", "dog"]] * 2
    assert [row is None for row in from_arrow(table["sparse"])] == [True, False, True, True, False]
    assert [row is None for row in table["dense"].to_pylist()] == [True, False, True, True, False]


async def test_a_batch_of_blank_texts_has_columns_of_the_same_types() -> None:
    with FaultServer() as server:
        where = {"provider": "pinecone", "base_url": server.url}
        blank, full = [await EmbedBatch(where, where)(pa.table({"text": [text]})) for text in ("", "fox")]
    assert blank.schema == full.schema


def test_one_actor_keeps_all_its_requests_in_flight() -> None:
    gate = Gate()
    with FaultServer(lambda seen: Action(gate=gate)) as server:
        where = {"provider": "pinecone", "base_url": server.url, "max_concurrency": 8, "batch_size": 10}
        server.script = lambda seen: (gate.open() if server.in_flight == 8 else None, Action(gate=gate))[1]
        embed(dataset(numbered(800)), where)
        assert server.max_in_flight == 8


class KillOnce:
    """Kills the process in which a call of an encoder ends, the first time; notes what the cache held then."""

    def __init__(self, killed: Path, cache: Path, after: int) -> None:
        self.killed, self.cache, self.calls_left = killed, cache, after

    def __call__(self, event: Event) -> None:
        self.calls_left -= isinstance(event, CallEnded)
        if self.calls_left == 0 and not self.killed.exists():
            self.killed.write_text(str(entries(self.cache)))
            os.kill(os.getpid(), signal.SIGKILL)


def entries(cache: Path) -> int:
    if not cache.exists():
        return 0
    with closing(sqlite3.connect(cache)) as connection:
        count: int = connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
        return count


@pytest.mark.parametrize("cached", [False, True])
def test_a_killed_actor_loses_and_doubles_nothing(tmp_path: Path, cached: bool) -> None:
    killed, cache = tmp_path / "killed", tmp_path / "vectors.sqlite"
    sent_again: list[str] = []

    def note_what_is_sent_after_the_kill(seen: Seen) -> Action:
        sent_again.extend(seen.texts if killed.exists() else [])
        return Action()

    with FaultServer(note_what_is_sent_after_the_kill) as server:
        where = {"provider": "pinecone", "base_url": server.url, "batch_size": 10, "max_concurrency": 2}
        where |= {"on_event": KillOnce(killed, cache, after=5)}
        if cached:
            where |= {"cache": cache}
        table = embed(dataset(numbered(400), blocks=20), where)
    assert table["id"].to_pylist() == list(range(400))
    assert from_arrow(table["sparse"]) == [sparse_of(f"text {at}") for at in range(400)]
    stored = int(killed.read_text())
    if cached:
        assert stored >= 5 * 20  # a call has ended when all its vectors are stored
        assert len(sent_again) <= 400 - stored + 2 * 10  # those that arrived at the server just as the actor died


class TestKeys:
    def test_the_environments_key_is_looked_up_in_the_actor(self) -> None:
        options = map_options("pinecone", "pinecone")
        assert ENVIRONMENT_KEY not in repr(options)
        assert ENVIRONMENT_KEY.encode() not in ray.cloudpickle.dumps((EmbedBatch, options))
        with FaultServer() as server:
            embed(dataset(["fox"]), {"provider": "pinecone", "base_url": server.url})
            assert server.requests[0].headers["api-key"] == ENVIRONMENT_KEY

    def test_a_given_key_reaches_the_provider_and_no_description(self) -> None:
        with FaultServer() as server:
            given = {
                "provider": "chroma",
                "base_url": server.url,
                "api_key": KEY,
                "default_headers": {"x-proxy": HEADER},
            }
            texts = dataset(["fox"]).map_batches(EmbedBatch, **map_options(given))
            texts.take_all()
            headers = server.requests[0].headers
            assert (headers["x-chroma-token"], headers["x-proxy"]) == (KEY, HEADER)
            descriptions = (
                repr(map_options(given)),
                repr(texts),
                repr(texts._logical_plan.dag._get_args()),
                texts.stats(),
            )
            assert not any(secret in "".join(descriptions) for secret in (KEY, HEADER))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sparse": None}, "sparse, dense or both"),
        ({"sparse": "cohere"}, "unknown provider 'cohere'"),
        ({"sparse": {"provider": "chroma", "modle": "x"}}, "no option 'modle'"),
        ({"sparse": "chroma", "actors": 0}, "actors must be"),
    ],
)
def test_what_cannot_work_is_refused_before_an_actor_starts(config: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        map_options(**config)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"body": ["fox"]}, "no column 'text' with texts: there are body"),
        ({"text": [1]}, "the column 'text' must hold texts, not int64"),
        ({"text": ["fox"], "sparse": [1]}, "already has a column 'sparse'"),
    ],
)
async def test_a_table_that_does_not_fit_is_refused(columns: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        await EmbedBatch("pinecone")(pa.table(columns))


async def test_small_blocks_that_leave_the_actor_idle_are_warned_of_once() -> None:
    with FaultServer() as server:
        embed_batch = EmbedBatch(
            {"provider": "pinecone", "base_url": server.url, "max_concurrency": 4, "batch_size": 5}
        )
        rows = pa.table({"text": numbered(5)})
        for _ in range(3):
            await embed_batch(rows)
        with pytest.warns(UserWarning, match="at most 5 rows at the same time, and needs 20") as warned:
            await embed_batch(rows)
        assert len(warned) == 1
        for _ in range(10):
            await embed_batch(rows)


async def test_a_failed_kind_stops_the_other() -> None:
    gate = Gate()
    with FaultServer(lambda seen: Action(gate=gate) if "sparse" in seen.body["model"] else status(401)) as server:
        where = {"provider": "pinecone", "base_url": server.url}
        with pytest.raises(AuthenticationError):
            await EmbedBatch(where, where)(pa.table({"text": ["fox"]}))
        await server.auntil(lambda: not server.in_flight)


def test_an_error_has_its_type_and_the_vectors_paid_for_where_ray_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataContext.get_current(), "raise_original_map_exception", True)
    script = lambda seen: status(401) if "text 5" in seen.texts else Action()  # noqa: E731
    with FaultServer(script) as server:
        where = {"provider": "pinecone", "base_url": server.url, "batch_size": 1, "max_concurrency": 1}
        texts = dataset(numbered(6)).map_batches(EmbedBatch, **map_options(where) | {"batch_size": 6})
        with pytest.raises(AuthenticationError) as caught:
            texts.materialize()
    assert caught.value.partial == {at: sparse_of(f"text {at}") for at in range(5)}
