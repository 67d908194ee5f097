"""Layouts hold exactly the columns that Pinecone's and Milvus' imports accept; what those refuse is set aside."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparse_embed.bulk import embed_file
from tests.faultserver import Action, FaultServer, dense_of, sparse_of

SPARSE = pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))])
ROWS: list[dict[str, Any]] = [
    {"key": "a", "text": "one", "year": 1999, "tags": ["x", "y"], "by": None},
    {"key": "b", "text": " ", "year": 2000, "tags": [], "by": "me"},
    {"key": "c", "text": "three", "year": 2001, "tags": [], "by": "é"},
]


@pytest.fixture
def config(server: FaultServer) -> dict[str, Any]:
    return {"provider": "chroma", "base_url": server.url, "api_key": "any"}


def embedded(folder: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The table that was written, and the rejects."""
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    embed_file(folder / "docs.jsonl", folder / "out.parquet", id="key", **options)
    rejects = folder / "out.parquet.rejects.jsonl"
    lines = rejects.read_text().splitlines() if rejects.exists() else []
    return pq.read_table(folder / "out.parquet"), [json.loads(line) for line in lines]


def test_pinecone(config: dict[str, Any], tmp_path: Path) -> None:
    """The columns of docs.pinecone.io, "Import vectors": metadata is JSON, without nulls."""
    keep = ["year", "tags", "by"]
    table, rejects = embedded(tmp_path, ROWS, sparse=config, dense=config, layout="pinecone", keep=keep)
    assert dict(zip(table.column_names, table.schema.types, strict=True)) == {
        "id": pa.string(),
        "sparse_values": SPARSE,
        "values": pa.list_(pa.float32()),
        "metadata": pa.string(),
    }
    first, third = table.to_pylist()
    assert first["values"] == pytest.approx(dense_of("one"))
    assert first["sparse_values"]["indices"] == list(sparse_of("one").indices)
    assert json.loads(first["metadata"]) == {"year": 1999, "tags": ["x", "y"]}
    assert json.loads(third["metadata"]) == {"year": 2001, "tags": [], "by": "é"}
    assert rejects == [
        {"row": 1, "id": "b", "reason": "the text is blank, and Pinecone accepts no row without a vector"}
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"key": "é"}, "ids of up to 512 ASCII characters"),
        ({"key": "k" * 513}, "ids of up to 512 ASCII characters"),
        ({"more": {"nested": 1}}, "unlike 'more'"),
        ({"more": [1]}, "unlike 'more'"),
        ({"more": "x" * 41_000}, "40,960 bytes of metadata"),
    ],
)
def test_what_pinecone_would_refuse_is_set_aside(
    row: dict[str, Any], reason: str, config: dict[str, Any], tmp_path: Path
) -> None:
    rows = [{"key": "a", "text": "one", "more": None}, {"key": "b", "text": "two", "more": None} | row]
    table, [reject] = embedded(tmp_path, rows, sparse=config, layout="pinecone", keep=["more"])
    assert table["id"].to_pylist() == ["a"]
    assert reject["row"] == 1
    assert reason in reject["reason"]


def test_milvus(config: dict[str, Any], tmp_path: Path) -> None:
    table, rejects = embedded(tmp_path, ROWS, sparse=config, dense=config, layout="milvus", keep=["year"])
    assert dict(zip(table.column_names, table.schema.types, strict=True)) == {
        "id": pa.string(),
        "sparse": SPARSE,
        "dense": pa.list_(pa.float32()),
        "year": pa.int64(),
    }
    assert table.to_pylist()[1]["year"] == 2001
    assert [reject["id"] for reject in rejects] == ["b"]


@pytest.mark.parametrize("layout", ["pinecone", "milvus"])
def test_a_text_without_terms_is_set_aside(
    layout: Any, config: dict[str, Any], server: FaultServer, tmp_path: Path
) -> None:
    server.script = lambda seen: Action(change=lambda items: items[0].update(indices=[], values=[]))
    table, [reject] = embedded(tmp_path, ROWS[::2], sparse=config, layout=layout)
    assert table["id"].to_pylist() == ["c"]
    assert "has no terms" in reject["reason"]
