"""The languages of BM25: the words of a text, which of them count, and their stems.

Decides lower case, what belongs to a word, and the stop words. Leaves stems to snowballstemmer.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import snowballstemmer  # type: ignore[import-untyped]

from sparse_embed.server.engines.stopwords import ENGLISH

_NOT_A_WORD = re.compile(r"[^\w\s]+")
_TURKISH_CAPITALS = str.maketrans({"I": "\N{LATIN SMALL LETTER DOTLESS I}", "İ": "i"})  # str.lower() knows no language
_NO_LANGUAGES = {"porter", "dutch_porter"}  # further algorithms for English and Dutch


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case as chromadb does, stop words included.

    Lower-casing comes last, as in chromadb: it can bring in characters that are not of a word (``İ`` gives two).
    """
    return _NOT_A_WORD.sub(" ", text).lower().split()


@dataclass(frozen=True)
class Language:
    """A language that BM25 can read.

    Attributes:
        name: As snowballstemmer names it.
        stop_words: Words in lower case that do not count.
    """

    name: str
    stop_words: frozenset[str]

    def split(self, text: str) -> list[str]:
        """Return the words of a text in lower case, stop words included."""
        return _split(text, self.name)

    def stem(self, word: str) -> str:
        """Return the stem of a word from `split`, "" for a stop word."""
        # A stemmer for each word (0.3 µs to make): they keep state, and requests run in several threads.
        return "" if word in self.stop_words else snowballstemmer.stemmer(self.name).stemWord(word).strip()


def find_language(name: str, stop_words: Iterable[str] | None = None) -> Language:
    """Return a language by its name in English.

    Args:
        name: One of snowballstemmer's languages.
        stop_words: Words that do not count; None for the list that comes with this package.

    Raises:
        ValueError: An unknown language, or one without stop words.
    """
    known = set(snowballstemmer.algorithms()) - _NO_LANGUAGES
    listed = {"english", *_snowball_lists()}
    if name not in known:
        raise ValueError(
            f"language {name!r} is unknown; choose from {_enumerate(listed)},"
            f" or with a stop word list of your own from {_enumerate(known - listed)}"
        )
    if stop_words is not None:
        # Through the same splitter as the texts, so that "l'" becomes the "l" that a text contains.
        words = {piece for word in stop_words for piece in _split(word, name)}
        return Language(name, frozenset(words | {word.replace("ß", "ss") for word in words}))  # daß, since 1996 dass
    if name == "english":
        return Language(name, ENGLISH)
    if name not in listed:
        raise ValueError(
            f"there is no stop word list for {name} here, only for {_enumerate(listed)};"
            " give your own with the option stop-words"
        )
    return find_language(name, _snowball_lists()[name].split())


def _split(text: str, name: str) -> list[str]:
    if name == "english":
        return split_words(text)
    text = unicodedata.normalize("NFC", text)
    if name == "turkish":
        text = text.translate(_TURKISH_CAPITALS)
    return _not_a_word_nor_a_mark().sub(" ", text.lower()).split()


@cache
def _not_a_word_nor_a_mark() -> re.Pattern[str]:
    r"""Vowel signs of Hindi, Nepali and Tamil are combining marks: part of a word, but not of ``\w``."""
    marks = "".join(filter(lambda letter: unicodedata.category(letter)[0] == "M", map(chr, range(0x300, 0x1F000))))
    return re.compile(rf"[^\w\s{marks}]+")


@cache
def _snowball_lists() -> dict[str, str]:
    return tomllib.loads(files(__package__).joinpath("stopwords.toml").read_text(encoding="utf-8"))


def _enumerate(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
