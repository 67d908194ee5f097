"""All windows of one of LlamaIndex's batch methods as one call of the core.

LlamaIndex splits the texts into windows of ``embed_batch_size``, each with a start and an end event. Its own methods
wait for the end of a window before they send the next one, and copy every vector to validate the end event. Decides
which vectors belong to which window. Leaves the events to the classes: those of dense and sparse ones differ.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import unwrap
from typing import Any, Final, TypeVar

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from sparse_embed import SparseEmbedError

T = TypeVar("T")
V = TypeVar("V")

# The bar of the call that runs in this context: an encoder has one `on_progress` for all of its calls.
BAR: Final[ContextVar[Any]] = ContextVar("BAR", default=None)


def advance(done: int, total: int | None) -> None:
    """``on_progress`` of the encoders: move the bar of this call, if it has one."""
    bar = BAR.get()
    if bar is not None and bar.total and total:
        bar.update(bar.total * done // total - bar.n)


@contextmanager
def progress_bar(steps: int, show: bool) -> Iterator[None]:
    """Show LlamaIndex's progress bar, with so many steps, while the core embeds."""
    if not show:
        yield
        return
    with tqdm(total=steps, desc="Generating embeddings") as bar:
        token = BAR.set(bar)
        try:
            yield
        finally:
            BAR.reset(token)


def embed_windows(
    embed: Callable[[list[str]], list[V]], texts: list[str], size: int, show_progress: bool
) -> Iterator[list[V]]:
    """Embed all texts when the first window is needed, and yield the vectors of each window.

    After an error, complete windows come first; the first incomplete one raises it. A request may hold texts of two
    windows, which fail together.
    """
    failure: SparseEmbedError | None = None
    found: dict[int, V]
    try:
        with progress_bar(len(texts), show_progress):
            found = dict(enumerate(embed(texts)))
    except SparseEmbedError as error:
        found, failure = error.partial, error
    for start in range(0, len(texts), size):
        window = range(start, min(start + size, len(texts)))
        if failure is not None and (window.stop == len(texts) or not all(at in found for at in window)):
            try:
                raise failure
            finally:
                failure = None  # its traceback holds this frame: a cycle, with all vectors in it
        yield [found[at] for at in window]


def without_span(method: Callable[..., T]) -> Callable[..., T]:
    """LlamaIndex's own method without its span, for a method of ours that has the span already."""
    return unwrap(method)  # type: ignore[no-any-return]  # unwrap is untyped
