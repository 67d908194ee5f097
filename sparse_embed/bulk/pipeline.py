"""Embeds rows with the encoders' streams, and saves them in order, in parts.

Leaves sending, and how far a stream runs ahead, to the encoders.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import tee
from typing import Any, Final, TypeAlias, cast

from sparse_embed.bulk.layouts import Embedded
from sparse_embed.bulk.sources import BadRow, Row
from sparse_embed.encoder import DenseEncoder, SparseEncoder
from sparse_embed.errors import SparseEmbedError
from sparse_embed.settings import Kind

Encoders: TypeAlias = Mapping[Kind, SparseEncoder | DenseEncoder]
Item: TypeAlias = Embedded | BadRow
TELL_EVERY: Final = 0.1  # seconds


def embed_rows(
    rows: Iterator[Row | BadRow],
    encoders: Encoders,
    *,
    part_rows: int,
    save: Callable[[list[Item]], None],
    tell: Callable[[int], None],
) -> None:
    """Embed rows and save them in order. Requests go on while a part is being saved.

    Whatever ends it early, what was received in order is saved before.

    Args:
        rows: The rows.
        encoders: The encoder of each kind of vector.
        part_rows: Rows per part.
        save: Called with the rows of a part.
        tell: Called now and then with the number of rows that are complete and not saved yet.

    Raises:
        SparseEmbedError: From an encoder; ``texts`` and ``partial`` count rows of the source.
    """
    rows, *copies = tee(rows, 1 + len(encoders))
    streams = {kind: _Stream(encoder, copy) for (kind, encoder), copy in zip(encoders.items(), copies, strict=True)}
    sparse, dense = streams.get("sparse"), streams.get("dense")
    part: list[Item] = []
    tell_at = 0.0
    try:
        for row in rows:
            if isinstance(row, BadRow):
                part.append(row)
            elif row.text is None:
                part.append(Embedded(row, None, None))
            else:
                vectors = [None if stream is None else stream.take() for stream in (sparse, dense)]
                part.append(Embedded(row, *vectors))
            if time.monotonic() >= tell_at:
                tell(len(part))
                tell_at = time.monotonic() + TELL_EVERY
            if len(part) >= part_rows:
                save(part)
                part = []
    finally:
        for stream in streams.values():
            stream.close()
        if part:
            save(part)


class _Stream:
    """The vectors of one kind, and the rows that their texts come from."""

    def __init__(self, encoder: SparseEncoder | DenseEncoder, rows: Iterable[Row | BadRow]) -> None:
        self._numbers: deque[int] = deque()  # of rows that were read and whose vectors were not taken
        self._taken = 0
        self._vectors = cast(Generator[Any], encoder.stream_documents(self._texts(rows)))

    def _texts(self, rows: Iterable[Row | BadRow]) -> Iterator[str]:
        for row in rows:
            if isinstance(row, Row) and row.text is not None:
                self._numbers.append(row.number)
                yield row.text

    def take(self) -> Any:  # noqa: ANN401  # a vector of either kind
        """The next vector."""
        try:
            vector = next(self._vectors)
        except SparseEmbedError as error:
            if error.texts is not None:
                error.texts = range(self._row_of(error.texts[0]), self._row_of(error.texts[-1]) + 1)
            error.partial = {self._row_of(position): vector for position, vector in error.partial.items()}
            raise
        self._numbers.popleft()
        self._taken += 1
        return vector

    def _row_of(self, position: int) -> int:
        return self._numbers[position - self._taken]

    def close(self) -> None:
        """Stop its requests."""
        self._vectors.close()
