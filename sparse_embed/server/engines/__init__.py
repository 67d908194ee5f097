"""What an engine is: texts and a role in, vectors out, no I/O and no state that shows.

Decides the types between engines and wires. Leaves the making of vectors to the modules here, JSON to the wires.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

Role = Literal["document", "query"]
VectorType = Literal["sparse", "dense"]


class SparseTerms(NamedTuple):
    """Weighted terms of one text; three lists of equal length.

    Attributes:
        indices: Term ids, strictly ascending, 0 to 2³²-1.
        values: Weights, finite and above zero.
        tokens: The terms themselves.
    """

    indices: list[int]
    values: list[float]
    tokens: list[str]


class SparseAnswer(NamedTuple):
    """Vectors in the order of the texts, and how many words were read, stopwords included."""

    vectors: list[SparseTerms]
    num_tokens: int


class DenseAnswer(NamedTuple):
    """Vectors in the order of the texts, and how many words were read, stopwords included."""

    vectors: list[list[float]]
    num_tokens: int


class SparseEngine(Protocol):
    """Makes sparse vectors. Safe to call from many threads."""

    name: str

    def embed(self, texts: Sequence[str], role: Role) -> SparseAnswer:
        """Return one vector for each text."""
        ...


class DenseEngine(Protocol):
    """Makes dense vectors. Safe to call from many threads."""

    name: str

    def embed(self, texts: Sequence[str], role: Role, *, dimension: int) -> DenseAnswer:
        """Return one vector of length ``dimension`` for each text."""
        ...
