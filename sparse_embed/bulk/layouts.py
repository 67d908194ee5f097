"""The columns of a target: ours, Pinecone's import's, or Milvus' import's.

Decides names and types of columns, and which rows an importer would refuse. Leaves writing to ``files``.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pydantic_core import to_json

from sparse_embed.arrow import list_column, to_arrow
from sparse_embed.bulk.sources import Row
from sparse_embed.convert import to_milvus, to_pinecone
from sparse_embed.errors import ConfigurationError
from sparse_embed.settings import Kind
from sparse_embed.vectors import SparseVector

PINECONE_ID: Final = 512  # characters; with the next, Pinecone's limits of 2026-11
PINECONE_METADATA: Final = 40 * 1024  # bytes


class Embedded(NamedTuple):
    """A row with its vectors; None where none was asked for, and for a blank text."""

    row: Row
    sparse: SparseVector | None
    dense: list[float] | None


class Layout(NamedTuple):
    """Names of columns, and what an importer refuses.

    Attributes:
        name: As in ``--layout``.
        sparse: Column of the sparse vectors.
        dense: Column of the dense vectors.
        metadata: Column for the columns to keep, as JSON; None if they stay columns.
        refuse: What the importer would refuse about a row, None if nothing.
        parquet_only: Whether the importer reads Parquet alone.
    """

    name: str
    sparse: str
    dense: str
    metadata: str | None
    refuse: Callable[[Embedded, Sequence[Kind]], str | None]
    parquet_only: bool

    def columns(self, kinds: Sequence[Kind], keep: Sequence[str]) -> list[str]:
        """Names of all columns, in order.

        Raises:
            ConfigurationError: A column to keep has the name of another.
        """
        own = ["id", *(self.sparse if kind == "sparse" else self.dense for kind in kinds)]
        if self.metadata is not None:
            return own + [self.metadata] * bool(keep)
        for name in keep:
            if name in own:
                raise ConfigurationError(f"the column {name!r} cannot be kept: the target has its own column {name!r}")
        return own + list(keep)

    def table(self, rows: Sequence[Embedded], columns: Sequence[str], types: Mapping[str, pa.DataType]) -> pa.Table:
        """The rows as an Arrow table.

        Args:
            rows: The rows.
            columns: From `columns`.
            types: Types of the id and of the columns that are kept as columns.
        """
        return pa.table({name: self._column(name, rows, types) for name in columns})

    def lines(self, rows: Sequence[Embedded], columns: Sequence[str]) -> Iterator[bytes]:
        """The rows as JSON objects."""
        for row in rows:
            record: dict[str, Any] = {name: row.row.kept.get(name) for name in columns} | {"id": row.row.id}
            if self.sparse in columns:
                vector = row.sparse  # as lists, which are written faster than tuples
                record[self.sparse] = vector and {"indices": list(vector.indices), "values": list(vector.values)}
            if self.dense in columns:
                record[self.dense] = row.dense
            yield to_json(record, bytes_mode="base64")

    def _column(self, name: str, rows: Sequence[Embedded], types: Mapping[str, pa.DataType]) -> pa.Array:
        if name == self.sparse:
            return to_arrow(row.sparse for row in rows)
        if name == self.dense:
            return list_column(pa.float32(), [row.dense for row in rows])
        if name == self.metadata:
            return pa.array([_metadata(row.row) for row in rows], pa.string())
        if name != "id":
            return pa.array([row.row.kept[name] for row in rows], types[name])
        if self.metadata is not None:
            return pa.array([str(row.row.id) for row in rows], pa.string())
        return pa.array([row.row.id for row in rows], types["id"])


def _metadata(row: Row) -> str:
    """Pinecone has no null: a missing value has no field."""
    return json.dumps({name: value for name, value in row.kept.items() if value is not None}, ensure_ascii=False)


def _refuse_nothing(row: Embedded, kinds: Sequence[Kind]) -> None:
    return None


def _refuse_for_pinecone(row: Embedded, kinds: Sequence[Kind]) -> str | None:
    row_id = str(row.row.id)
    if len(row_id) > PINECONE_ID or not row_id.isascii():
        return f"Pinecone accepts ids of up to {PINECONE_ID} ASCII characters"
    try:
        if len(_metadata(row.row).encode()) > PINECONE_METADATA:
            return f"Pinecone accepts {PINECONE_METADATA:,} bytes of metadata"
    except TypeError as error:
        return f"the metadata cannot be written as JSON: {error}"
    for name, value in row.row.kept.items():
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not (texts or isinstance(value, str | int | float | None)):
            return f"Pinecone accepts texts, numbers, booleans and lists of texts as metadata, unlike {name!r}"
    return _refuse_vector(row, kinds, "Pinecone", to_pinecone)


def _refuse_for_milvus(row: Embedded, kinds: Sequence[Kind]) -> str | None:
    return _refuse_vector(row, kinds, "Milvus' import", to_milvus)


def _refuse_vector(
    row: Embedded, kinds: Sequence[Kind], importer: str, convert: Callable[[SparseVector], object]
) -> str | None:
    if row.row.text is None:
        return f"the text is blank, and {importer} accepts no row without a vector"
    if row.sparse is not None:
        if not row.sparse.indices:
            return f"the text has no terms, and {importer} accepts no empty vector"
        try:
            convert(row.sparse)
        except ConfigurationError as error:
            return error.message
    return None


LAYOUTS: Final = {
    layout.name: layout
    for layout in (
        Layout("plain", "sparse", "dense", None, _refuse_nothing, parquet_only=False),
        Layout("pinecone", "sparse_values", "values", "metadata", _refuse_for_pinecone, parquet_only=True),
        Layout("milvus", "sparse", "dense", None, _refuse_for_milvus, parquet_only=True),
    )
}
