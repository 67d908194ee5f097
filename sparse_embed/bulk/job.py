"""`embed_file`: from a source to a target, with everything checked before it is paid for."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from sparse_embed.bulk.files import FileTarget
from sparse_embed.bulk.layouts import LAYOUTS, Layout
from sparse_embed.bulk.pipeline import Encoders, Item, embed_rows
from sparse_embed.bulk.records import refuse_array
from sparse_embed.bulk.report import Report
from sparse_embed.bulk.sources import BadRow, Row, Scan, Source, find_files
from sparse_embed.encoder import DenseEncoder, SparseEncoder
from sparse_embed.errors import ConfigurationError
from sparse_embed.events import Listener
from sparse_embed.options import check_count
from sparse_embed.providers import read_config
from sparse_embed.settings import Kind
from sparse_embed.vectors import Usage

Config: TypeAlias = str | Mapping[str, Any]
STDIN: Final = "-"
NOT_OF_DOCUMENTS: Final = ("kind", "return_tokens", "query_model", "query_instructions")
ENCODERS: Final[Mapping[Kind, type[SparseEncoder] | type[DenseEncoder]]] = {
    "sparse": SparseEncoder,
    "dense": DenseEncoder,
}


class Target(Protocol):
    """Where rows are saved."""

    typed: bool
    """Whether columns need an Arrow type."""

    at_once: int | None
    """Rows that it saves at once, at most; None: any number."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What it adds to the settings that a later run must share."""
        ...

    @property
    def own_files(self) -> Sequence[Path]:
        """Files that are no part of a source in the same folder."""
        ...

    @property
    def spool(self) -> Path:
        """Where standard input is kept while a run lasts."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from this target."""
        ...

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a target that was begun with other settings."""
        ...

    def begin(self, scan: Scan) -> Report:
        """Begin, or go on; returns what earlier runs have done."""
        ...

    def answered_by(self, engines: Mapping[str, str]) -> None:
        """Record the engines that local providers named, by kind; refuse others than those of earlier rows."""
        ...

    def unfinished(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows that earlier runs have not done."""
        ...

    def save(self, items: Sequence[Item], spent: Report) -> Report:
        """Save rows; returns their counts."""
        ...

    def finish(self, spent: Report) -> Report:
        """Complete the target; `spent` is what no call of `save` has counted, such as the time of the last one."""
        ...


def embed_file(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    sparse: Config | None = None,
    dense: Config | None = None,
    text: str = "text",
    id: str | None = None,  # noqa: A002  # the word of every store
    keep: Sequence[str] = (),
    layout: Literal["plain", "pinecone", "milvus"] = "plain",
    part_rows: int = 4096,
    on_bad_row: Literal["fail", "skip"] = "fail",
    price: float | None = None,
    on_progress: Callable[[Report], None] | None = None,
    on_event: Listener | None = None,
) -> Report:
    """Embed the texts of a source into a target, one row per text, in order.

    The same call goes on where an earlier one was stopped, by an error, Ctrl-C or ``kill -9``: at most
    ``max_concurrency * batch_size + part_rows`` texts are then paid for again. Memory does not grow with the source,
    but for 24 bytes per id where `id` names a column.

    A blank or missing text has null vectors. All rows are read once before anything is sent, so that a broken one costs
    nothing.

    Example:
        >>> embed_file("docs.jsonl", "docs.parquet", sparse="pinecone", keep=["title"])

    Args:
        source: A JSONL, CSV, TSV or Parquet file, a folder or glob of them, or ``"-"`` for JSONL on standard input.
        target: A file that ends in ``.parquet`` or ``.jsonl``, or ``"qdrant:URL/COLLECTION"`` (its key is read from
            QDRANT_API_KEY).
        sparse: ``"provider"``, ``"provider:model"``, or a mapping of arguments of `SparseEncoder`.
        dense: The same for `DenseEncoder`. At least one of the two is needed.
        text: Column of the texts.
        id: Column of the ids: texts or whole numbers, each different. None: the row's number, from 0.
        keep: Further columns to keep.
        layout: ``"plain"``, or exactly the columns that Pinecone's or Milvus' import accepts. Rows that those refuse
            are written to ``TARGET.rejects.jsonl``, with the reason.
        part_rows: Rows that may be received and not saved, at most.
        on_bad_row: Whether a row that cannot be read is an error, or is written to the rejects.
        price: Price of a million tokens, for the report.
        on_progress: Called now and then with the counts so far; its rows include those that are about to be saved.
        on_event: Called with each event of ``sparse_embed.events``.

    Raises:
        ConfigurationError: Bad options, a bad row, an id that occurs twice, or a target that was begun with another
            input or other settings.
        SparseEmbedError: A request failed, or the target cannot be written. What was embedded before is kept.
    """
    started = time.monotonic()
    configs: dict[Kind, Config | None] = {"sparse": sparse, "dense": dense}
    encoders = {kind: _open_encoder(kind, config, on_event) for kind, config in configs.items() if config is not None}
    if not encoders:
        raise ConfigurationError("name what to embed with: sparse='chroma' or --sparse chroma, for instance")
    check_count("part_rows", part_rows)
    if isinstance(keep, str):
        raise ConfigurationError(f"keep must be a list of columns: [{keep!r}]")
    for name, choice, choices in (("layout", layout, LAYOUTS), ("on_bad_row", on_bad_row, ("fail", "skip"))):
        if choice not in choices:
            raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, not {choice!r}")
    output = _open_target(str(target), LAYOUTS[layout], list(encoders), keep)
    settings: dict[str, Any] = {kind: _describe(encoder) for kind, encoder in encoders.items()}
    settings |= {"text": text, "id": id, **output.settings}

    def refuse(row: BadRow) -> None:
        if on_bad_row == "fail":
            raise ConfigurationError(
                f"{row.where}: {row.reason} (on_bad_row='skip' or --on-bad-row skip leaves it out)"
            )

    with output.locked(), ExitStack() as at_end:
        at_end.callback(output.spool.unlink, missing_ok=True)
        output.check(settings)
        piped = str(source) == STDIN
        files = _read_stdin(output.spool) if piped else find_files(str(source), without=output.own_files)
        rows = Source(files, text, id, keep, piped)
        report = output.begin(rows.scan(on_bad_row=refuse, typed=output.typed))
        if not report.finished:
            resumed, meter = report.rows, _Meter(encoders, started)
            behind_caches = {kind: _ask_engine(kind, configs[kind]) for kind in encoders}

            def check_engines() -> None:
                engines = {kind: encoder.engine or behind_caches[kind] for kind, encoder in encoders.items()}
                output.answered_by({kind: engine for kind, engine in engines.items() if engine is not None})

            def save(items: list[Item]) -> None:
                nonlocal report
                check_engines()
                report += output.save(items, meter.take())

            def tell(complete: int) -> None:
                check_engines()  # soon after the first answer, before a whole part is embedded
                if on_progress is not None:
                    now = report + meter.spent()
                    on_progress(replace(now, rows=now.rows + complete).priced(price))

            tell(0)
            # At most half of `part_rows` are saved at once. Requests may run ahead by the other half in the meantime,
            # and no further: what was received and not saved is paid for again after a kill.
            half = max(1, part_rows // 2)
            at_once = half if output.at_once is None else min(half, output.at_once)
            for encoder in encoders.values():
                encoder._ahead = encoder._settings.max_concurrency + half // encoder._batch_size
            try:
                embed_rows(output.unfinished(rows.rows()), encoders, part_rows=at_once, save=save, tell=tell)
            finally:
                for encoder in encoders.values():
                    encoder.close()
                tell(0)  # also when it is stopped: how much is saved
            report = replace(output.finish(meter.take()), resumed=resumed)
    return report.priced(price)


class _Meter:
    """What was spent since the last `take`."""

    def __init__(self, encoders: Encoders, started: float) -> None:
        self._encoders = list(encoders.values())
        self._taken, self._since = [Usage() for _ in encoders], started

    def spent(self) -> Report:
        """Tokens, requests and seconds."""
        used = [(encoder.usage, before) for encoder, before in zip(self._encoders, self._taken, strict=True)]
        return Report(
            tokens=sum(now.total_tokens - before.total_tokens for now, before in used),
            requests=sum(now.requests - before.requests for now, before in used),
            retries=sum(now.retries - before.retries for now, before in used),
            seconds=time.monotonic() - self._since,
        )

    def take(self) -> Report:
        """The same, and begin anew."""
        spent = self.spent()
        self._taken, self._since = [encoder.usage for encoder in self._encoders], time.monotonic()
        return spent


def _read_stdin(spool: Path) -> list[Path]:
    with spool.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    refuse_array(spool, piped=True)
    return [spool]


def _open_encoder(kind: Kind, config: Config, on_event: Listener | None) -> SparseEncoder | DenseEncoder:
    arguments = read_config(config)
    if on_event is not None:
        arguments["on_event"] = on_event
    encoder = ENCODERS[kind].from_config(arguments)
    encoder._settings.address(encoder._provider.endpoint)  # without a key, nothing needs to be read
    return encoder


def _ask_engine(kind: Kind, config: Config | None) -> str | None:
    """What computes the vectors behind a cache and a local provider: a vector from the cache does not say."""
    arguments = read_config(config or {})
    if arguments.get("cache") is None:
        return None
    with ENCODERS[kind].from_config({**arguments, "cache": None}) as encoder:
        if encoder._settings.address(encoder._provider.endpoint).route.loopback:
            encoder.embed_query("Which engine?")
        return encoder.engine


def _open_target(target: str, layout: Layout, kinds: Sequence[Kind], keep: Sequence[str]) -> Target:
    if target.startswith("qdrant:"):
        from sparse_embed.bulk.qdrant import QdrantTarget

        return QdrantTarget(target, layout, kinds)
    return FileTarget(Path(target), layout, kinds, keep)


def _describe(encoder: SparseEncoder | DenseEncoder) -> dict[str, Any]:
    """Everything that decides the vector of a document, apart from its text."""
    provider = encoder._provider
    described: dict[str, Any] = {
        "provider": provider.name,
        "address": encoder._settings.base_url_for(provider.endpoint),
    }
    for field in fields(provider):
        value = getattr(provider, field.name)
        if value is not None and field.name not in NOT_OF_DOCUMENTS:
            described[field.name] = dict(value) if isinstance(value, Mapping) else value
    return described
