"""Seams of stores that are the same for every framework, one module each, imported on first use."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needing(package: str) -> Iterator[None]:
    """Around an import of a store's seam: when the store's package is missing, the error says what to install.

    Args:
        package: Name on PyPI; the module's name is the same with underscores.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != package.replace("-", "_"):
            raise
        raise ImportError(f"this needs {package}: pip install {package}") from None
