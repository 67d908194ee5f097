"""How texts are split into requests. Pure: knows sizes and positions, nothing of sending."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Batch(NamedTuple):
    """The texts of one request and where each stands in the caller's list."""

    texts: list[str]
    positions: list[int]

    @property
    def span(self) -> range:
        """From the first to the last text's position in the caller's list."""
        return range(self.positions[0], self.positions[-1] + 1)

    def halves(self) -> "tuple[Batch, Batch]":
        """Two batches of half the size."""
        middle = len(self.texts) // 2
        return (
            Batch(self.texts[:middle], self.positions[:middle]),
            Batch(self.texts[middle:], self.positions[middle:]),
        )


def even_batches(first_positions: Mapping[str, int], size: int) -> Iterator[Batch]:
    """Split distinct texts, each with the position where it first occurs, into batches of even size.

    Even, because the slowest request decides when a call ends: 97 texts become 49 + 48, not 96 + 1.
    """
    texts, positions = list(first_positions), list(first_positions.values())
    count = -(-len(texts) // size)
    for number in range(count):
        part = slice(number * len(texts) // count, (number + 1) * len(texts) // count)
        yield Batch(texts[part], positions[part])


def chunks(items: Iterable[T], size: int, check: Callable[[T, int], None]) -> Iterator[list[T]]:
    """Lists of up to `size` items, each read only when it is asked for, and checked with its position.

    When the source or the check raises, what was read before comes first.
    """
    chunk: list[T] = []
    try:
        for position, item in enumerate(items):
            check(item, position)
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


async def achunks(
    items: Iterable[T] | AsyncIterable[T], size: int, check: Callable[[T, int], None]
) -> AsyncIterator[list[T]]:
    """Like `chunks`, also from an async iterable."""
    if not isinstance(items, AsyncIterable):
        for chunk in chunks(items, size, check):
            yield chunk
        return
    chunk, position = [], 0
    try:
        async for item in items:
            check(item, position)
            position += 1
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
