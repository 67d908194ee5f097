"""What a forked child must replace: a lock that another thread held during the fork would stay locked in the child."""

import os
import threading
import weakref
from abc import ABC, abstractmethod
from typing import Any, Final

_all: "Final[weakref.WeakSet[ForkAware]]" = weakref.WeakSet()
# Inherited connections are shared with the parent: using or closing one would mix up two processes' answers.
_inherited: Final[list[Any]] = []


class ForkAware(ABC):
    """Objects whose `_forked` runs in a forked child before anything else."""

    def __init__(self) -> None:
        _all.add(self)

    @abstractmethod
    def _forked(self) -> object:
        """Replace what cannot be shared with the parent; return what must stay referenced and untouched."""


class ForkSafeLock(ForkAware):
    """A lock that is new, and unlocked, in a forked child."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _forked(self) -> None:
        self._lock = threading.Lock()


def _in_child() -> None:
    _inherited.extend([one._forked() for one in list(_all)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
