"""The workload: passages of about 60 words, and the vector that the stub returns for each.

A passage begins with its number, and that number is the first index of its vector, so every vector can be checked.
"""

import itertools
import random
from collections.abc import Iterator
from functools import cache
from pydoc_data.topics import topics  # real English prose that every Python has
from typing import Any

WORDS = 60
KINDS = 64  # number of vectors that differ in more than the passage number
FIRST_TERM = 2**24  # above every passage number, so that indices ascend


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
    """All terms of a sparse vector but the first, whose index is the passage number and whose weight is 1.5."""
    rng = random.Random(kind)
    indices = sorted(rng.sample(range(FIRST_TERM, 2**32), nonzeros - 1))
    return indices, [round(rng.uniform(0.01, 3.0), 7) for _ in indices]


def vector(number: int, nonzeros: int) -> tuple[list[int], list[float]]:
    indices, values = tail(number % KINDS, nonzeros)
    return [number, *indices], [1.5, *values]


def number_of(answer: Any) -> int:
    """The number of the passage that a sparse vector belongs to, for the vector types of all contenders."""
    match answer:
        case {"sparse_indices": indices} | {"indices": indices}:
            return indices[0]
        case dict():
            return next(iter(answer))
        case _:
            indices = answer.indices if hasattr(answer, "indices") else answer.sparse_indices
            return indices[0]
