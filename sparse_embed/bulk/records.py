"""How JSON Lines, CSV, TSV and Parquet files are read: as one record per row, lazily.

Decides what is well-formed, and what is wrong with a line that is not. Leaves what a row needs to ``sources``.
"""

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

from sparse_embed.errors import ConfigurationError

SLICE: Final = 2048  # rows read from Parquet at once
Record: TypeAlias = tuple[int, dict[str, Any] | str]  # its line (its row in Parquet), and its fields or what is wrong


def _read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    first = True
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901  # a byte order mark
            line = line.strip()  # noqa: PLW2901
            if not line:
                continue
            if first and line.startswith(b"["):
                raise _one_array(path)
            first = False
            yield number, _parse_json(line)


def _one_array(path: Path) -> ConfigurationError:
    lines = path.with_name(f"{path.stem}.lines.jsonl")
    return ConfigurationError(
        f"{path} begins like one JSON array, and JSON Lines has an object in each line. Convert it, and embed the new "
        "file instead: python -c 'import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin.buffer)]' "
        f"< {quote(str(path))} > {quote(str(lines))}"
    )


def _parse_json(line: bytes) -> dict[str, Any] | str:
    try:
        record = from_json(line)  # refuses what is not valid Unicode, too
    except ValueError as error:
        return f"not JSON: {error}".replace(" at line 1 column", " at column")
    return record if isinstance(record, dict) else 'not a JSON object, such as {"text": "…"}'


def _read_csv(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)  # Python's own limit of 128 KB is too short for texts
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = next(reader, [])
        _require_columns(path, columns, header)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, f"not CSV: {error}"
                continue
            if fields:
                yield reader.line_num, _parse_fields(header, fields)


def _parse_fields(header: list[str], fields: list[str]) -> dict[str, Any] | str:
    if len(fields) != len(header):
        return f"{len(fields)} fields, and the header has {len(header)}"
    if not all(field.isascii() for field in fields):
        try:
            "".join(fields).encode()
        except UnicodeEncodeError:
            return "not valid UTF-8"
    return dict(zip(header, fields, strict=True))


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    # Buffered, without which pyarrow holds all columns of a row group in memory.
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            _require_columns(path, columns, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(SLICE, columns=list(columns)):
                for record in batch.to_pylist():
                    yield number, record
                    number += 1
    except pa.ArrowException as error:
        raise ConfigurationError(f"{path} cannot be read as Parquet: {error}") from None


def _require_columns(path: Path, columns: Sequence[str], present: Sequence[str]) -> None:
    for name in columns:
        if name not in present:
            raise no_column(str(path), name, present)


def no_column(where: str, name: str, present: Sequence[str]) -> ConfigurationError:
    """The error of a column that is missing."""
    return ConfigurationError(f"there is no column {name!r} in {where}; it has {', '.join(map(repr, present))}")


FORMATS: Final[dict[str, Callable[[Path, Sequence[str]], Iterator[Record]]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
