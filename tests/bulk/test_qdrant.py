"""A Qdrant collection as a target."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient
from qdrant_client.models import Modifier

from sparse_embed.bulk import embed_file
from tests.bulk.conftest import write_jsonl
from tests.faultserver import Action, FaultServer


def read_modifier(store: Path) -> Modifier | None:
    with closing(QdrantClient(path=str(store))) as client:
        made = client.get_collection("docs").config.params.sparse_vectors
    assert made is not None
    return made["sparse"].modifier


@pytest.mark.parametrize("model", ["local/bm25", "some/model"])
def test_a_collection_of_qdrant_has_idf_for_bm25_alone(
    model: str, chroma: dict[str, Any], tmp_path: Path, source: Path
) -> None:
    source.write_text('{"text": "a text"}')
    embed_file(source, f"qdrant:{tmp_path}/store/docs", sparse=chroma | {"model": model})
    assert read_modifier(tmp_path / "store") == (Modifier.IDF if model == "local/bm25" else None)


@pytest.mark.parametrize("added", [[], ["another text"]], ids=["all from the cache", "some from the cache"])
def test_a_collection_has_idf_also_if_its_first_vectors_come_from_a_cache(
    added: list[str], chroma: dict[str, Any], server: FaultServer, tmp_path: Path
) -> None:
    server.script = lambda seen: Action(headers={"x-sparse-embed-engine": "local/bm25"})
    cached = chroma | {"model": "some/model", "cache": str(tmp_path / "vectors.sqlite")}
    for store, texts in (("first", ["a text"]), ("second", ["a text", *added])):
        write_jsonl(tmp_path / "docs.jsonl", [{"text": text} for text in texts])
        embed_file(tmp_path / "docs.jsonl", f"qdrant:{tmp_path}/{store}/docs", sparse=cached)
        assert read_modifier(tmp_path / store) == Modifier.IDF


def test_after_ctrl_c_no_more_than_a_few_rows_are_saved_into_qdrant(
    chroma: dict[str, Any], tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its local mode writes one point at a time."""
    upsert, upserted = QdrantClient.upsert, list[int]()

    def stop_the_first(client: QdrantClient, collection: str, points: list[Any], **options: Any) -> object:
        upserted.append(len(points))
        if len(upserted) == 1:
            raise KeyboardInterrupt
        return upsert(client, collection, points, **options)

    monkeypatch.setattr(QdrantClient, "upsert", stop_the_first)
    with pytest.raises(KeyboardInterrupt):
        embed_file(source, f"qdrant:{tmp_path}/store/docs", sparse=chroma)
    assert 0 < sum(upserted[1:]) <= 256


def test_numbers_and_texts_that_read_the_same_are_points_of_their_own(chroma: dict[str, Any], tmp_path: Path) -> None:
    ids = [-1, "-1", 1, "1", 2**64, str(2**64)]
    write_jsonl(tmp_path / "docs.jsonl", [{"text": f"text {row}", "key": key} for row, key in enumerate(ids)])
    embed_file(tmp_path / "docs.jsonl", f"qdrant:{tmp_path}/store/docs", sparse=chroma, id="key")
    with closing(QdrantClient(path=str(tmp_path / "store"))) as client:
        points, _ = client.scroll("docs")
    found = [point.payload["id"] for point in points if point.payload]
    assert sorted(found, key=repr) == sorted(ids, key=repr)
