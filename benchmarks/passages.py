"""The work: passages of about 60 words, and the vector that the stub has for each.

A passage begins with its number and a vector with the same number, so that every vector of every client can be checked.
"""

import itertools
import random
from collections.abc import Iterator
from functools import cache
from pydoc_data.topics import topics  # real English prose that every Python has
from typing import Any

WORDS = 60
KINDS = 64  # so many different vectors, but for their number
FIRST_TERM = 2**24  # above every number, so that indices ascend


@cache
def _prose() -> list[str]:
    words = [word for topic in topics.values() for word in topic.split()]
    return [" ".join(words[at : at + WORDS]) for at in range(0, len(words) - WORDS, WORDS)]


def passage(number: int) -> str:
    prose = _prose()
    return f"{number} {prose[number % len(prose)]}"


def passages(count: int, start: int = 0) -> list[str]:
    return [passage(number) for number in range(start, start + count)]


def endless(start: int = 0) -> Iterator[str]:
    return map(passage, itertools.count(start))


@cache
def tail(kind: int, nonzeros: int) -> tuple[list[int], list[float]]:
    """All of a sparse vector but its first term, which has the passage's number for index and 1.5 for weight."""
    rng = random.Random(kind)
    indices = sorted(rng.sample(range(FIRST_TERM, 2**32), nonzeros - 1))
    return indices, [round(rng.uniform(0.01, 3.0), 7) for _ in indices]


def vector(number: int, nonzeros: int) -> tuple[list[int], list[float]]:
    indices, values = tail(number % KINDS, nonzeros)
    return [number, *indices], [1.5, *values]


def dense_tail(kind: int, dimensions: int) -> list[float]:
    rng = random.Random(kind)
    return [round(rng.uniform(-1.0, 1.0), 7) for _ in range(dimensions - 1)]


def number_of(answer: Any) -> int:
    """The passage that a sparse vector belongs to, whatever type a client has for it."""
    match answer:
        case {"sparse_indices": indices} | {"indices": indices}:
            return indices[0]
        case dict():
            return next(iter(answer))
        case _:
            indices = answer.indices if hasattr(answer, "indices") else answer.sparse_indices
            return indices[0]
