"""Locks and forks: the thread that holds a lock while its process forks is not in the child to open it."""

import os
import threading
import weakref
from typing import Final

_all: "Final[weakref.WeakSet[ForkSafeLock]]" = weakref.WeakSet()


class ForkSafeLock:
    """A lock that is open, and new, in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.Lock()


def _renew_all() -> None:
    for lock in list(_all):
        lock._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
