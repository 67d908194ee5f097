"""What an answer is: `SparseVector` and `Usage`.

Decides which indices and values are a sparse vector. Leaves stores' own types to ``convert``.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter, lt
from typing import Any, Self, TypeVar

from sparse_embed.errors import ConfigurationError

T = TypeVar("T")
MAX_INDEX = 2**32 - 1
FLOAT32_MIN = 2.0**-126  # the smallest normal one: Elasticsearch refuses subnormal weights
FLOAT32_MAX = 2.0**128 - 2.0**104


@dataclass(frozen=True, slots=True, init=False)
class SparseVector:
    """Term weights of one text. Immutable and hashable; equal when indices, values and tokens are equal.

    The constructor takes lists, tuples or other sequences and keeps tuples; a tuple is not copied.

    Attributes:
        indices: Term ids, strictly ascending, from 0 to 2³²-1. Length ``nnz``.
        values: Weights, finite and not zero, parallel to ``indices``.
        tokens: The terms themselves, parallel to ``indices``, or None when they were not asked for.

    Raises:
        ConfigurationError: The arguments are not such a vector; the message names the position.
    """

    indices: tuple[int, ...]
    values: tuple[float, ...]
    tokens: tuple[str, ...] | None = None

    def __init__(self, indices: Sequence[int], values: Sequence[float], tokens: Sequence[str] | None = None) -> None:
        # Tuples, also because the garbage collector stops visiting a tuple of numbers, and never a list of them.
        object.__setattr__(self, "indices", indices if type(indices) is tuple else _tuple("indices", indices))
        object.__setattr__(self, "values", values if type(values) is tuple else _tuple("values", values))
        object.__setattr__(self, "tokens", None if tokens is None else _tuple("tokens", tokens))
        self.__post_init__()

    def __setstate__(self, state: list[Any]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # pickles are checked like other input; those of 0.1.0 hold lists

    def __post_init__(self) -> None:  # called by pydantic, too, which sets the fields itself
        indices, values = self.indices, self.values
        # One pass in C for each promise; positions are looked for only once something is known to be wrong.
        if (
            len(indices) != len(values)
            or (self.tokens is not None and len(self.tokens) != len(indices))
            or not all(map(lt, indices, indices[1:]))
            or (indices and not (indices[0] >= 0 and indices[-1] <= MAX_INDEX))  # so that a NaN fails
            or not math.isfinite(sum(values))
            or not all(values)
        ):
            _explain(indices, values, self.tokens)

    @classmethod
    def from_pairs(cls, indices: Sequence[int], values: Sequence[float], tokens: Sequence[str] | None = None) -> Self:
        """Build from parallel sequences in any order; exact zeros are dropped with their index and token.

        Raises:
            ConfigurationError: Unequal lengths, a repeated or impossible index, a weight that is not finite.
        """
        try:
            return cls(indices, values, tokens)  # most answers are sorted already: one check, no copy
        except ConfigurationError:
            indices, values = _tuple("indices", indices), _tuple("values", values)
            tokens = None if tokens is None else _tuple("tokens", tokens)
            _check_lengths(indices, values, tokens)
        kept = sorted((at for at, value in enumerate(values) if value), key=indices.__getitem__)
        return cls(
            [indices[at] for at in kept],
            [values[at] for at in kept],
            None if tokens is None else [tokens[at] for at in kept],
        )

    @property
    def nnz(self) -> int:
        """Number of non-zero weights."""
        return len(self.indices)

    def dot(self, other: "SparseVector") -> float:
        """Inner product with another vector of the same model: the score of hybrid search's sparse half."""
        weights = dict(zip(other.indices, other.values, strict=True))
        return math.fsum(
            value * weights[index] for index, value in zip(self.indices, self.values, strict=True) if index in weights
        )

    def top(self, n: int) -> list[tuple[str | int, float]]:
        """The ``n`` heaviest terms, heaviest first, as (token, weight); the index stands in for an unknown token."""
        terms: Sequence[str | int] = self.indices if self.tokens is None else self.tokens
        return sorted(zip(terms, self.values, strict=True), key=itemgetter(1), reverse=True)[:n]

    def pruned(self, *, max_nnz: int | None = None, min_value: float = 0.0) -> "SparseVector":
        """A copy without the lightest terms.

        Args:
            max_nnz: Keep at most this many terms, the heaviest by absolute weight.
            min_value: Keep terms whose absolute weight is at least this.
        """
        kept = [at for at, value in enumerate(self.values) if abs(value) >= min_value]
        if max_nnz is not None:
            kept = sorted(sorted(kept, key=lambda at: -abs(self.values[at]))[:max_nnz])
        return SparseVector(
            [self.indices[at] for at in kept],
            [self.values[at] for at in kept],
            None if self.tokens is None else [self.tokens[at] for at in kept],
        )

    def scaled(self, alpha: float) -> "SparseVector":
        """A copy with every weight multiplied; weights that become zero are dropped (so ``scaled(0)`` is empty)."""
        return SparseVector.from_pairs(self.indices, [value * alpha for value in self.values], self.tokens)

    def _repr_html_(self) -> str:
        """Notebook view: the twenty heaviest terms, shaded by weight."""
        terms = self.top(20)
        heaviest = max((abs(weight) for _, weight in terms), default=1.0)
        spans = " ".join(
            f'<span style="background:rgba(31,119,180,{0.15 + 0.6 * abs(weight) / heaviest:.2f});'
            f'padding:1px 5px;border-radius:3px;white-space:nowrap">{html.escape(str(term))} '
            f"<small>{weight:.3g}</small></span>"
            for term, weight in terms
        )
        more = f" <small>and {self.nnz - len(terms)} more</small>" if self.nnz > len(terms) else ""
        return f'<div style="line-height:1.9"><small>SparseVector, nnz {self.nnz}</small> {spans}{more}</div>'


def _tuple(name: str, items: Sequence[T]) -> tuple[T, ...]:
    if isinstance(items, str | bytes) or not isinstance(items, Sequence):
        raise ConfigurationError(f"{name} must be a list or tuple, not {type(items).__name__}")
    return tuple(items)


def _check_lengths(indices: Sequence[int], values: Sequence[float], tokens: Sequence[str] | None) -> None:
    if len(indices) != len(values):
        raise ConfigurationError(f"{len(indices)} indices but {len(values)} values")
    if tokens is not None and len(tokens) != len(indices):
        raise ConfigurationError(f"{len(indices)} indices but {len(tokens)} tokens")


def _explain(indices: Sequence[int], values: Sequence[float], tokens: Sequence[str] | None) -> None:
    """Raise for the first thing that is wrong, naming its position."""
    _check_lengths(indices, values, tokens)
    for at, (index, value) in enumerate(zip(indices, values, strict=True)):
        if not 0 <= index <= MAX_INDEX:
            raise ConfigurationError(f"index {index} at position {at} is outside 0 … 2³²-1")
        if at and index == indices[at - 1]:
            raise ConfigurationError(f"index {index} at position {at} is repeated")
        if at and index < indices[at - 1]:
            raise ConfigurationError(f"index {index} at position {at} is not ascending: use SparseVector.from_pairs")
        if not math.isfinite(value):
            raise ConfigurationError(f"value {value} at position {at} is not finite")
        if value == 0.0:
            raise ConfigurationError(f"value at position {at} is zero: use SparseVector.from_pairs, which drops zeros")
    # Only a sum of finite values that overflowed reaches this line: nothing is wrong.


@dataclass(frozen=True, slots=True)
class Usage:
    """What an encoder has used so far: a snapshot.

    Attributes:
        total_tokens: Tokens billed, as far as the provider's answers said.
        requests: Requests sent, retries included.
        retries: Requests that were sent again.
        texts: Texts for which a vector was received from the provider.
        cache_hits: Texts answered from the cache.
    """

    total_tokens: int = 0
    requests: int = 0
    retries: int = 0
    texts: int = 0
    cache_hits: int = 0
