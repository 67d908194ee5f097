"""Rows of every format reach every target, in order, with their own vectors."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparse_embed import AuthenticationError, ConfigurationError, NotFoundError, SparseEmbedError
from sparse_embed.bulk import Report, embed_file
from sparse_embed.bulk.files import FileTarget
from sparse_embed.bulk.qdrant import QdrantTarget
from sparse_embed.events import Event, Paused
from tests.bulk.conftest import (
    BATCH,
    ROWS,
    assert_right,
    pipe,
    read_target,
    text_of,
    write_csv,
    write_jsonl,
    write_parquet,
)
from tests.faultserver import GOOD, Action, FaultServer, Gate, sparse_of, status

LINES = [{"text": "one", "key": "a", "year": 1, "tags": ["x"]}, {"text": "", "key": "b", "year": None, "tags": []}]


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "tsv": write_csv,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_source_reaches_every_target_in_order(
    suffix: str, target: str, chroma: dict[str, Any], tmp_path: Path
) -> None:
    rows = [{"text": text_of(row), "title": f"é, {row}\n"} for row in range(ROWS)]
    WRITERS[suffix](tmp_path / f"docs.{suffix}", rows)
    report = embed_file(
        tmp_path / f"docs.{suffix}", tmp_path / target, sparse=chroma, dense=chroma, keep=["title"], part_rows=500
    )
    found = read_target(tmp_path / target)
    assert_right(found, "sparse", "dense")
    assert [row["title"] for row in found] == [row["title"] for row in rows]
    blank = [row for row in range(ROWS) if not (text_of(row) or "").strip()]
    assert (report.rows, report.vectors) == (ROWS, 2 * (ROWS - len(blank)))
    assert (report.blank, report.blank_rows) == (len(blank), blank[:100])
    assert report.finished


def test_a_folder_and_a_glob_are_read_in_the_order_of_names(chroma: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    write_csv(folder / "2.csv", [{"text": "two"}, {"text": "three"}])
    write_jsonl(folder / "1.jsonl", [{"text": "one"}])
    (folder / "notes.txt").write_text("no rows")
    for name in ("3.jsonl", "4.parquet"):  # as Spark names its folders
        (folder / name).mkdir()
    for source, target in ((folder, folder / "out.jsonl"), (f"{folder}/[12].*", tmp_path / "out.parquet")):
        for _ in ("a new target", "the finished one, which is not part of its own source"):
            assert embed_file(source, target, sparse=chroma).rows == 3
        assert [row["sparse"] for row in read_target(target)] == [sparse_of(text) for text in ("one", "two", "three")]


def test_ids_and_kept_columns_keep_their_types(chroma: dict[str, Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "docs.jsonl", LINES)
    embed_file(tmp_path / "docs.jsonl", tmp_path / "out.parquet", dense=chroma, id="key", keep=["year", "tags"])
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.drop_columns("dense").to_pylist() == [
        {"id": "a", "year": 1, "tags": ["x"]},
        {"id": "b", "year": None, "tags": []},
    ]
    assert table.schema.field("year").type == pa.int64()


def test_an_id_that_occurs_twice_is_refused_with_both_places(
    chroma: dict[str, Any], server: FaultServer, tmp_path: Path
) -> None:
    # Different ids, of which Python gives -1 and -2 the same hash, and of 5,000 rows one whose id was there before.
    ids: list[Any] = [-1, -2, "1", 1, *(f"id {row}" for row in range(5000)), "id 7"]
    folder = tmp_path / "docs"
    folder.mkdir()
    write_jsonl(folder / "1.jsonl", [{"text": "a", "key": key} for key in ids[:2000]])
    write_jsonl(folder / "2.jsonl", [{"text": "b", "key": key} for key in ids[2000:]])
    said = "2.jsonl, line 3005: its key 'id 7' is that of 1.jsonl, line 12, and a store keeps one row per id"
    for target in (tmp_path / "out.jsonl", f"qdrant:{tmp_path}/store/docs"):
        with pytest.raises(ConfigurationError, match=re.escape(said)):
            embed_file(folder, target, sparse=chroma, id="key", on_bad_row="skip")
    assert not server.requests
    write_jsonl(folder / "2.jsonl", [{"text": "b", "key": key} for key in ids[2000:-1]])
    report = embed_file(folder, tmp_path / "out.jsonl", sparse=chroma, id="key")
    assert [row["id"] for row in read_target(tmp_path / "out.jsonl")] == ids[:-1]
    assert report.rows == len(ids) - 1


def test_parquet_is_compressed_with_zstd_and_keeps_no_dictionary_of_numbers(
    chroma: dict[str, Any], tmp_path: Path, source: Path
) -> None:
    embed_file(source, tmp_path / "out.parquet", sparse=chroma, dense=chroma, keep=["title"])
    group = pq.ParquetFile(tmp_path / "out.parquet").metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    dictionaries = {column.path_in_schema for column in columns if "RLE_DICTIONARY" in column.encodings}
    assert dictionaries == {"title"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "name what to embed with"),
        ({"sparse": "cohere"}, "unknown provider 'cohere'"),
        ({"keep": "title"}, "keep must be a list of columns: ['title']"),
        ({"sparse": "pinecone"}, "no API key: set PINECONE_API_KEY"),
        ({"layout": "wide"}, "layout must be one of plain, pinecone, milvus"),
        ({"layout": "pinecone"}, "the layout 'pinecone' is for Parquet"),
        ({"target": "out.csv"}, "the target's formats are .parquet, .jsonl"),
        ({"target": "missing/out.jsonl"}, "cannot write missing/out.jsonl: there is no folder missing"),
        ({"target": "docs.jsonl"}, "exists and was not written by this command"),
        ({"source": "nowhere.jsonl"}, "no such file"),
        ({"source": "docs.txt"}, "unknown format"),
        ({"source": "docs.json"}, ".parquet (.jsonl has one JSON object per line)"),
        ({"text": "body"}, "no column 'body' in the source; it has 'text', 'title'"),
        ({"id": "key"}, "docs.jsonl, line 1: there is no column 'key'; it has 'text', 'title'"),
        ({"id": "key", "on_bad_row": "skip"}, "there is no column 'key' in the source; it has 'text', 'title'"),
        ({"keep": ["sparse"]}, "cannot be kept: the target has its own column 'sparse'"),
        ({"on_bad_row": "ignore"}, "on_bad_row must be one of fail, skip"),
        ({"part_rows": 0}, "part_rows must be a whole number of at least 1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(  # noqa: PLR0917  # fixtures
    options: dict[str, Any],
    said: str,
    chroma: dict[str, Any],
    server: FaultServer,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(source.parent)
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    Path("docs.txt").write_text("a text")
    Path("docs.json").write_text("{}")
    given = {"source": "docs.jsonl", "target": "out.jsonl"} | ({"sparse": chroma} if options else {}) | options
    with pytest.raises(SparseEmbedError, match=re.escape(said)):
        embed_file(given.pop("source"), given.pop("target"), **given)
    assert not server.requests
    assert {path.name for path in source.parent.iterdir()} == {"docs.json", "docs.jsonl", "docs.txt"}


def test_values_of_different_types_are_refused_for_parquet_before_anything_is_sent(
    chroma: dict[str, Any], server: FaultServer, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "docs.jsonl", [{"text": "a", "year": 1}, {"text": "b", "year": "two"}])
    with pytest.raises(ConfigurationError, match="'year' has values of different types"):
        embed_file(tmp_path / "docs.jsonl", tmp_path / "out.parquet", sparse=chroma, keep=["year"])
    assert not server.requests
    embed_file(tmp_path / "docs.jsonl", tmp_path / "out.jsonl", sparse=chroma, keep=["year"])
    assert [row["year"] for row in read_target(tmp_path / "out.jsonl")] == [1, "two"]


def test_an_error_names_rows_of_the_source_and_the_next_run_goes_on(
    chroma: dict[str, Any], server: FaultServer, source: Path, tmp_path: Path
) -> None:
    server.script = lambda seen: status(401) if "text 1999" in seen.texts else GOOD
    target = tmp_path / "out.jsonl"
    config = chroma | {"max_concurrency": 1}
    with pytest.raises(AuthenticationError) as failed:
        embed_file(source, target, sparse=config, part_rows=400)
    assert failed.value.texts is not None
    assert 1999 in failed.value.texts
    paid = sum(map(len, server.texts))
    server.script = lambda seen: GOOD
    report = embed_file(source, target, sparse=config, part_rows=400)
    assert_right(read_target(target), "sparse")
    assert report.resumed % 200, "half of part_rows are saved at once, but all that had arrived is saved at the end"
    assert paid == 20 * BATCH
    assert sum(map(len, server.texts)) == report.vectors + BATCH, "only the refused request was sent twice"


def test_another_source_or_setting_is_refused_with_what_differs(
    chroma: dict[str, Any], server: FaultServer, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    embed_file(source, target, sparse=chroma)
    sent = len(server.requests)
    with pytest.raises(ConfigurationError, match=re.escape("sparse.task was None and is now 'QA'")):
        embed_file(source, target, sparse=chroma | {"task": "QA"})
    with pytest.raises(ConfigurationError, match=re.escape("keep was [] and is now ['title']")):
        embed_file(source, target, sparse=chroma, keep=["title"])
    assert embed_file(source, target, sparse=chroma | {"max_concurrency": 3}, part_rows=7).resumed == ROWS
    source.write_text(source.read_text() + '{"text": "one more"}\n')
    with pytest.raises(ConfigurationError, match=re.escape("it had 3,000 rows and")):
        embed_file(source, target, sparse=chroma)
    assert len(server.requests) == sent
    target.unlink()
    assert embed_file(source, target, sparse=chroma).rows == ROWS + 1, "a target that was deleted is made anew"


def test_with_a_cache_a_source_that_has_grown_costs_no_more_than_its_new_rows(
    chroma: dict[str, Any], server: FaultServer, source: Path, tmp_path: Path
) -> None:
    cached = chroma | {"cache": str(tmp_path / "vectors.sqlite")}
    embed_file(source, tmp_path / "out.parquet", sparse=cached)
    sent = len(server.texts)
    source.write_text(source.read_text() + '{"text": "one more"}\n')
    assert embed_file(source, tmp_path / "all.parquet", sparse=cached).vectors
    question, rows = server.texts[sent:]
    assert (len(question), rows) == (1, ["one more"]), "one text asks what computes the vectors, then what is new"


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl", "qdrant:store/docs"])
def test_another_engine_of_a_local_provider_is_refused_soon_after_its_first_answer(  # noqa: PLR0917  # fixtures
    target: str,
    chroma: dict[str, Any],
    server: FaultServer,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:400]))  # Qdrant's local mode is slow

    def answer(engine: str, *, until: int) -> None:
        good = Action(headers={"x-sparse-embed-engine": engine})
        server.script = lambda seen: good if seen.number <= until else status(401)

    config = chroma | {"max_concurrency": 1}
    answer("one", until=3)
    with pytest.raises(AuthenticationError):
        embed_file(source, target, sparse=config, part_rows=200)
    answer("two", until=99)
    with pytest.raises(ConfigurationError, match=re.escape("engine.sparse was 'one' and is now 'two'")):
        embed_file(source, target, sparse=config, part_rows=200)
    assert len(server.requests) <= 8, "before more than a part was embedded"
    answer("one", until=99)
    assert embed_file(source, target, sparse=config, part_rows=200).resumed > 0


def test_counts_of_the_report_are_those_of_all_runs(
    chroma: dict[str, Any], server: FaultServer, source: Path, tmp_path: Path
) -> None:
    seen: list[Report] = []
    events: list[Event] = []
    server.script = lambda seen: status(429, headers={"retry-after": "0.01"}) if seen.number == 3 else GOOD
    report = embed_file(
        source, tmp_path / "out.jsonl", sparse=chroma, price=2.0, on_progress=seen.append, on_event=events.append
    )
    answered = [request for request in server.requests if request.number != 3]
    assert report.tokens == sum(len(request.texts) for request in answered)  # one each, says this server
    assert (report.requests, report.retries) == (len(server.requests), 1)
    assert report.cost == pytest.approx(2 * report.tokens / 1e6)
    assert [progress.rows for progress in seen] == sorted(progress.rows for progress in seen)
    assert seen[0].total == seen[-1].total == ROWS
    assert any(isinstance(event, Paused) for event in events)
    assert json.loads(report.to_json())["vectors"] == report.vectors


@pytest.mark.parametrize(("target", "kind"), [("out.jsonl", FileTarget), ("qdrant:store/docs", QdrantTarget)])
def test_the_time_of_the_last_save_is_counted(
    target: str, kind: Any, chroma: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By this clock, a save takes 100 s, and everything else no time."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("docs.jsonl"), LINES)
    clock, save = 0, kind.save

    def save_slowly(*arguments: Any) -> object:
        nonlocal clock
        clock += 100
        return save(*arguments)

    monkeypatch.setattr(kind, "save", save_slowly)
    monkeypatch.setattr("sparse_embed.bulk.job.time", SimpleNamespace(monotonic=lambda: clock))
    assert embed_file("docs.jsonl", target, sparse=chroma).seconds == 100


def test_no_more_is_asked_for_than_one_part_and_the_requests_in_flight(
    chroma: dict[str, Any], server: FaultServer, source: Path, tmp_path: Path
) -> None:
    """A request at the head that is not answered holds back what could not be saved, until it is sent again."""
    server.script = lambda seen: Action(gate=Gate()) if seen.number == 1 else GOOD
    most = 0

    def look(report: Report) -> None:
        nonlocal most
        most = max(most, sum(map(len, server.texts)) - report.rows)

    config = chroma | {"max_concurrency": 3, "timeout": 2}
    embed_file(source, tmp_path / "out.jsonl", sparse=config, part_rows=500, on_progress=look)
    assert_right(read_target(tmp_path / "out.jsonl"), "sparse")
    assert most <= 3 * BATCH + 500


def test_standard_input_is_json_lines(
    chroma: dict[str, Any], tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        pipe(source.read_bytes(), monkeypatch)
        embed_file("-", tmp_path / "out.jsonl", sparse=chroma)
    assert_right(read_target(tmp_path / "out.jsonl"), "sparse")


async def test_a_running_event_loop_does_not_matter(chroma: dict[str, Any], tmp_path: Path, source: Path) -> None:
    """As in a notebook."""
    embed_file(source, tmp_path / "out.jsonl", sparse=chroma)
    assert_right(read_target(tmp_path / "out.jsonl"), "sparse")


def test_a_target_for_which_nothing_was_embedded_can_be_begun_anew(
    chroma: dict[str, Any], server: FaultServer, source: Path
) -> None:
    server.script = lambda seen: status(404)
    with pytest.raises(NotFoundError):
        embed_file(source, source.with_name("out.parquet"), sparse=chroma | {"model": "unknown"})
    server.script = lambda seen: GOOD
    assert embed_file(source, source.with_name("out.parquet"), sparse=chroma).rows == ROWS
