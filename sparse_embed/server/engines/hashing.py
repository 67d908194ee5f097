"""Dense vectors without a model: hashed character n-grams.

Decides how letters become numbers. Carries no meaning whatsoever: see `Hashing`.
"""

import math
from collections.abc import Sequence

import mmh3

from sparse_embed.server.engines import DenseAnswer, Role
from sparse_embed.server.engines.languages import split_words

DEFAULT_DIMENSION = 384
NGRAM_SIZES = (3, 4)
MAX_DIMENSION = 20_000  # the largest that Pinecone's model descriptions allow

REMEMBERED_WORDS = 2**15  # about 25 MB when full: a word has some ten n-grams
MAX_REMEMBERED_LENGTH = 40  # longer "words" are rarely met twice


class _Ngrams(dict[str, tuple[int, ...]]):
    """Word to the 32-bit hash of each of its n-grams; filled on demand, emptied when full."""

    def __missing__(self, word: str) -> tuple[int, ...]:
        marked = f"<{word}>"  # so that the start and the end of a word differ from its middle
        grams = {marked}.union(
            *({marked[at : at + size] for at in range(len(marked) - size + 1)} for size in NGRAM_SIZES)
        )
        # A set has no order, but sums of 1 and -1 are exact: the vectors are the same in every process.
        hashes = tuple(mmh3.hash(gram, signed=False) for gram in grams)
        if len(word) <= MAX_REMEMBERED_LENGTH:
            if len(self) >= REMEMBERED_WORDS:
                self.clear()
            self[word] = hashes
        return hashes


class Hashing:
    """A stand-in for a dense model, for wiring and tests: it has no semantics.

    Two texts are near each other when they share spellings, nothing else: "car" and "automobile" are strangers, "car"
    and "carpet" are relatives. It is deterministic, needs no download, and gives vectors of the shape that a real model
    would give, so that a pipeline can be run end to end. Do not judge a dense model's search quality by it.

    Each word, with its ends marked, is cut into n-grams of 3 and 4 characters; each n-gram adds +1 or -1 (by hash) at
    one place (by hash); the sum is divided by its length. Role makes no difference.
    """

    name = "local/hashing"

    def __init__(self) -> None:
        self._ngrams = _Ngrams()

    def embed(self, texts: Sequence[str], role: Role, *, dimension: int = DEFAULT_DIMENSION) -> DenseAnswer:
        """Return one vector of length 1 and ``dimension`` numbers for each text, the empty text included."""
        num_tokens = 0
        vectors = []
        for text in texts:
            words = split_words(text)
            num_tokens += len(words)
            # A text without words counts as one empty word: a zero vector has no cosine.
            vectors.append(self._sum(words or [""], dimension))
        return DenseAnswer(vectors, num_tokens)

    def _sum(self, words: list[str], dimension: int) -> list[float]:
        vector = [0.0] * dimension
        for word in words:
            for number in self._ngrams[word]:
                # The lowest bit gives the sign, the others the place: neither follows from the other.
                vector[(number >> 1) % dimension] += 1.0 if number & 1 else -1.0
        length = math.hypot(*vector)
        if not length:  # every n-gram met its opposite: possible in a handful of dimensions
            vector[0] = length = 1.0
        return [value / length for value in vector]
