"""A source of rows, the command in a process of its own, and what its target must hold."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from sparse_embed import SparseVector
from sparse_embed.cli import app
from sparse_embed.convert import from_arrow
from tests.faultserver import FaultServer, dense_of, sparse_of

ROWS = 3000
BATCH = 100  # Chroma's


def text_of(row: int) -> str | None:
    """Blank and missing texts are among them, and repeated ones."""
    return None if row % 97 == 5 else "  " if row % 89 == 7 else f"text {row % 2500}"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": text_of(row), "title": f"title {row}"}) + "\n" for row in range(ROWS)))
    return path


@pytest.fixture
def chroma(server: FaultServer) -> dict[str, Any]:
    return {"provider": "chroma", "base_url": server.url, "api_key": "any"}


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=700)


def pipe(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


class Command:
    """``sparse-embed embed`` against a server, in a folder."""

    def __init__(self, server: FaultServer, folder: Path) -> None:
        self.folder = folder
        self.env = os.environ | {
            "CHROMA_EMBED_URL": server.url,
            "CHROMA_API_KEY": "key-4711",
            "PYTHONWARNINGS": "error",
        }
        self.env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))

    def start(
        self, *arguments: str, code: str = "from sparse_embed.cli import app; app()", **options: Any
    ) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, *arguments]
        usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": self.env}
        return subprocess.Popen(command, cwd=self.folder, **(usual | options))

    def __call__(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        given = options.pop("input", None)
        if given is not None:
            options["stdin"] = subprocess.PIPE
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(given, timeout=60)
        assert "Traceback" not in err
        assert "key-4711" not in out + err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def here(self, *arguments: str, **environment: str) -> Result:
        """The same in this process, for what needs none of its own: one takes a second to start."""
        env = {**self.env, **environment}
        with chdir(self.folder):
            done = CliRunner().invoke(app, arguments, env=env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert "key-4711" not in done.output
        return done


@pytest.fixture
def command(server: FaultServer, tmp_path: Path) -> Command:
    return Command(server, tmp_path)


def read_target(path: Path) -> list[dict[str, Any]]:
    """The rows of a target, with sparse vectors as `SparseVector`."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if row.get("sparse"):
                row["sparse"] = SparseVector(row["sparse"]["indices"], row["sparse"]["values"])
        return rows
    table = pq.read_table(path)
    rows = table.to_pylist()
    if "sparse" in table.column_names:
        for row, vector in zip(rows, from_arrow(table["sparse"]), strict=True):
            row["sparse"] = vector
    return rows


def assert_right(rows: Sequence[dict[str, Any]], *kinds: str) -> None:
    """Every row of the source is there once, in order, with its own vectors."""
    assert [row["id"] for row in rows] == list(range(ROWS))
    for row in rows:
        text = text_of(row["id"])
        blank = text is None or not text.strip()
        if "sparse" in kinds:
            assert row["sparse"] == (None if blank else sparse_of(text))
        if "dense" in kinds:
            assert row["dense"] == (None if blank else pytest.approx(dense_of(text), rel=1e-6))
