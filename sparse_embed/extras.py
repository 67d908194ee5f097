"""What to install when an optional package is missing: the one place that words it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def requires(package: str, extra: str | None = None) -> Iterator[None]:
    """Around the import of an optional package: when it is missing, the error says what to install.

    Args:
        package: Its name on PyPI; its module has the same name, with underscores or dots for hyphens.
        extra: The extra of sparse-embed that installs it, if there is one.

    Raises:
        ImportError: The package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        module, expected = (missing.name or "").replace(".", "_"), package.replace("-", "_")
        if not (module and (module.startswith(expected) or expected.startswith(module))):
            raise
    else:
        return
    # pip adds an extra to a package that it finds installed, so the command is right before publication too.
    wanted = package if extra is None else f"'sparse-embed[{extra}]'"
    raise ImportError(f"{package} is not installed: pip install {wanted}")
