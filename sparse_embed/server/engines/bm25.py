"""BM25 term weights without a model: by default the same ids and weights as chromadb's and fastembed's BM25.

Decides the ids of words and their weights. Leaves the words of a text to ``languages``, IDF to the vector store
(Qdrant: ``modifier=IDF``).
"""

from collections import Counter
from collections.abc import Sequence

import mmh3

from sparse_embed.server.engines import Role, SparseAnswer, SparseTerms
from sparse_embed.server.engines.languages import Language, find_language

# chromadb 1.5.9 `ChromaBm25EmbeddingFunction`, read 2026-11; fastembed's `Qdrant/bm25` has the same values.
K = 1.2
B = 0.75
AVERAGE_LENGTH = 256.0  # words left in an average document
MAX_TOKEN_LENGTH = 40  # longer "words" are mostly hashes and base64

REMEMBERED_WORDS = 2**17  # about 20 MB when full; English prose uses fewer distinct words


def term_id(stem: str) -> int:
    """Return the id of a stem, 0 to 2³¹: the absolute value of its signed 32-bit MurmurHash3, seed 0."""
    return abs(mmh3.hash(stem))


class _Stems(dict[str, str]):
    """Word to stem, "" for a word that does not count; filled on demand.

    Stemming in Python costs 50 µs a word, so almost all the time of BM25 goes there when it is not remembered.
    Emptied when full: cheaper than tracking use, and frequent words are back at once.
    """

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language = language

    def __missing__(self, word: str) -> str:
        if len(word) > MAX_TOKEN_LENGTH:
            return ""  # not remembered: long junk is rarely met twice, and would take the room
        if len(self) >= REMEMBERED_WORDS:
            self.clear()
        self[word] = stem = self._language.stem(word)
        return stem


class _Ids(dict[str, int]):
    """Stem to term id, filled on demand, bounded like `_Stems`."""

    def __missing__(self, stem: str) -> int:
        if len(self) >= REMEMBERED_WORDS:
            self.clear()
        self[stem] = number = term_id(stem)
        return number


class Bm25:
    """BM25 with fixed average length: needs no corpus, so one text's vector never depends on another's.

    A document's weight for a term is ``tf (k + 1) / (tf + k (1 - b + b L / A))`` with ``k`` 1.2, ``b`` 0.75, ``L`` the
    words left in the text and ``A`` those of an average document. A query's weight is 1 for each distinct stem (as
    fastembed): the documents carry the saturation. Two stems with one id add their counts and keep the name of the
    first.

    Args:
        name: The id under which the server offers it.
        language: The language of the texts; English when None.
        average_length: Words of an average document, stop words not counted.
    """

    name = "local/bm25"

    def __init__(
        self, name: str = name, *, language: Language | None = None, average_length: float = AVERAGE_LENGTH
    ) -> None:
        self.name = name
        self.language = language or find_language("english")
        self.average_length = average_length
        self._stems = _Stems(self.language)
        self._ids = _Ids()

    def length(self, text: str) -> int:
        """Return how many words of a text count, which `average_length` is the mean of."""
        return len(self._stems_of(self.language.split(text)))

    def embed(self, texts: Sequence[str], role: Role) -> SparseAnswer:
        """Return one vector for each text, empty for a text of stopwords; never fails on any ``str``."""
        num_tokens = 0
        vectors = []
        for text in texts:
            words = self.language.split(text)
            num_tokens += len(words)
            vectors.append(self._weigh(words, role))
        return SparseAnswer(vectors, num_tokens)

    def _stems_of(self, words: list[str]) -> list[str]:
        return list(filter(None, map(self._stems.__getitem__, words)))

    def _weigh(self, words: list[str], role: Role) -> SparseTerms:
        stems = self._stems_of(words)
        if role == "query":
            stems = list(dict.fromkeys(stems))
        counts = Counter(stems)
        tokens = sorted(counts, key=self._ids.__getitem__)
        indices = list(map(self._ids.__getitem__, tokens))
        frequencies = list(map(counts.__getitem__, tokens))
        if len(set(indices)) < len(indices):
            indices, frequencies, tokens = _merge_collisions(indices, frequencies, tokens)
        if role == "query":
            return SparseTerms(indices, [1.0] * len(indices), tokens)
        saturation = K * (1 - B + (B * len(stems)) / self.average_length)
        return SparseTerms(indices, [tf * (K + 1) / (tf + saturation) for tf in frequencies], tokens)


def _merge_collisions(
    indices: list[int], frequencies: list[int], tokens: list[str]
) -> tuple[list[int], list[int], list[str]]:
    """Add up the counts of stems that share an id; the lists are ascending by id, first seen first."""
    totals: dict[int, int] = {}
    names: dict[int, str] = {}
    for index, frequency, token in zip(indices, frequencies, tokens, strict=True):
        totals[index] = totals.get(index, 0) + frequency
        names.setdefault(index, token)
    return list(totals), list(totals.values()), list(names.values())
