"""Embeds rows with many requests at the same time, and hands them over in order.

Decides how far ahead of the rows that are saved requests may be sent, since those are paid for again when the process
is killed. Leaves sending to the encoders.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from sparse_embed.bulk.layouts import Embedded
from sparse_embed.bulk.sources import BadRow, Row
from sparse_embed.encoder import DenseEncoder, SparseEncoder
from sparse_embed.errors import SparseEmbedError
from sparse_embed.settings import Kind

Encoders: TypeAlias = Mapping[Kind, SparseEncoder | DenseEncoder]
Item: TypeAlias = Embedded | BadRow


@dataclass(slots=True, eq=False)
class _Batch:
    """Rows whose texts share a request, one of each kind of vector."""

    rows: list[Row | BadRow]
    kinds: Sequence[Kind]
    vectors: dict[Kind, Sequence[Any]] = field(default_factory=dict)

    def texts(self) -> list[Row]:
        return [row for row in self.rows if isinstance(row, Row) and not row.blank]

    @property
    def complete(self) -> bool:
        return len(self.vectors) == len(self.kinds)

    def items(self) -> Iterator[Item]:
        """The rows with their vectors."""
        vectors = {kind: iter(found) for kind, found in self.vectors.items()}
        nothing: Iterator[None] = iter(())
        for row in self.rows:
            if isinstance(row, BadRow):
                yield row
            elif row.blank:
                yield Embedded(row, None, None)
            else:
                yield Embedded(row, *(next(vectors.get(kind, nothing), None) for kind in ("sparse", "dense")))

    async def embed(self, kind: Kind, encoder: SparseEncoder | DenseEncoder) -> None:
        rows = self.texts()
        try:
            self.vectors[kind] = await encoder.aembed_documents([row.text or "" for row in rows])
        except SparseEmbedError as error:
            # Positions in this request become numbers of rows in the source.
            if error.texts is not None:
                error.texts = range(rows[error.texts[0]].number, rows[error.texts[-1]].number + 1)
            error.partial = {rows[at].number: vector for at, vector in error.partial.items()}
            raise


class Pipeline:
    """Embeds rows and saves them in parts, in order; saving overlaps with requests.

    Args:
        rows: The rows.
        encoders: The encoder of each kind of vector.
        batch_rows: Rows per request.
        ahead: Rows that may be read and not saved, `part_rows` included.
        part_rows: Rows per part, at most.
        save: Called with the rows of a part, in a thread, one call at a time.
        tell: Called when something has changed.
    """

    def __init__(
        self,
        rows: Iterator[Row | BadRow],
        encoders: Encoders,
        *,
        batch_rows: int,
        ahead: int,
        part_rows: int,
        save: Callable[[list[Item]], None],
        tell: Callable[[], None],
    ) -> None:
        self._rows, self._encoders = rows, encoders
        self._batch_rows, self._ahead, self._part_rows = batch_rows, ahead, part_rows
        self._save, self._tell = save, tell
        self._waiting: deque[_Batch] = deque()  # in order: rows that were read, until all before them are complete
        self._ready: list[Item] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._saving: asyncio.Task[int] | None = None
        self._unsaved = 0

    async def run(self) -> None:
        """Embed and save all rows. Whatever ends the run early, all that was complete is saved before.

        Raises:
            SparseEmbedError: From an encoder; ``texts`` and ``partial`` count rows of the source.
        """
        try:
            self._start_requests()
            while self._requests or self._saving or self._start_saving():
                tasks: set[asyncio.Task[Any]] = {*self._requests, *([self._saving] if self._saving else [])}
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if self._saving is not None and self._saving.done():
                    self._unsaved -= self._saving.result()
                    self._saving = None
                for task in [task for task in self._requests if task.done()]:
                    self._requests.discard(task)
                    task.result()
                self._start_saving()
                self._start_requests()
                self._tell()
        except BaseException:
            await self._stop()
            raise

    def _start_requests(self) -> None:
        while self._unsaved + self._batch_rows <= self._ahead:
            batch = _Batch(list(islice(self._rows, self._batch_rows)), list(self._encoders))
            if not batch.rows:
                return
            self._unsaved += len(batch.rows)
            self._waiting.append(batch)
            if batch.texts():
                for kind, encoder in self._encoders.items():
                    self._requests.add(asyncio.create_task(batch.embed(kind, encoder)))
            else:
                batch.vectors = dict.fromkeys(self._encoders, ())

    def _start_saving(self) -> bool:
        """Save what is ready, if it is half a part at least, or nothing else is to come."""
        while self._waiting and self._waiting[0].complete:
            self._ready += self._waiting.popleft().items()
        if self._saving is not None or not self._ready or (self._waiting and 2 * len(self._ready) < self._part_rows):
            return False
        part = self._ready[: self._part_rows]
        del self._ready[: self._part_rows]
        self._saving = asyncio.create_task(self._save_part(part))
        return True

    async def _save_part(self, part: list[Item]) -> int:
        await asyncio.to_thread(self._save, part)
        return len(part)

    async def _stop(self) -> None:
        for task in self._requests:
            task.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        if self._saving is not None:
            await self._saving  # what cannot be saved is an error, and the rest is not saved either
        rest = [item for batch in self._waiting if batch.complete for item in batch.items()]
        if self._ready or rest:
            self._save(self._ready + rest)
