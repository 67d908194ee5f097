"""Rows and files that cannot be read: refused with their place before anything is sent, or left out on wish."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparse_embed import ConfigurationError
from sparse_embed.bulk import embed_file
from tests.bulk.conftest import pipe, read_target, write_parquet
from tests.faultserver import FaultServer


@pytest.mark.parametrize(
    ("name", "content", "where", "reason"),
    [
        ("docs.jsonl", b'{"text": "a"}\n{"text": \n', "docs.jsonl, line 2", "not JSON"),
        ("docs.jsonl", b'{"text": "a"}\n\n["b"]\n', "docs.jsonl, line 3", "not a JSON object"),
        ("docs.jsonl", b'{"text": "a"}\n{"text": 5}\n', "row 1", "text is of type int, not a text"),
        ("docs.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "docs.jsonl, line 2", "hex escape at column 17"),
        ("docs.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "docs.jsonl, line 2", "invalid unicode code point"),
        ("docs.csv", b"text,title\na,b\nc\n", "docs.csv, line 3", "1 fields, and the header has 2"),
        ("docs.csv", b"text,title\na,b\n\xff,d\n", "docs.csv, line 3", "not valid UTF-8"),
    ],
)
def test_a_broken_row_is_refused_before_anything_is_sent_or_left_out_on_wish(  # noqa: PLR0917  # fixtures
    name: str, content: bytes, where: str, reason: str, chroma: dict[str, Any], server: FaultServer, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    target = tmp_path / "out.jsonl"
    with pytest.raises(ConfigurationError, match=re.escape(reason)) as refused:
        embed_file(tmp_path / name, target, sparse=chroma)
    assert where.removeprefix("row 1") in str(refused.value)
    assert not server.requests
    report = embed_file(tmp_path / name, target, sparse=chroma, on_bad_row="skip")
    assert [row["id"] for row in read_target(target)] == [0]
    [rejected] = [json.loads(line) for line in (tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines()]
    assert report.rejected_rows == [rejected]
    assert rejected["row"] == 1
    assert reason in rejected["reason"]


def write_undecodable(path: Path, column: str) -> None:
    """Two rows, of which Python cannot hold the second one's text or date."""
    texts = [b"a", b"\xff" if column == "text" else b"b"]
    days = [0, 2**30 if column == "day" else 1]
    text, day = pa.array(texts, pa.binary()).view(pa.string()), pa.array(days, pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"text": text, "day": day}), path)


@pytest.mark.parametrize(("column", "reason"), [("text", "'utf-8' codec can't decode"), ("day", "days=1073741824")])
def test_a_row_of_parquet_that_python_cannot_hold_is_a_bad_row(
    column: str, reason: str, chroma: dict[str, Any], tmp_path: Path
) -> None:
    source, target = tmp_path / "docs.parquet", tmp_path / "out.parquet"
    write_undecodable(source, column)
    with pytest.raises(ConfigurationError, match=re.escape(f"docs.parquet, row 1: cannot be decoded: {reason}")):
        embed_file(source, target, sparse=chroma, keep=["day"])
    report = embed_file(source, target, sparse=chroma, keep=["day"], on_bad_row="skip")
    assert [row["id"] for row in read_target(target)] == [0]
    assert [row["row"] for row in report.rejected_rows] == [1]


def test_a_damaged_page_of_parquet_is_refused_with_its_place(
    chroma: dict[str, Any], server: FaultServer, tmp_path: Path
) -> None:
    path = tmp_path / "docs.parquet"
    write_parquet(path, [{"text": f"text {row}"} for row in range(7000)])
    page = pq.read_metadata(path).row_group(6).column(0).data_page_offset  # the seventh group begins with row 4,200
    content = bytearray(path.read_bytes())
    content[page : page + 50] = b"\xff" * 50
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(f"{path} cannot be read as Parquet after its first 4,096")):
        embed_file(path, tmp_path / "out.jsonl", sparse=chroma, on_bad_row="skip")
    assert not server.requests


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="the file that cannot be read is one of Linux")
@pytest.mark.parametrize("name", ["docs.jsonl", "docs.csv"])
def test_a_file_that_cannot_be_read_is_named(name: str, chroma: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")
    with pytest.raises(ConfigurationError, match=re.escape(f"{tmp_path / name} cannot be read: Input/output error")):
        embed_file(tmp_path / name, tmp_path / "out.jsonl", sparse=chroma)


@pytest.mark.parametrize(
    "content",
    [
        b'[{"text": "a"}, {"text": "b"}]\n',
        b'[{"text": "a"},\n{"text": "b"}]',
        b'\xef\xbb\xbf\n [\n{"text": "a"},\n{"text": "b"}\n]',
    ],
)
def test_a_file_that_is_one_json_array_is_refused_with_the_way_to_convert_it(
    content: bytes, chroma: dict[str, Any], server: FaultServer, tmp_path: Path
) -> None:
    (tmp_path / "my docs.jsonl").write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape("one JSON array")) as refused:
        embed_file(tmp_path / "my docs.jsonl", tmp_path / "out.jsonl", sparse=chroma, on_bad_row="skip")
    assert not server.requests
    command = str(refused.value).partition("embed the new file instead: ")[2]
    subprocess.run(command, shell=True, check=True)  # as a user pastes it
    embed_file(tmp_path / "my docs.lines.jsonl", tmp_path / "out.jsonl", sparse=chroma, keep=["text"])
    assert [row["text"] for row in read_target(tmp_path / "out.jsonl")] == ["a", "b"]


@pytest.mark.parametrize("first", ["[]", '["b"]', '[{"text": "b"}]'])
def test_a_first_line_with_an_array_is_a_bad_row_like_any_other(
    first: str, chroma: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "docs.jsonl").write_text(f'{first}\n{{"text": "a"}}\n')
    with pytest.raises(ConfigurationError, match=re.escape("docs.jsonl, line 1: not a JSON object")):
        embed_file(tmp_path / "docs.jsonl", tmp_path / "out.jsonl", sparse=chroma)
    report = embed_file(tmp_path / "docs.jsonl", tmp_path / "out.jsonl", sparse=chroma, on_bad_row="skip")
    assert (report.rows, report.rejected) == (2, 1)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl", b"", ""),
        ("a.jsonl", b"\n \n", ""),
        ("a.csv", b"", ""),
        ("a.csv", b"text\n", ""),
        ("a.jsonl", b'{\n"text": "a"\n}', " that can be read: a.jsonl, line 1: not JSON: EOF while parsing an object"),
        ("-", b"", ""),
        ("-", b"5\n", " that can be read: standard input, line 1: not a JSON object"),
    ],
)
def test_a_source_without_a_row_is_refused_and_leaves_no_target(  # noqa: PLR0917  # fixtures
    name: str, content: bytes, why: str, chroma: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = name if name == "-" else tmp_path / name
    pipe(content, monkeypatch)
    if isinstance(source, Path):
        source.write_bytes(content)
    said = f"there is no row in {'standard input' if name == '-' else source}{why}"
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        embed_file(source, tmp_path / "out.jsonl", sparse=chroma, on_bad_row="skip")
    assert [path.name for path in tmp_path.iterdir()] == ([] if name == "-" else [name])


def test_an_array_on_standard_input_is_converted_in_the_pipe(
    chroma: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b'[{"text": "a"}, {"text": "b"}]'
    pipe(content, monkeypatch)
    with pytest.raises(ConfigurationError, match="standard input begins like one JSON array") as refused:
        embed_file("-", tmp_path / "out.jsonl", sparse=chroma)
    assert list(tmp_path.iterdir()) == []
    [command] = re.findall(r"… \| (.*) \| sparse-embed embed - …", str(refused.value))
    pipe(subprocess.run(command, shell=True, check=True, input=content, stdout=subprocess.PIPE).stdout, monkeypatch)
    assert embed_file("-", tmp_path / "out.jsonl", sparse=chroma).rows == 2


def test_an_array_in_a_json_file_is_told_how_to_become_lines(chroma: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "docs.json").write_text("[]")
    with pytest.raises(ConfigurationError, match=re.escape(f"{tmp_path}/docs.json begins like one JSON array")):
        embed_file(tmp_path / "docs.json", tmp_path / "out.jsonl", sparse=chroma)
    with pytest.raises(ConfigurationError, match=re.escape(f"{tmp_path}: the folder has no such file (.jsonl,")):
        embed_file(tmp_path, tmp_path / "out.jsonl", sparse=chroma)
