"""A cache of vectors, keyed by provider, address, model, role, parameters and text.

The address is part of the key, so vectors from a local provider that stands in for a model are never returned as the
real ones. Decides keys, the stored format, and what a broken entry is (a miss with a warning). Leaves deciding when to
look to ``transport``. A store is anything with LangChain's byte-store methods ``mget`` and ``mset``; two are built in.
"""

import os
import struct
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

from sparse_embed.errors import ConfigurationError
from sparse_embed.locks import ForkAware, ForkSafeLock
from sparse_embed.providers.base import DenseVector, Request
from sparse_embed.settings import Role
from sparse_embed.vectors import SparseVector

if TYPE_CHECKING:
    import sqlite3

V = TypeVar("V", SparseVector, DenseVector)
FORMAT_VERSION: Final = 1  # the first byte of a value; another version is a miss
LISTS_AT: Final = 7  # after version, kind, width and count
KEYS_PER_SELECT: Final = 500  # SQLite's oldest limit on variables is 999


class ByteStore(Protocol):
    """The part of LangChain's ``BaseStore[str, bytes]`` that is used."""

    def mget(self, keys: Sequence[str], /) -> list[bytes | None]:
        """One value per key, None where there is none."""
        ...

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]], /) -> None:
        """Store."""
        ...


class CacheWarning(UserWarning):
    """The cache could not be read or written; the vector comes from the provider instead."""


class Cache(Generic[V]):
    """Vectors in a byte store."""

    def __init__(self, store: ByteStore) -> None:
        self.store = store

    @property
    def blocks(self) -> bool:
        """Whether an access may block long enough to matter to an event loop."""
        return not isinstance(self.store, MemoryStore)

    def get(self, asked: "CacheKey", texts: Sequence[str]) -> dict[str, V]:
        """The vectors that are there."""
        found: dict[str, V] = {}
        with self._warn_on_failure():
            for text, value in zip(texts, self.store.mget([asked.key(text) for text in texts]), strict=True):
                if value is not None:
                    try:
                        found[text] = cast(V, unpack(value))
                    except ValueError as error:
                        warnings.warn(f"{self.store}: an entry is ignored: {error}", CacheWarning, stacklevel=2)
        return found

    def put(self, asked: "CacheKey", vectors: Mapping[str, V]) -> None:
        """Remember vectors."""
        with self._warn_on_failure():
            self.store.mset([(asked.key(text), pack(vector)) for text, vector in vectors.items()])

    @contextmanager
    def _warn_on_failure(self) -> Iterator[None]:
        """A store may fail in any way of its own; no vector is lost by it."""
        try:
            yield
        except Exception as error:
            if isinstance(error, CacheWarning):
                raise
            warnings.warn(
                f"{self.store}: the cache failed and is ignored: {type(error).__name__}: {error}",
                CacheWarning,
                stacklevel=4,
            )


class CacheKey:
    """Everything that an answer depends on, except the text."""

    def __init__(self, provider: str, base_url: str, role: Role, request_without_texts: Request) -> None:
        request = request_without_texts
        parts = (provider, base_url, role, request.path, *sorted(f"{k}: {v}" for k, v in request.headers.items()))
        self._hash = sha256("\\n".join(parts).encode() + b"\\n" + request.body + b"\\n")

    def key(self, text: str) -> str:
        """A digest, from which the text cannot be recovered."""
        digest = self._hash.copy()
        digest.update(text.encode())
        return digest.hexdigest()


def open_cache(cache: "int | str | os.PathLike[str] | ByteStore | None") -> "Cache[Any] | None":
    """A cache from what a user passes: None, a number of entries, the path of a SQLite file, or a byte store.

    Raises:
        ConfigurationError: It is none of these, or the path is that of a folder or of another kind of file.
    """
    if cache is None:
        return None
    if isinstance(cache, int) and not isinstance(cache, bool) and cache > 0:
        return Cache(MemoryStore(cache))
    if isinstance(cache, str) and cache.strip().isdecimal():
        raise ConfigurationError(f"cache is the text {cache!r}: for entries in memory, pass the number {int(cache)}")
    if isinstance(cache, str | os.PathLike):
        store = SqliteStore(cache)
        store.check()
        return Cache(store)
    if hasattr(cache, "mget") and hasattr(cache, "mset"):
        return Cache(cache)
    raise ConfigurationError(
        f"cache must be a number of entries, a path, or a store with mget and mset, not {type(cache).__name__}"
    )


class MemoryStore:
    """The most recently used entries, in this process."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._lock = ForkSafeLock()

    def __reduce__(self) -> tuple[type["MemoryStore"], tuple[int]]:
        return MemoryStore, (self._size,)

    def __repr__(self) -> str:
        return f"cache of {self._size} entries in memory"

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """One value per key, None where there is none."""
        with self._lock:
            for key in keys:
                if key in self._entries:
                    self._entries.move_to_end(key)
            return [self._entries.get(key) for key in keys]

    def mset(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store, and drop the least recently used entries."""
        with self._lock:
            for key, value in pairs:
                self._entries[key] = value
                self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


class SqliteStore(ForkAware):
    """A SQLite file, shared by threads and processes; it survives a killed process (write-ahead log)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(os.path.expanduser(path)).absolute()
        self._lock = ForkSafeLock()
        self._connection: sqlite3.Connection | None = None

    def __reduce__(self) -> "tuple[type[SqliteStore], tuple[Path]]":
        return SqliteStore, (self._path,)

    def __repr__(self) -> str:
        return f"cache {self._path}"

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def check(self) -> None:
        """Refuse a path where there is something else; what only fails at present is no reason to.

        Raises:
            ConfigurationError: It is a folder, or a file of another kind.
        """
        if os.path.isdir(self._path):
            raise ConfigurationError(f"{self} is a folder: pass the path of a file")
        if not os.path.isfile(self._path):
            return
        import sqlite3

        # SQLite looks, since closing a file that we opened would drop the locks of this process's connections to it.
        # "Immutable": it waits for no lock, and leaves no files beside it.
        try:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?immutable=1", uri=True)) as connection:
                connection.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise ConfigurationError(f"{self} is not a SQLite file: pass another path") from None

    def _forked(self) -> "sqlite3.Connection | None":
        inherited, self._connection = self._connection, None  # SQLite: not to be used, or closed, across a fork
        return inherited

    @contextmanager
    def _opened(self) -> "Iterator[sqlite3.Connection]":
        import sqlite3

        with self._lock:
            if self._connection is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(self._path, timeout=30.0, check_same_thread=False, isolation_level=None)
                try:
                    with suppress(sqlite3.OperationalError):  # SQLite raises while another process switches or writes
                        connection.execute("PRAGMA journal_mode=WAL")
                    connection.execute("PRAGMA synchronous=NORMAL")
                    connection.execute(
                        "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
                    )
                except sqlite3.Error:
                    connection.close()
                    raise
                self._connection = connection
            yield self._connection

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """One value per key, None where there is none."""
        values: dict[str, bytes] = {}
        with self._opened() as connection:
            for start in range(0, len(keys), KEYS_PER_SELECT):
                part = keys[start : start + KEYS_PER_SELECT]
                select = f"SELECT key, value FROM vectors WHERE key IN ({','.join('?' * len(part))})"  # noqa: S608  # only ?
                values.update(connection.execute(select, part))
        return [values.get(key) for key in keys]

    def mset(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store, all or nothing."""
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", pairs)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def pack(vector: SparseVector | DenseVector) -> bytes:
    """A vector as bytes: checksum, version, widths, then the lists. Values take 4 bytes each where that is exact."""
    if isinstance(vector, SparseVector):
        indices, values, tokens = vector.indices, vector.values, vector.tokens
        kind = b"s" if tokens is None else b"t"
    else:
        indices, values, tokens = (), tuple(vector), None
        kind = b"d"
    width = b"f" if _exact_in_four_bytes(values) else b"d"
    lists = f"{len(indices)}I{len(values)}{width.decode()}"
    body = struct.pack(f"<BccI{lists}", FORMAT_VERSION, kind, width, len(values), *indices, *values)
    if tokens is not None:
        body += b"".join(struct.pack("<H", len(raw)) + raw for raw in (token.encode() for token in tokens))
    return struct.pack("<I", zlib.crc32(body)) + body


def unpack(raw: bytes) -> SparseVector | DenseVector:
    """The inverse of `pack`.

    Raises:
        ValueError: The bytes are damaged or of another version.
    """
    body = raw[4:]
    if len(body) < LISTS_AT or struct.unpack_from("<I", raw)[0] != zlib.crc32(body) or body[0] != FORMAT_VERSION:
        raise ValueError("it is damaged or of another version")
    (count,) = struct.unpack_from("<I", body, 3)
    kind, width = chr(body[1]), chr(body[2])
    if kind == "d":
        return list(struct.unpack_from(f"<{count}{width}", body, LISTS_AT))
    indices = struct.unpack_from(f"<{count}I", body, LISTS_AT)
    values = struct.unpack_from(f"<{count}{width}", body, LISTS_AT + 4 * count)
    if kind == "s":
        return SparseVector(indices, values)
    at = LISTS_AT + (4 + struct.calcsize(width)) * count
    tokens = []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", body, at)
        tokens.append(body[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return SparseVector(indices, values, tokens)


def _exact_in_four_bytes(values: tuple[float, ...]) -> bool:
    try:
        return struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *values)) == values
    except OverflowError:
        return False
