"""How JSON Lines, CSV, TSV and Parquet files are read: as one record per row, lazily.

Decides what is well-formed, and what is wrong with a line that is not. Leaves what a row needs to ``sources``.
"""

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

from sparse_embed.errors import ConfigurationError

SLICE: Final = 2048  # rows read from Parquet at once
MARK: Final = b"\xef\xbb\xbf"  # with which some programs begin a file in UTF-8
BEGINNING: Final = 4096  # bytes
JSON: Final = (".json", ".jsonl", ".ndjson")
Record: TypeAlias = tuple[int, dict[str, Any] | str]  # its line (its row in Parquet), and its fields or what is wrong


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """The error of a file that cannot be read names it."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from None


def refuse_array(path: Path, *, piped: bool = False) -> None:
    """Refuse a file, or standard input kept in one, that is one JSON array; the error says how to convert it."""
    with named_errors(path), path.open("rb") as file:
        if not _begins_an_array(file.read(BEGINNING).removeprefix(MARK).lstrip()):
            return
    code = "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin.buffer)]"
    convert = f"{quote(sys.executable)} -c '{code}'"
    if piped:
        name, advice = "standard input", f"Convert it in the pipe: … | {convert} | sparse-embed embed - …"
    else:
        lines = path.with_name(f"{path.stem}.lines.jsonl")
        name, advice = str(path), "Convert it, and embed the new file instead: "
        advice += f"{convert} < {quote(str(path))} > {quote(str(lines))}"
    raise ConfigurationError(f"{name} begins like one JSON array, and JSON Lines has an object in each line. {advice}")


def _begins_an_array(beginning: bytes) -> bool:
    first, _, rest = beginning.partition(b"\n")
    if not first.startswith(b"["):
        return False
    try:
        from_json(first)
    except ValueError:
        return True
    return not rest.strip()  # other lines follow: the first one is a bad row like any other


def _read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(MARK)  # noqa: PLW2901
            if not line.isspace():
                yield number, _parse_json(line)


def _parse_json(line: bytes) -> dict[str, Any] | str:
    try:
        record = from_json(line.rstrip(b"\r\n"))  # refuses what is not valid Unicode, too
    except ValueError as error:
        more = ", and JSON Lines has each object in one line" if "EOF" in str(error) else ""
        return f"not JSON: {error}{more}".replace(" at line 1 column", " at column")
    return record if isinstance(record, dict) else 'not a JSON object, such as {"text": "…"}'


def _read_csv(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    csv.field_size_limit(sys.maxsize)  # Python's own limit of 128 KB is too short for texts
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        header = next(reader, None)
        if header is None:
            return
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
    number = 0
    # Buffered, without which pyarrow holds all columns of a row group in memory.
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            _require_columns(path, columns, file.schema_arrow.names)
            for batch in file.iter_batches(SLICE, columns=list(columns)):
                for record in _decode(batch):
                    yield number, record
                    number += 1
    except (OSError, pa.ArrowException) as error:  # OSError also for a page that is damaged
        place = f" after its first {number:,} rows" if number else ""
        raise ConfigurationError(f"{path} cannot be read as Parquet{place}: {error}") from None


def _decode(rows: pa.RecordBatch) -> list[dict[str, Any] | str]:
    """Rows as Python's objects, which have no text that is not UTF-8 and no date after the year 9999."""
    try:
        records: list[dict[str, Any] | str] = rows.to_pylist()
    except pa.ArrowException:
        raise
    except (ValueError, OverflowError) as error:
        if len(rows) == 1:
            return [f"cannot be decoded: {error}"]
        return [record for at in range(len(rows)) for record in _decode(rows.slice(at, 1))]
    return records


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
