"""BM25 models of one's own: what ``--bm25`` may say, and the mean document length of a file.

Decides options and file formats. Leaves weights to ``engines.bm25``, stop words to ``engines.languages``.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from sparse_embed.server.engines.bm25 import AVERAGE_LENGTH, Bm25
from sparse_embed.server.engines.languages import Language, find_language

OPTIONS = ("language", "document-length", "stop-words")
MAX_LENGTH = 1_000_000  # words; beyond it the length of a document makes no difference

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")  # it travels in a header and in a URL


def read_option(option: str) -> Bm25:
    """Return the model that ``NAME,language=german,document-length=90,stop-words=FILE`` describes.

    Args:
        option: A name, then any of the three; the defaults are English, 256 words and the language's own list.

    Raises:
        ValueError: Something in it is wrong; the message says what and names the choices.
    """
    name, *settings = option.split(",")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no model name: letters, digits and . _ / - only, a letter or digit first")
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in OPTIONS or not equals or not value:
            raise ValueError(f"{setting!r} is not understood; write OPTION=VALUE, with {', '.join(OPTIONS)}")
        if key in given:
            raise ValueError(f"{key} is given twice")
        given[key] = value
    language = read_language(given.get("language", "english"), given.get("stop-words"))
    return Bm25(name, language=language, average_length=_read_length(given.get("document-length", AVERAGE_LENGTH)))


def read_language(name: str, stop_words: str | Path | None = None) -> Language:
    """Return a language, with the stop words in a file (white space between them) or its own.

    Raises:
        ValueError: An unknown language, one that needs a file, or a file that cannot be read.
    """
    return find_language(name, None if stop_words is None else _lines(stop_words))


def measure_length(file: str | Path, language: Language) -> tuple[float, int]:
    """Return the mean length of a file's documents in words that count, and how many documents there are.

    Args:
        file: UTF-8, one document per line; a name that ends in .jsonl has one JSON object with a string `text` per
            line. Blank lines are ignored.
        language: The language of the documents.

    Raises:
        ValueError: The file cannot be read, a line is not such an object, or there is no document.
    """
    engine = Bm25(language=language)
    words = documents = 0
    for text in _documents(file):
        words += engine.length(text)
        documents += 1
    if not documents:
        raise ValueError(f"{file}: no documents")
    return words / documents, documents


def _documents(file: str | Path) -> Iterator[str]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        if Path(file).suffix != ".jsonl":
            yield line
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{file}, line {number}: not JSON") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ValueError(f"{file}, line {number}: not an object with a string `text`")
        yield record["text"]


def _lines(file: str | Path) -> Iterator[str]:
    try:
        with open(file, encoding="utf-8-sig") as lines:
            yield from lines
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8") from None


def _read_length(value: str | float) -> float:
    try:
        length = float(value)
    except ValueError:
        length = 0.0
    if not 1 <= length <= MAX_LENGTH:  # NaN is refused too
        raise ValueError(f"document-length={value} is not a number of words from 1 to {MAX_LENGTH:,}")
    return length
