"""A Qdrant collection as a target: named vectors, and ids that a repeated run would give again.

Decides how rows become points. What is in the collection is not embedded again.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from filelock import FileLock, Timeout

from sparse_embed.bulk.identity import (
    leaves_idf_to_the_store,
    refuse_other_engines,
    refuse_other_settings,
    refuse_other_source,
)
from sparse_embed.bulk.layouts import Embedded, Layout
from sparse_embed.bulk.pipeline import Item
from sparse_embed.bulk.report import Report
from sparse_embed.bulk.sources import BadRow, Row, Scan
from sparse_embed.convert import to_qdrant
from sparse_embed.errors import ConfigurationError, SparseEmbedError
from sparse_embed.extras import requires
from sparse_embed.settings import Kind

ASKED_AT_ONCE: Final = 1000  # ids
POINTS: Final = 256  # per request: under Qdrant's 32 MB with dense vectors of 4,096 values and 500 terms
METADATA: Final = "sparse_embed"  # of the collection: what it was made from
LARGEST_ID: Final = 2**64 - 1


class QdrantTarget:
    """A collection.

    Args:
        target: ``qdrant:URL/COLLECTION``; instead of a URL, a folder for Qdrant's local mode.
        layout: Must be the plain one.
        kinds: Kinds of vectors.

    Raises:
        ConfigurationError: No such address, or another layout.
        ImportError: qdrant-client is not installed.
    """

    typed = False
    at_once: int | None = POINTS  # one request: in its local mode, more would keep a user waiting after Ctrl-C
    own_files: Sequence[Path] = ()

    def __init__(self, target: str, layout: Layout, kinds: Sequence[Kind]) -> None:
        with requires("qdrant-client", "qdrant"):
            from qdrant_client import QdrantClient
        place, _, self._collection = target.removeprefix("qdrant:").rpartition("/")
        if not place or not self._collection:
            raise ConfigurationError(
                f"{target}: a store is named qdrant:URL/COLLECTION, or qdrant:FOLDER/COLLECTION for Qdrant's local mode"
            )
        if layout.name != "plain":
            raise ConfigurationError(f"the layout {layout.name!r} is for files")
        self._target, self._kinds = target, kinds
        self._made_by: dict[str, Any] = {}
        self._exists = False
        self._report = Report()
        with self._named_errors():
            if "://" in place:
                self._client = QdrantClient(place, api_key=os.environ.get("QDRANT_API_KEY"))
            else:
                place = os.path.abspath(place)
                self._client = QdrantClient(path=place)
        self._place = place

    @property
    def settings(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}

    @property
    def spool(self) -> Path:
        """Where standard input is kept while a run lasts."""
        return self._temporary(".jsonl")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this machine from this collection."""
        lock = FileLock(self._temporary(".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigurationError(f"another process is writing {self._target}") from None
        try:
            yield
        finally:
            self._client.close()
            lock.release()

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a collection that was begun with other settings, or by something else."""
        with self._named_errors():
            self._exists = self._client.collection_exists(self._collection)
            if self._exists:
                metadata = self._client.get_collection(self._collection).config.metadata or {}
                self._made_by = metadata.get(METADATA, {})
                if not self._made_by:
                    raise ConfigurationError(f"{self._target} exists and was not made by this command: name another")
                refuse_other_settings(self._target, self._made_by["settings"], settings, self._again)
        self._made_by["settings"] = settings

    def begin(self, scan: Scan) -> Report:
        """Begin, or go on; returns how many points there are."""
        source = {"rows": scan.rows, "fingerprint": scan.fingerprint}
        refuse_other_source(self._target, self._made_by.setdefault("source", source), source, self._again)
        with self._named_errors():
            points = self._client.count(self._collection).count if self._exists else 0
        self._report = Report(total=scan.rows, rows=points, resumed=points)
        return self._report

    def answered_by(self, engines: Mapping[str, str]) -> None:
        """Note the engines of local providers, which a new collection records; refuse others than before."""
        known = self._made_by.setdefault("engines", {})
        refuse_other_engines(self._target, known, engines, self._again)
        known.update(engines)

    def unfinished(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows that are no points yet."""
        if not self._exists:
            yield from rows
        while part := list(islice(rows, ASKED_AT_ONCE)):
            ids = [_point_id(row) for row in part if isinstance(row, Row)]
            with self._named_errors():
                found = self._client.retrieve(self._collection, ids, with_payload=False, with_vectors=False)
            there = {str(point.id) for point in found}
            yield from (row for row in part if isinstance(row, BadRow) or str(_point_id(row)) not in there)

    def save(self, items: Sequence[Item], spent: Report) -> Report:
        """Upsert rows; those without a text become no points."""
        from qdrant_client.models import PointStruct

        bad = [item for item in items if isinstance(item, BadRow)]
        rows = [item for item in items if not isinstance(item, BadRow)]
        blank = [row.row.number for row in rows if row.row.text is None]
        points = [
            PointStruct(id=_point_id(row.row), vector=_vectors(row), payload={"id": row.row.id, **row.row.kept})
            for row in rows
            if row.row.text is not None
        ]
        with self._named_errors():
            if points:
                if not self._exists:
                    self._create(next((len(row.dense) for row in rows if row.dense is not None), 0))
                self._client.upsert(self._collection, points, wait=True)
        saved = replace(
            spent,
            rows=len(items),
            vectors=len(points) * len(self._kinds),
            blank=len(blank),
            blank_rows=blank,
            rejected=len(bad),
            rejected_rows=[{"row": row.number, "where": row.where, "reason": row.reason} for row in bad],
        )
        self._report += saved
        return saved

    def finish(self, spent: Report) -> Report:
        """Nothing is left to do."""
        return replace(self._report + spent, finished=True)

    def _create(self, dimension: int) -> None:
        from qdrant_client.models import Distance, Modifier, SparseVectorParams, VectorParams

        dense = VectorParams(size=dimension or 1, distance=Distance.COSINE)
        model = self._made_by["settings"].get("sparse", {}).get("model")
        idf = leaves_idf_to_the_store(model, self._made_by.get("engines", {}).get("sparse"))
        sparse = SparseVectorParams(modifier=Modifier.IDF if idf else None)
        self._client.create_collection(
            self._collection,
            vectors_config={"dense": dense} if "dense" in self._kinds else {},
            sparse_vectors_config={"sparse": sparse} if "sparse" in self._kinds else {},
            metadata={METADATA: self._made_by},
        )
        self._exists = True

    def _temporary(self, suffix: str) -> Path:
        digest = uuid5(NAMESPACE_URL, f"{self._place}/{self._collection}").hex
        return Path(tempfile.gettempdir(), f"sparse-embed-{digest}{suffix}")

    @property
    def _again(self) -> str:
        return "Repeat the earlier options, name another collection, or delete this one to start anew"

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        from qdrant_client.http.exceptions import ApiException

        try:
            yield
        except SparseEmbedError:
            raise
        except (ApiException, OSError, RuntimeError, ValueError) as error:
            raise SparseEmbedError(f"{self._target}: {error}") from error


def _point_id(row: Row) -> str | int:
    """Qdrant's ids are whole numbers and UUIDs: another id gives a UUID that is the same each time."""
    if isinstance(row.id, str):
        return str(uuid5(NAMESPACE_URL, f"sparse-embed:{row.id}"))
    if 0 <= row.id <= LARGEST_ID:
        return row.id
    return str(uuid5(NAMESPACE_URL, f"sparse-embed-number:{row.id}"))


def _vectors(row: Embedded) -> dict[str, Any]:
    sparse = {} if row.sparse is None else {"sparse": to_qdrant(row.sparse)}
    return sparse if row.dense is None else {"dense": row.dense, **sparse}
