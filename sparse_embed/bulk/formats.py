"""The formats of a target: how a part of it is written and read, and how parts are appended to each other.

A part begins with a note, one line of bytes.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Final, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from sparse_embed.bulk.layouts import Embedded

NOTE: Final = b"note"
ROW_GROUP: Final = 16_384  # rows at least that are appended at once, and become a row group of Parquet
Append: TypeAlias = Callable[[Sequence[Path]], None]


class Format(Protocol):
    """A format."""

    def write_part(self, file: IO[bytes], note: bytes, rows: Sequence[Embedded]) -> None:
        """Write a note and rows."""
        ...

    def read_note(self, part: Path) -> bytes:
        """The note of a part."""
        ...

    def begin(self, file: IO[bytes]) -> AbstractContextManager[Append]:
        """Begin a target. It is complete at the end of the context; what is appended are the rows of parts."""
        ...


class JsonLines:
    """One JSON object per line.

    Args:
        to_lines: Makes lines of rows.
    """

    def __init__(self, to_lines: Callable[[Sequence[Embedded]], Iterator[bytes]]) -> None:
        self._to_lines = to_lines

    def write_part(self, file: IO[bytes], note: bytes, rows: Sequence[Embedded]) -> None:
        """Write a note and rows."""
        file.write(note)
        file.writelines(line + b"\n" for line in self._to_lines(rows))

    def read_note(self, part: Path) -> bytes:
        """The note of a part."""
        with part.open("rb") as file:
            return file.readline()

    @contextmanager
    def begin(self, file: IO[bytes]) -> Iterator[Append]:
        """Begin a target."""

        def append(parts: Sequence[Path]) -> None:
            for part in parts:
                with part.open("rb") as rows:
                    rows.readline()
                    shutil.copyfileobj(rows, file, 1 << 20)

        yield append


class Parquet:
    """Parquet; its parts are uncompressed Arrow files, since vectors hardly shrink and are compressed at the end.

    Args:
        to_table: Makes a table of rows.
    """

    def __init__(self, to_table: Callable[[Sequence[Embedded]], pa.Table]) -> None:
        self._to_table = to_table

    def write_part(self, file: IO[bytes], note: bytes, rows: Sequence[Embedded]) -> None:
        """Write a note and rows."""
        table = self._to_table(rows).replace_schema_metadata({NOTE: note})
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    def read_note(self, part: Path) -> bytes:
        """The note of a part."""
        with part.open("rb") as file:
            note: bytes = pa.ipc.open_file(file).schema.metadata[NOTE]
            return note

    @contextmanager
    def begin(self, file: IO[bytes]) -> Iterator[Append]:
        """Begin a target."""
        schema = self._to_table([]).schema
        # Texts may repeat, which a dictionary makes use of; numbers of vectors do not.
        texts = [field.name for field in schema if pa.types.is_string(field.type)]

        def append(parts: Sequence[Path]) -> None:
            tables = []
            for part in parts:
                with part.open("rb") as rows:
                    tables.append(pa.ipc.open_file(rows).read_all().replace_schema_metadata(None))
            writer.write_table(pa.concat_tables(tables), row_group_size=2 * ROW_GROUP)

        with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts or False) as writer:
            yield append
