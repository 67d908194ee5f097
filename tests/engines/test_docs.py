"""The snippets of docs/ for Spark and Daft run as they stand, against the local provider; their files are read back."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sparse_embed import SparseEncoder
from sparse_embed.convert import from_arrow
from sparse_embed.server import local_provider
from tests.snippets import run, snippets


@pytest.mark.parametrize("engine", ["spark", "daft"])
def test_the_snippet_writes_the_vectors(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ((code, _),) = (snippet.values for snippet in snippets(f"python {engine}"))
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    with local_provider(stand_in=True) as provider:
        run(code, provider, tmp_path, monkeypatch)
        rows = pq.read_table(tmp_path / f"{engine}-vectors").sort_by("id")
        assert rows["id"].to_pylist() == [1, 2]
        with SparseEncoder("pinecone") as encoder:
            expected = encoder.embed_documents(rows["text"].to_pylist())
    found = from_arrow(rows["sparse"])
    assert [vector.indices for vector in found] == [vector.indices for vector in expected]
    assert [vector.values for vector in found] == [pytest.approx(vector.values) for vector in expected]
