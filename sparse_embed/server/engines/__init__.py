"""What an engine is: texts and a role in, vectors out, no I/O and no state that shows.

Decides the types between engines and wires. Leaves the making of vectors to the modules here, JSON to the wires.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Role = Literal["document", "query"]
VectorType = Literal["sparse", "dense"]

NO_LIMIT = 1_000_000  # tokens; a tokenizer without a limit says 10³⁰


@dataclass(frozen=True)
class Question:
    """What a request asks for, whichever wire it came on.

    Attributes:
        texts: The texts.
        role: Their role.
        dimension: Length of dense vectors, None for the model's.
        instructions: What stands before each text, instead of the model's prompt for the role; "" for that prompt.
        task: Name of a task that the model has a prompt for, "" for none.
        max_tokens: Longest text to read, None for the model's limit.
        cut: Whether a text beyond the limit loses its end; otherwise it is refused.
        labelled: Whether the terms of sparse vectors are wanted.
    """

    texts: list[str]
    role: Role
    dimension: int | None = None
    instructions: str = ""
    task: str = ""
    max_tokens: int | None = None
    cut: bool = True
    labelled: bool = False


class SparseTerms(NamedTuple):
    """Weighted terms of one text; three lists of equal length.

    Attributes:
        indices: Term ids, strictly ascending, 0 to 2³²-1.
        values: Weights, finite and above zero.
        tokens: The terms themselves; None where the ids stand for no terms.
    """

    indices: list[int]
    values: list[float]
    tokens: list[str] | None


class SparseAnswer(NamedTuple):
    """Vectors in the order of the texts, and how many words or tokens were read, stopwords included."""

    vectors: list[SparseTerms]
    num_tokens: int


class DenseAnswer(NamedTuple):
    """Vectors in the order of the texts, and how many words or tokens were read, stopwords included."""

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


class Tokens(NamedTuple):
    """One text as a model with weights reads it. Texts that differ in role or prompt length cannot share a batch.

    Attributes:
        ids: Token ids, special ones and the prompt included, cut to the limit.
        role: Role of the text: an asymmetric model has an encoder for each.
        prompt_length: How many of the first tokens are the prompt, 0 when the model does not need to know.
    """

    ids: list[int]
    role: Role
    prompt_length: int = 0


class TooLongError(Exception):
    """A text that must not be cut is longer than the limit.

    Attributes:
        position: Position of the text in the request.
        length: Its tokens, special ones and the prompt included.
        limit: How many are read.
    """

    def __init__(self, position: int, length: int, limit: int) -> None:
        super().__init__(f"text {position} has {length} tokens, the limit is {limit}")
        self.position = position
        self.length = length
        self.limit = limit


SparseRow = tuple[list[int], list[float]]


class Encoder(Protocol):
    """A model with weights, in two steps: any thread prepares texts, one thread at a time runs the model.

    Attributes:
        vector_type: What it gives.
        size: Length of a dense vector; number of ids of a sparse one.
        limits: Longest text it reads in each role, in its own tokens, special ones and the prompt included.
        prompts: The model's own prompts by name; the roles' are "query" and "document".
    """

    vector_type: VectorType
    size: int
    limits: Mapping[Role, int]
    prompts: Mapping[str, str]

    def prepare(
        self, texts: Sequence[str], role: Role, *, prompt: str = "", max_tokens: int | None = None, cut: bool = True
    ) -> list[Tokens]:
        """Return the token ids of each text.

        Args:
            texts: The texts.
            role: Their role.
            prompt: What stands before each text.
            max_tokens: A limit below the model's.
            cut: Whether a text beyond the limit loses its end.

        Raises:
            TooLongError: A text is beyond the limit, and ``cut`` is False.
        """
        ...

    def forward(self, batch: Sequence[Tokens]) -> Sequence[SparseRow] | Sequence[list[float]]:
        """Return one vector per text: ids and weights of a sparse model, the numbers of a dense one.

        Args:
            batch: Texts of one role and one prompt length.
        """
        ...

    def shorten(self, vector: list[float], dimension: int) -> list[float]:
        """Return the first numbers of a dense vector, of length 1 again where the model's vectors are."""
        ...

    def terms(self, indices: Sequence[int]) -> list[str] | None:
        """Return the model's own tokens for the ids of a sparse vector; None when its ids are no tokens."""
        ...
