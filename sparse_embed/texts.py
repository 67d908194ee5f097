"""What a text is. Bad input is refused here, before any request, and the message names its position."""

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TypeGuard

from sparse_embed.errors import ConfigurationError


def refuse_bare_text(texts: object, *, asynchronous: bool = False) -> None:
    """Refuse a bare text, a mapping and a set, which are iterable too, and what cannot be iterated over.

    Raises:
        ConfigurationError: The texts are not a list or another ordered iterable.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable | AsyncIterable):
        raise ConfigurationError(f"a list of texts is needed, not {type(texts).__name__}: for one text pass [text]")
    if isinstance(texts, Mapping):
        raise ConfigurationError("of a mapping only the keys would be embedded: pass list(mapping.values())")
    if isinstance(texts, set | frozenset):
        raise ConfigurationError("a set of texts has no order, and vectors are in the order of the texts: pass a list")
    if not (asynchronous or isinstance(texts, Iterable)):
        raise ConfigurationError(
            f"a list of texts is needed, not {type(texts).__name__}: only astream_documents reads that"
        )


def list_texts(texts: Iterable[str]) -> list[str]:
    """The texts as a new list."""
    refuse_bare_text(texts)
    return list(texts)


def has_content(text: str | None) -> TypeGuard[str]:
    """Whether there is anything to embed: a missing or blank text is not sent."""
    return text is not None and text != "" and not text.isspace()


def check_text(text: str, position: int | None) -> None:
    """Refuse what is not a text.

    Args:
        text: The text.
        position: Where it stands in the caller's list, None for a query.

    Raises:
        ConfigurationError: Not a str, or not valid Unicode; the message names the position.
    """
    if not isinstance(text, str):
        kind = "None" if text is None else type(text).__name__
        raise ConfigurationError(f"{name_text(position)} is {kind}, not str")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"{name_text(position)} holds half a surrogate pair, which is not Unicode: "
                "clean it with text.encode('utf-8', 'replace').decode()"
            ) from None


def name_text(position: int | None) -> str:
    """What an error calls a text."""
    return "the query" if position is None else f"text {position}"
