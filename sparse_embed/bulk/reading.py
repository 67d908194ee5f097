"""Reading a finished target again, to search it."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sparse_embed.arrow import from_arrow
from sparse_embed.errors import ConfigurationError
from sparse_embed.index import InvertedIndex, Origin
from sparse_embed.vectors import SparseVector

SLICE: Final = 2048
SPARSE: Final = ("sparse", "sparse_values")  # the column's name in the layouts
DENSE: Final = ("dense", "values")


class Maker(NamedTuple):
    """What made the sparse vectors of a file.

    Attributes:
        arguments: Of its encoder.
        address: The address that was asked.
        origin: Provider, model and engine.
    """

    arguments: dict[str, Any]
    address: str
    origin: Origin


def read_index(path: Path, *, idf: bool) -> InvertedIndex:
    """An index over the sparse column of a file; the other columns are each document's metadata.

    Args:
        path: The file.
        idf: Whether rare terms count more.

    Raises:
        ConfigurationError: It cannot be read, or has no sparse vectors.
    """
    index = InvertedIndex(idf=idf)
    try:
        for rows, vectors in _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_jsonl(path):
            found = [(row, vector) for row, vector in zip(rows, vectors, strict=True) if vector is not None]
            ids = [str(row.pop("id")) for row, _ in found]
            index.add(ids, [vector for _, vector in found], [row for row, _ in found])
    except FileNotFoundError:
        raise _missing(path) from None
    except KeyError:
        raise _without_sparse(path) from None
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be read as a file of `sparse-embed embed`: {error}") from None
    return index


def read_maker(path: Path) -> Maker | None:
    """What made the sparse vectors of a file; None if no manifest is beside it.

    Raises:
        ConfigurationError: There is no such file, or no sparse encoder in its manifest.
    """
    try:
        manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_bytes())
        settings, engines = manifest["settings"], manifest.get("engines", {})
    except (OSError, ValueError, LookupError):
        if not path.exists():
            raise _missing(path) from None
        return None
    if "sparse" not in settings:
        raise _without_sparse(path)
    made = settings["sparse"]
    # Where to ask is decided here, not by the file: the provider may have moved, and the key must not follow a file.
    address = made.pop("address")
    return Maker(made, address, Origin(made["provider"], made["model"], engines.get("sparse")))


def _missing(path: Path) -> ConfigurationError:
    unfinished = path.with_name(f"{path.name}.parts").exists()
    what = "is not finished: run the same `sparse-embed embed` again" if unfinished else "does not exist"
    return ConfigurationError(f"{path} {what}")


def _without_sparse(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} has no sparse vectors: it was not written by `sparse-embed embed --sparse …`")


def _read_parquet(path: Path) -> Iterator[tuple[list[dict[str, Any]], list[SparseVector | None]]]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        sparse = next((name for name in SPARSE if name in names), SPARSE[0])
        for batch in file.iter_batches(SLICE, columns=[name for name in names if name not in DENSE]):
            table = pa.Table.from_batches([batch])
            yield table.drop_columns(sparse).to_pylist(), from_arrow(table[sparse])


def _read_jsonl(path: Path) -> Iterator[tuple[list[dict[str, Any]], list[SparseVector | None]]]:
    with path.open(encoding="utf-8") as file:
        while rows := [json.loads(line) for line in islice(file, SLICE)]:
            vectors = [row.pop("sparse") for row in rows]
            for row in rows:
                row.pop("dense", None)
            yield rows, [vector and SparseVector(vector["indices"], vector["values"]) for vector in vectors]
