"""One call, or one part of a stream: its texts, checked, and the vectors found for them.

Decides which inputs are texts and which of them need a request: repeated ones are sent once, and everything is found
again by its text. Leaves the requests to ``transport``.
"""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from sparse_embed.errors import ConfigurationError, SparseEmbedError
from sparse_embed.transport.flow import Call

V = TypeVar("V")


@dataclass(slots=True)
class Chunk(Generic[V]):
    """The texts of one call, or of one part of a stream, and the vectors found for them so far."""

    texts: list[str]
    start: int
    call: Call[V]

    def missing(self) -> dict[str, int]:
        """Each text that still has no vector, once, with its first position."""
        found = self.call.found
        first: dict[str, int] = {}
        for position, text in enumerate(self.texts, self.start):
            if text not in found:
                first.setdefault(text, position)
        return first

    def vectors(self) -> list[V]:
        """One vector a text, in order; repeated texts share one."""
        return [self.call.found[text] for text in self.texts]

    def newly_received(self) -> dict[str, V]:
        """What came from the provider since the last time, by text."""
        received = self.call.received
        texts = [received.popleft() for _ in range(len(received))]
        return {text: self.call.found[text] for text in texts}

    def partial(self) -> dict[int, V]:
        """What is found so far, by position."""
        found = self.call.found
        return {at: found[text] for at, text in enumerate(self.texts, self.start) if text in found}


def refuse_bare_text(texts: object, *, asynchronous: bool = False) -> None:
    """A bare text is iterable too: one request a character."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable | AsyncIterable):
        raise ConfigurationError(f"a list of texts is needed, not {type(texts).__name__}: for one text pass [text]")
    if not (asynchronous or isinstance(texts, Iterable)):
        raise ConfigurationError(
            f"a list of texts is needed, not {type(texts).__name__}: only astream_documents reads that"
        )


def listed(texts: Iterable[str]) -> list[str]:
    """The texts as a list of our own."""
    refuse_bare_text(texts)
    return list(texts)


def check_text(text: str, position: int) -> None:
    """Refuse what is no text, before any request.

    Raises:
        ConfigurationError: Not a str, or not valid Unicode; the message names the position.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"text {position} is {type(text).__name__}, not str")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"text {position} holds half a surrogate pair, which is not Unicode: "
                "clean it with text.encode('utf-8', 'replace').decode()"
            ) from None


@contextmanager
def keeping(chunks: Iterable[Chunk[V]], remember: Callable[[Chunk[V]], None]) -> Iterator[None]:
    """However a call ends, lose nothing that was received: it has been paid for.

    It goes into the cache, and onto the error for whoever catches it.
    """
    try:
        yield
    except BaseException as error:
        for chunk in chunks:
            if isinstance(error, SparseEmbedError):
                error.partial |= chunk.partial()
            with suppress(Warning):  # of the cache, where warnings are errors: this error says more
                remember(chunk)
        raise
