"""Where rows come from: files, folders and globs of them, and standard input.

Decides what a row is, which rows are bad, and what identifies an input. Leaves the formats to ``records``. Memory does
not grow with a source, but for a few bytes per id, since none may occur twice.
"""

import glob
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sparse_embed.bulk.records import FORMATS, JSON, SLICE, named_errors, no_column, refuse_array
from sparse_embed.errors import ConfigurationError
from sparse_embed.texts import has_content


class Row(NamedTuple):
    """A row to embed.

    Attributes:
        number: Its position in the source, over all files, from 0.
        id: Value of the id column, or `number`.
        text: None if it is missing or blank: there is nothing to embed.
        kept: Values of the columns to keep.
    """

    number: int
    id: str | int
    text: str | None
    kept: dict[str, Any]


class BadRow(NamedTuple):
    """A row that cannot be read.

    Attributes:
        number: Its position in the source, over all files, from 0.
        where: File and line.
        reason: What is wrong.
    """

    number: int
    where: str
    reason: str


class Scan(NamedTuple):
    """What the first reading of a source found.

    Attributes:
        rows: Number of rows, bad ones included.
        fingerprint: Digest of the files' contents, in order.
        types: Arrow types of ``id`` and of the columns to keep; empty if they were not asked for.
    """

    rows: int
    fingerprint: str
    types: dict[str, pa.DataType]


@dataclass(frozen=True, slots=True)
class Source:
    """Files, and the columns that are read from them.

    Attributes:
        files: In the order in which they are read.
        text: Column of the texts.
        id: Column of the ids, None for row numbers.
        keep: Columns to keep.
        piped: Whether the only file holds what came from standard input.
    """

    files: Sequence[Path]
    text: str
    id: str | None
    keep: Sequence[str]
    piped: bool = False

    def rows(self) -> Iterator[Row | BadRow]:
        """All rows, in order."""
        for number, record in enumerate(self._records()):
            yield self._row(number, *record)

    def scan(self, *, on_bad_row: Callable[[BadRow], None], typed: bool) -> Scan:
        """Read everything once, before anything is paid for.

        Args:
            on_bad_row: Called with each bad row; may raise.
            typed: Whether the columns to keep need an Arrow type.

        Raises:
            ConfigurationError: There is no row that can be read, a column is missing, its values have no common type,
                or an id is repeated.
        """
        types = dict.fromkeys([*([] if self.id is None else ["id"]), *self.keep], pa.null()) if typed else {}
        rows, records, missing, present = 0, self._records(), set(self._columns()), list[str]()
        readable, bad, hashes = False, list[BadRow](), array("q")
        while part := list(islice(records, SLICE)):
            good = []
            for number, (path, at, record) in enumerate(part, rows):
                if missing and isinstance(record, dict):
                    missing -= record.keys()
                    present = present or list(record)
                row = self._row(number, path, at, record)
                if isinstance(row, BadRow):
                    on_bad_row(row)
                    bad = bad or [row]
                else:
                    good.append(row)
            rows += len(part)
            readable |= bool(good)
            if self.id is not None:
                hashes.extend(hash(row.id) for row in good)
            for name in types:
                values = [row.kept.get(name, row.id) for row in good]
                types[name] = _common_type(name, types[name], values, rows)
        if present and missing:
            raise no_column("the source", missing.pop(), present)
        if not readable:
            raise self._no_row(bad)
        if repeated := _find_repeated(hashes):
            self._refuse_repeated(repeated)
        digest = blake2b(digest_size=16)
        for path in self.files:
            with path.open("rb") as file:
                digest.update(file_digest(file, "sha256").digest())
        types = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in types.items()}
        return Scan(rows, digest.hexdigest(), {"id": pa.int64()} | types | (self._declared() if typed else {}))

    def _no_row(self, bad: Sequence[BadRow]) -> ConfigurationError:
        more = f" and {len(self.files) - 1} more files" if len(self.files) > 1 else ""
        where = "standard input" if self.piped else f"{self.files[0]}{more}"
        found = f" that can be read: {bad[0].where}: {bad[0].reason}" if bad else ""
        return ConfigurationError(f"there is no row in {where}{found}")

    def _refuse_repeated(self, hashes: set[int]) -> None:
        """Raise for the first id of these hashes that occurs twice; different ids may share a hash."""
        first: dict[str | int, str] = {}
        for number, (path, at, record) in enumerate(self._records()):
            row = self._row(number, path, at, record)
            if isinstance(row, BadRow) or hash(row.id) not in hashes:
                continue
            if row.id in first:
                raise ConfigurationError(
                    f"{self._place(path, at)}: its {self.id} {row.id!r:.40} is that of {first[row.id]}, and a store "
                    "keeps one row per id: name another column, or none, which numbers the rows"
                )
            first[row.id] = self._place(path, at)

    def _records(self) -> Iterator[tuple[Path, int, dict[str, Any] | str]]:
        columns = self._columns()
        for path in self.files:
            with named_errors(path):
                for at, record in FORMATS[path.suffix.lower()](path, columns):
                    yield path, at, record

    def _columns(self) -> list[str]:
        return list(dict.fromkeys([self.text, *([] if self.id is None else [self.id]), *self.keep]))

    def _declared(self) -> dict[str, pa.DataType]:
        """Types that Parquet files declare; values alone do not tell a date's unit, for instance."""
        if any(path.suffix.lower() != ".parquet" for path in self.files):
            return {}
        try:
            schema = pa.unify_schemas([pq.read_schema(path) for path in self.files], promote_options="permissive")
        except pa.ArrowException as error:
            raise ConfigurationError(f"the files have columns of different types: {error}") from None
        named = {"id": self.id or "", **{name: name for name in self.keep}}
        return {name: schema.field(column).type for name, column in named.items() if column}

    def _row(self, number: int, path: Path, at: int, record: dict[str, Any] | str) -> Row | BadRow:
        if isinstance(record, str):
            reason = record
        else:
            text = record.get(self.text)
            row_id: Any = number if self.id is None else record.get(self.id)
            if text is not None and not isinstance(text, str):
                reason = f"{self.text} is of type {type(text).__name__}, not a text"
            elif self.id is not None and not _is_id(row_id):
                missing = f"there is no column {self.id!r}; it has {', '.join(map(repr, record))}"
                wrong = f"{self.id} is {row_id!r:.40}, and an id is a text or a whole number"
                reason = wrong if self.id in record else missing
            else:
                kept = {name: record.get(name) for name in self.keep}
                return Row(number, row_id, text if has_content(text) else None, kept)
        return BadRow(number, self._place(path, at), reason)

    def _place(self, path: Path, at: int) -> str:
        file = "standard input" if self.piped else path.name
        return f"{file}, {'row' if path.suffix.lower() == '.parquet' else 'line'} {at}"


def _find_repeated(hashes: "array[int]") -> set[int]:
    """Those that occur more than once."""
    found = pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])
    found = found.take(pc.array_sort_indices(found))
    return set(found[1:].filter(pc.equal(found[1:], found[:-1])).to_pylist())


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def find_files(source: str, *, without: Sequence[Path] = ()) -> list[Path]:
    """The files of a path, a folder or a glob, sorted by name.

    Args:
        source: The path.
        without: Files that are not part of the source, such as a target in the same folder.

    Raises:
        ConfigurationError: There are none, or one has an unknown format, or is a JSON array.
    """
    known = ", ".join(FORMATS)
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in FORMATS and file.is_file()]
    elif path.is_file():
        found = [path]
    else:
        found = [file for file in map(Path, glob.glob(source, recursive=True)) if file.is_file()]
    skipped = {file.resolve() for file in without}
    found = sorted(file for file in found if file.resolve() not in skipped)
    if not found:
        missing = "the folder has no such file" if path.is_dir() else "no such file, and no folder or glob of files"
        raise ConfigurationError(f"{source}: {missing} ({known})")
    for file in found:
        suffix = file.suffix.lower()
        if suffix in JSON:
            refuse_array(file)
        if suffix not in FORMATS:
            hint = " (.jsonl has one JSON object per line)" if suffix in JSON else ""
            raise ConfigurationError(f"{file}: unknown format; the formats are {known}{hint}")
    return found


def _common_type(name: str, known: pa.DataType, values: list[Any], last: int) -> pa.DataType:
    try:
        both = [pa.schema([(name, kind)]) for kind in (known, pa.array(values).type)]
        return pa.unify_schemas(both, promote_options="permissive").field(name).type
    except (pa.ArrowException, OverflowError) as error:
        raise ConfigurationError(
            f"the column {name!r} has values of different types before row {last}, which Parquet cannot hold: "
            f"leave it out, or write JSON Lines ({error})"
        ) from None
