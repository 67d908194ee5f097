"""A target file, made of parts: each is written whole, so that a run which is killed loses none and doubles none.

While a run lasts, its parts are in the folder ``TARGET.parts``; ``TARGET.manifest.json`` says what they were made from.
They are joined in the meantime, and removed when the target is complete.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

from filelock import FileLock, Timeout

from sparse_embed.bulk.formats import Format, JsonLines, Parquet
from sparse_embed.bulk.identity import refuse_other_engines, refuse_other_settings, refuse_other_source
from sparse_embed.bulk.joining import Joiner
from sparse_embed.bulk.layouts import Embedded, Layout
from sparse_embed.bulk.pipeline import Item
from sparse_embed.bulk.report import Report
from sparse_embed.bulk.sources import BadRow, Row, Scan
from sparse_embed.errors import ConfigurationError, SparseEmbedError
from sparse_embed.settings import Kind

SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson")
REJECTS: Final = ".rejects.jsonl"


class FileTarget:
    """Parquet or JSON Lines.

    Args:
        path: The file.
        layout: Its columns.
        kinds: Kinds of vectors.
        keep: Columns to keep.

    Raises:
        ConfigurationError: The file's format is unknown or does not go with the layout.
    """

    at_once: int | None = None

    def __init__(self, path: Path, layout: Layout, kinds: Sequence[Kind], keep: Sequence[str]) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigurationError(f"{path}: the target's formats are {', '.join(SUFFIXES)}")
        if not path.parent.is_dir():
            raise ConfigurationError(f"cannot write {path}: there is no folder {path.parent}")
        self.typed = path.suffix.lower() == ".parquet"
        if layout.parquet_only and not self.typed:
            raise ConfigurationError(f"{path}: the layout {layout.name!r} is for Parquet")
        self.path = path
        self._layout, self._kinds, self._keep = layout, kinds, list(keep)
        self._columns = layout.columns(kinds, keep)
        self._parts = path.with_name(f"{path.name}.parts")
        self._manifest = path.with_name(f"{path.name}.manifest.json")
        self._rejects = path.with_name(f"{path.name}{REJECTS}")
        self._settings: Mapping[str, Any] = {}
        self._source: Mapping[str, Any] = {}
        self._engines: Mapping[str, str] = {}
        self._done: list[range] = []
        self._format: Format
        self._joiner: Joiner
        self._open = ExitStack()

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the columns."""
        return {"layout": self._layout.name, "keep": self._keep}

    @property
    def own_files(self) -> list[Path]:
        """Files that are no part of a source in the same folder."""
        return [self.path, self._rejects]

    @property
    def spool(self) -> Path:
        """Where standard input is kept while a run lasts, since it can be read only once."""
        return self._parts / "stdin.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from this target. A lock ends with its process, however that ends."""
        with _named_errors(self._parts):
            self._parts.mkdir(exist_ok=True)
            lock = FileLock(self._parts / "lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise ConfigurationError(f"another process is writing {self.path}") from None
        try:
            yield
        finally:
            self._open.close()
            lock.release()
            if not any(file.name != "lock" for file in self._parts.iterdir()):
                shutil.rmtree(self._parts, ignore_errors=True)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a target that was begun with other settings, or by something else.

        Raises:
            ConfigurationError: The message names what differs.
        """
        self._settings = settings
        begun = self._read_manifest()
        if begun is None:
            if self.path.exists():
                raise ConfigurationError(f"{self.path} exists and was not written by this command: name another target")
            return
        refuse_other_settings(self.path, begun["settings"], settings, self._again)
        self._engines = begun.get("engines", {})

    def begin(self, scan: Scan) -> Report:
        """Begin, or go on; returns what earlier runs have done.

        Raises:
            ConfigurationError: The target was begun with another input.
        """
        begun = self._read_manifest()
        self._source = {"rows": scan.rows, "fingerprint": scan.fingerprint}
        to_table = partial(self._layout.table, columns=self._columns, types=scan.types)
        to_lines = partial(self._layout.lines, columns=self._columns)
        self._format = Parquet(to_table) if self.typed else JsonLines(to_lines)
        if begun is not None:
            refuse_other_source(self.path, begun["source"], self._source, self._again)
        if begun is not None and begun["report"] is not None:
            self._remove_parts()
            report = Report(**begun["report"])
        else:
            self._write_manifest(None)
            self._done = self._finished_parts()
            joiner = Joiner(self._parts / f"{self.path.name}.tmp", self._format, self._path_of)
            self._joiner = self._open.enter_context(closing(joiner))
            for part in self._done:
                self._joiner.add(part)
            report = replace(Report.sum(self._note(rows)[0] for rows in self._done), total=scan.rows)
        return replace(report, resumed=report.rows)

    def answered_by(self, engines: Mapping[str, str]) -> None:
        """Record the engines of local providers, before the rows that they embedded; refuse others than before."""
        if not engines.items() <= self._engines.items():
            refuse_other_engines(self.path, self._engines, engines, self._again)
            self._engines = {**self._engines, **engines}
            self._write_manifest(None)

    def unfinished(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows that earlier runs have not done."""
        done = iter(self._done)
        current = next(done, range(0))
        for row in rows:
            while current and row.number >= current.stop:
                current = next(done, range(0))
            if row.number not in current:
                yield row

    def save(self, items: Sequence[Item], spent: Report) -> Report:
        """Write rows as parts, one for each run of consecutive rows; `spent` counts towards the first."""
        saved = Report()
        with _named_errors(self.path):
            for run in _runs(items):
                note = self._save_run(run, spent)
                saved, spent = saved + note, Report()
        return saved

    def finish(self, spent: Report) -> Report:
        """Put the joined parts where the target belongs."""
        with _named_errors(self.path):
            parts, total = self._finished_parts(), self._source["rows"]
            if not self._joiner.finish(total):
                raise SparseEmbedError(f"the parts in {self._parts} do not fit together. {self._again}")
            report = replace(Report.sum(self._note(part)[0] for part in parts) + spent, total=total, finished=True)
            self._rejects.unlink(missing_ok=True)
            if report.rejected:
                rejects = (_line(reject) for part in parts for reject in self._note(part)[1])
                _write_whole(self._rejects, lambda file: file.writelines(rejects), self._parts)
            _move(self._joiner.path, self.path)
            self._write_manifest(report)
            self._remove_parts()
        return report

    @property
    def _again(self) -> str:
        begun = self._parts if self._finished_parts() else self.path
        return f"Repeat the earlier options, name another target, or delete {self._manifest} and {begun} to start anew"

    def _save_run(self, run: Sequence[Item], spent: Report) -> Report:
        rows, rejects = list[Embedded](), list[dict[str, Any]]()
        for item in run:
            if isinstance(item, BadRow):
                rejects.append({"row": item.number, "where": item.where, "reason": item.reason})
            elif reason := self._layout.refuse(item, self._kinds):
                rejects.append({"row": item.row.number, "id": item.row.id, "reason": reason})
            else:
                rows.append(item)
        blank = [row.row.number for row in rows if row.row.text is None]
        report = replace(
            spent,
            rows=len(run),
            vectors=sum((row.sparse is not None) + (row.dense is not None) for row in rows),
            blank=len(blank),
            blank_rows=blank[:100],
            rejected=len(rejects),
            rejected_rows=rejects[:100],
        )
        part = range(_number(run[0]), _number(run[-1]) + 1)
        note = _line({"report": asdict(report), "rejects": rejects})
        _write_whole(self._path_of(part), lambda file: self._format.write_part(file, note, rows))
        self._joiner.add(part)
        return report

    def _note(self, part: range) -> tuple[Report, list[dict[str, Any]]]:
        """Counts and rejects of a part."""
        note = json.loads(self._format.read_note(self._path_of(part)))
        return Report(**note["report"]), note["rejects"]

    def _path_of(self, part: range) -> Path:
        return self._parts / f"{part.start:012d}-{part.stop:012d}.part"

    def _finished_parts(self) -> list[range]:
        found = (re.fullmatch(r"(\d{12})-(\d{12})\.part", file.name) for file in self._parts.glob("*.part"))
        return sorted((range(int(match[1]), int(match[2])) for match in found if match), key=lambda rows: rows.start)

    def _read_manifest(self) -> dict[str, Any] | None:
        """None if nothing is there that a later run could use."""
        try:
            manifest: dict[str, Any] = json.loads(self._manifest.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            raise ConfigurationError(f"{self._manifest} is damaged. {self._again}") from None
        useful = self._finished_parts() if manifest["report"] is None else self.path.exists()
        return manifest if useful else None

    def _write_manifest(self, report: Report | None) -> None:
        content = {
            "settings": self._settings,
            "engines": self._engines,
            "source": self._source,
            "report": report and asdict(report),
        }
        with _named_errors(self._manifest):
            _write_whole(self._manifest, lambda file: file.write(json.dumps(content, indent=2).encode()))

    def _remove_parts(self) -> None:
        for file in self._parts.iterdir():
            if file.name != "lock":
                file.unlink()


def _write_whole(path: Path, write: Callable[[IO[bytes]], object], folder: Path | None = None) -> None:
    """Write a file that is there completely or not at all, whenever the process or the machine stops.

    Args:
        path: The file.
        write: Writes its content.
        folder: Where it is written first, on the same file system; None: its own folder.
    """
    begun = (folder or path.parent) / f"{path.name}.tmp"
    with begun.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    _move(begun, path)


def _move(begun: Path, path: Path) -> None:
    begun.replace(path)
    if os.name == "posix":  # a rename lasts when its folder has been written
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _runs(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Items whose rows follow one another in the source."""
    numbers = map(_number, items)
    ends = [at for at, (before, after) in enumerate(pairwise(numbers), 1) if after != before + 1]
    for start, end in pairwise([0, *ends, len(items)]):
        yield items[start:end]


def _number(item: Item) -> int:
    return item.number if isinstance(item, BadRow) else item.row.number


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SparseEmbedError(f"cannot write {error.filename or path}: {error.strerror or error}") from error
