"""Secrets that must not be shown: where local variables are printed, and where a server quotes them."""

import json
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

Hide: TypeAlias = Callable[[str], str]
# A shorter "key" is a made-up one such as "local" or "any"; hiding such a word would make messages unreadable.
SHORTEST_SECRET: Final = 8


class Masked(str):
    """A secret that is not shown by tools that print local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


def hide_secrets(secrets: Sequence[Masked], text: str) -> str:
    """The text without the secrets: a server that refuses one may quote it, also escaped or without its scheme."""
    forms = {
        form
        for secret in secrets
        for part in (str(secret), secret.partition(" ")[2])  # "Bearer …" names a scheme
        for form in (part, json.dumps(part)[1:-1], repr(part)[1:-1])
    }
    for form in sorted(forms, key=len, reverse=True):  # one may contain another
        if len(form) >= SHORTEST_SECRET:
            text = text.replace(form, "**********")
    return text
