"""Secrets that must not be shown: where local variables are printed, and where a server quotes them."""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias
from urllib.parse import unquote

Hide: TypeAlias = Callable[[str], str]
# A shorter "key" is a made-up one such as "local" or "any"; hiding such a word would make messages unreadable.
SHORTEST_SECRET: Final = 8
ESCAPE: Final = re.compile(r"\\+(?:(?:u00|x)([0-9a-fA-F]{2}))?")  # PHP writes \/ for a slash, .NET \u002B for a plus


class Masked(str):
    """A secret that is not shown by tools that print local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


def hide_secrets(secrets: Sequence[Masked], text: str) -> str:
    """The text without the secrets: a server that refuses one may quote a part of it, and escape what it quotes."""
    parts = {part for secret in secrets for part in _parts(secret)}
    shown = _replace(parts, text)
    plain = _undo_escapes(shown)
    masked = _replace(map(_undo_escapes, parts), plain)
    return shown if masked == plain else masked


def _parts(value: str) -> Iterator[str]:
    """What of a header's value may be quoted alone: of "Bearer …", `name="…"` and "name=…; name=…", what is elided."""
    yield value
    yield value.partition(" ")[2]
    for word in re.split(r'[\s;,"]+', value):
        yield word
        yield word.partition("=")[2]


def _replace(secrets: Iterable[str], text: str) -> str:
    for secret in sorted(secrets, key=len, reverse=True):  # one may contain another
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "**********")
    return text


def _undo_escapes(text: str) -> str:
    """The text without escapes of JSON, also of JSON in JSON, HTML and URLs, and without any backslash."""
    text = ESCAPE.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else "", text)
    return unquote(html.unescape(text)).replace("\\", "")
