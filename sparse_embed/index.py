"""Exact search over sparse vectors in this process: `InvertedIndex`.

Decides scores, their order, and how postings are stored: in sorted, immutable runs, which are merged when their sizes
become similar, so that an addition needs no rebuild and a search needs no lock. Leaves embedding to ``encoder``.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Self
from uuid import uuid4

from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.filters import Filter, to_predicate
from sparse_embed.locks import ForkSafeLock
from sparse_embed.options import check_count
from sparse_embed.vectors import SparseVector

with requires("numpy", "retrievers"):
    import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT_VERSION: Final = 1  # of a saved file
# What numpy, zipfile and json raise for damaged files, found by flipping each bit of one.
UNREADABLE: Final = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
)
SORT_AT: Final = 2**20  # postings: additions stay unsorted up to this (8 MB), so that single ones are cheap
_NONE: Final = np.empty(0, np.intp)


# The field of every document's metadata by which a file shows whose `SparseRetriever` saved it.
WRITERS: Final = {"LangChain": "page_content", "LlamaIndex": "_node_content"}


class Origin(NamedTuple):
    """What made the vectors of an index.

    Attributes:
        provider: ``"chroma"`` or ``"pinecone"``; None for an encoder that does not say.
        model: The model's id.
        engine: What computed the vectors where a local provider did, and said so; None for the real providers.
    """

    provider: str | None
    model: str
    engine: str | None = None

    @classmethod
    def of(cls, encoder: Any) -> Self:  # noqa: ANN401  # of the core, of a framework, or of another package
        """What an encoder says of itself; the engine is known after its first answer."""
        model = getattr(encoder, "model", None) or getattr(encoder, "model_name", None)
        return cls(getattr(encoder, "provider", None), str(model), getattr(encoder, "engine", None))

    def agrees(self, other: "Origin") -> bool:
        """Whether both make the same vectors, as far as both say."""
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True) if None not in (mine, theirs))

    def __str__(self) -> str:
        made_by = f" of {self.provider}" if self.provider else ""
        return f"{self.model}{made_by}{f', computed by {self.engine}' if self.engine else ''}"


class Hit(NamedTuple):
    """A document that was found.

    Attributes:
        id: As it was added.
        score: Inner product of query and document, with the query's weights times IDF in an index with ``idf=True``.
        metadata: As it was added; do not change it.
        terms: What each of the query's terms in the document adds to the score, with the query's tokens; None unless
            asked for.
    """

    id: str
    score: float
    metadata: Mapping[str, Any]
    terms: SparseVector | None = None


class InvertedIndex:
    """Finds the documents with the greatest inner product: exact, incremental, in memory.

    Weights are stored as float32, as in every store, and scores are summed in float64. A posting takes 8 bytes: about
    80 MB for 100,000 documents of 100 terms. Tokens are not stored.

    Threads: any number may search while others add and delete. A search sees each call of `add` or `delete` as a whole
    or not at all, and sees every call that returned before it began. Only the first search after a change waits for a
    lock.

    Args:
        idf: Multiply the query's weights by ln(1 + (N - df + 0.5) / (df + 0.5)), where N is the number of documents and
            df how many of them have the term: Qdrant's formula, for models whose vectors leave IDF to the store (BM25).

    Attributes:
        origin: What made the vectors, if it is known. Set by the retrievers, and saved with the index.
    """

    def __init__(self, *, idf: bool = False) -> None:
        self.origin: Origin | None = None
        self._idf = idf
        self._lock = ForkSafeLock()
        self._row_of: dict[str, int] = {}  # documents that are not deleted
        self._ids: list[str] = []  # by row, with deleted ones; only ever appended to, or replaced as a whole
        self._metadata: list[Mapping[str, Any]] = []
        self._waiting: list[_Waiting] = []
        self._unsorted = 0  # terms in them
        self._dead: list[int] = []  # rows deleted since the snapshot
        self._snapshot = _Snapshot((), None, self._ids, self._metadata, 0)
        self._stale = False

    @property
    def idf(self) -> bool:
        """Whether the query's weights are multiplied by IDF."""
        return self._idf

    def __repr__(self) -> str:
        model = "" if self.origin is None else f", model={self.origin.model!r}"
        return f"{type(self).__name__}({len(self)} documents, idf={self._idf}{model})"

    def __len__(self) -> int:
        """Number of documents."""
        return len(self._row_of)

    def __contains__(self, key: object) -> bool:
        return key in self._row_of

    def add(
        self,
        ids: Iterable[str],
        vectors: Iterable[SparseVector],
        metadata: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Add documents, or replace those whose id is there already (they then count as added last).

        Args:
            ids: One per vector.
            vectors: All of one model. A document with an empty vector is stored, and never found.
            metadata: One mapping per vector, for `search`'s filter and for `Hit`; JSON values, if it is to be saved.

        Raises:
            ConfigurationError: Unequal lengths, an id that is not a str, a weight beyond float32. Nothing was added.
        """
        ids, vectors = _list_ids(ids), list(vectors)
        described = [{} for _ in ids] if metadata is None else list(metadata)
        if not len(ids) == len(vectors) == len(described):
            given = "" if metadata is None else f", and metadata of {len(described)}"
            raise ConfigurationError(f"{len(ids)} ids but {len(vectors)} vectors{given}")
        for at, (vector, fields) in enumerate(zip(vectors, described, strict=True)):
            if not isinstance(vector, SparseVector):
                raise ConfigurationError(f"vector {at} is {type(vector).__name__}, not SparseVector")
            if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
                raise ConfigurationError(f"metadata {at} is not a mapping with str keys")
        new = _Waiting.of(vectors)
        copies = [dict(fields) for fields in described]
        with self._lock:
            for row, key in enumerate(ids, len(self._ids)):
                if (replaced := self._row_of.pop(key, None)) is not None:
                    self._dead.append(replaced)
                self._row_of[key] = row
            self._ids += ids
            self._metadata += copies
            self._waiting.append(new)
            self._unsorted += len(new.terms)
            if self._unsorted >= SORT_AT:
                self._update()
            else:
                self._stale = True

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents; unknown ids are ignored.

        Returns:
            How many were deleted.
        """
        ids = _list_ids(ids)
        with self._lock:
            rows = [self._row_of.pop(key) for key in dict.fromkeys(ids) if key in self._row_of]
            self._dead += rows
            self._stale |= bool(rows)
        return len(rows)

    def search(
        self,
        query: SparseVector,
        k: int = 10,
        *,
        filter: Filter | None = None,  # noqa: A002  # the word of every store
        terms: bool = False,
    ) -> list[Hit]:
        """The ``k`` documents with the greatest scores, best first; of equal scores the one added first.

        A document without any term of the query is not found, so there may be fewer than ``k``.

        Args:
            query: A vector of the same model as the documents.
            k: How many, at least 1.
            filter: Only documents whose metadata it accepts: a function, or a mapping of fields to the values that they
                must equal. The result is still exact: ``k`` of those accepted.
            terms: Fill in `Hit.terms`.

        Raises:
            ConfigurationError: Bad input.
        """
        if not isinstance(query, SparseVector):
            raise ConfigurationError(f"query is {type(query).__name__}, not SparseVector: embed it first")
        check_count("k", k)
        snapshot = self._current()
        rows, scores, shares = snapshot.scores(query, idf=self._idf)
        if filter is None and k < len(rows):  # drop rows that cannot be among the first k; the rest stay in order
            best = np.flatnonzero(scores >= np.partition(scores, len(rows) - k)[len(rows) - k])
            rows, scores = rows[best], scores[best]
        accepts = None if filter is None else to_predicate(filter)
        order = np.argsort(-scores, kind="stable")  # equal scores stay in the order of rows, which is that of addition
        ranked = zip(rows[order].tolist(), scores[order].tolist(), strict=True)
        return list(islice(snapshot.hits(ranked, accepts, shares if terms else None), k))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one file, which is replaced as a whole or not at all.

        The file is a numpy archive without pickles; metadata is JSON in it (so a tuple is read back as a list).

        Raises:
            ConfigurationError: Some metadata is not JSON; the message names the document.
        """
        snapshot = self._current()
        alive = np.ones(snapshot.rows, np.bool_) if snapshot.alive is None else snapshot.alive
        ids, metadata = list(compress(snapshot.ids, alive)), compress(snapshot.metadata, alive)
        origin = None if self.origin is None else self.origin._asdict()
        about = json.dumps({"form": FORMAT_VERSION, "idf": self._idf, "ids": ids, "origin": origin})
        fields = ",".join(map(_json, ids, metadata))
        texts = {"about": about, "metadata": f"[{fields}]"}
        arrays = _merge(snapshot.runs, alive)._asdict()
        arrays |= {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with unfinished.open("xb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            ConfigurationError: The file is damaged, or not an index.
            OSError: It cannot be read.
        """
        with open(path, "rb") as file:
            try:
                return cls._read(file)
            except UNREADABLE as error:
                raise ConfigurationError(f"{os.fspath(path)} is damaged, or not an index written by save") from error

    @classmethod
    def load_for(cls, framework: str, path: str | os.PathLike[str], *, expected: Origin | None) -> Self:
        """Read what the `SparseRetriever` of a framework saved.

        Args:
            framework: A key of `WRITERS`.
            path: The file.
            expected: What will embed the queries; None: any model. A file without an origin is not checked.

        Raises:
            ConfigurationError: The file is damaged, was saved by something else, or holds vectors of another model.
        """
        index = cls.load(path)
        writers = [name for name, field in WRITERS.items() if all(field in fields for fields in index._metadata)]
        if framework not in writers:
            writer = f"{writers[0]}'s SparseRetriever" if writers else "something else"
            raise ConfigurationError(f"{os.fspath(path)} was saved by {writer}, not by {framework}'s SparseRetriever")
        if index.origin and expected and not index.origin.agrees(expected):
            raise ConfigurationError(
                f"{os.fspath(path)} holds vectors of {index.origin}, and queries would be embedded with {expected}: "
                "give the same model, embed the documents again, or pass check_model=False"
            )
        return index

    @classmethod
    def _read(cls, file: BinaryIO) -> Self:
        arrays = np.load(file, allow_pickle=False)
        run = _Run(*(arrays[name] for name in _Run._fields))
        about, metadata = (json.loads(arrays[name].tobytes()) for name in ("about", "metadata"))
        index = cls(idf=bool(about["idf"]))
        index.origin = Origin(**about["origin"]) if about.get("origin") else None  # older files have none
        index._ids, index._metadata = _list_ids(about["ids"]), metadata
        index._row_of = {key: row for row, key in enumerate(index._ids)}
        if (
            about["form"] != FORMAT_VERSION
            or not run.is_sound(len(index._ids))
            or not len(index._row_of) == len(index._ids) == len(index._metadata)
            or not all(isinstance(fields, dict) for fields in index._metadata)
        ):
            raise ValueError
        index._snapshot = _Snapshot(_runs(run), None, index._ids, index._metadata, len(index._ids))
        return index

    def _current(self) -> "_Snapshot":
        if self._stale:
            with self._lock:
                if self._stale:
                    self._update()
        return self._snapshot

    def _update(self) -> None:
        """Make a snapshot with all additions and deletions; the caller holds the lock."""
        runs, alive = self._snapshot.runs, None
        gone = len(self._ids) - len(self._row_of)
        if gone:
            alive = np.ones(len(self._ids), np.bool_)
            if (before := self._snapshot.alive) is not None:
                alive[: len(before)] = before
            alive[self._dead] = False
        if self._unsorted:
            new = _Waiting.joined(self._waiting).sorted(self._snapshot.rows)
            # Merge the last runs with the new one while they are at most twice its size. Sizes then halve from one
            # to the next, so there are few, and a posting is moved a logarithmic number of times.
            size, kept = len(new.rows), len(runs)
            while kept and len(runs[kept - 1].rows) <= 2 * size:
                kept -= 1
                size += len(runs[kept].rows)
            runs = (*runs[:kept], _merge((*runs[kept:], new)) if kept < len(runs) else new)
        if alive is not None and gone > len(self._row_of):  # more deleted than left: reclaim their space
            runs = _runs(_merge(runs, alive))
            self._ids = list(compress(self._ids, alive))
            self._metadata = list(compress(self._metadata, alive))
            self._row_of = {key: row for row, key in enumerate(self._ids)}
            alive = None
        self._snapshot = _Snapshot(runs, alive, self._ids, self._metadata, len(self._ids))
        self._waiting, self._unsorted, self._dead = [], 0, []
        self._stale = False


class _Waiting(NamedTuple):
    """Documents in order of addition: their terms one after another."""

    terms: "NDArray[np.uint32]"
    weights: "NDArray[np.float32]"
    lengths: "NDArray[np.intp]"

    @classmethod
    def of(cls, vectors: Sequence[SparseVector]) -> Self:
        lengths = np.array([len(vector.indices) for vector in vectors], np.intp)
        total = int(lengths.sum())
        terms = np.fromiter(chain.from_iterable(vector.indices for vector in vectors), np.uint32, total)
        with np.errstate(over="ignore"):  # numpy would warn; the check below names the vector
            weights = np.fromiter(chain.from_iterable(vector.values for vector in vectors), np.float32, total)
        if not np.isfinite(weights).all():
            at = int(np.searchsorted(lengths.cumsum(), np.flatnonzero(~np.isfinite(weights))[0], side="right"))
            raise ConfigurationError(f"vector {at} has a weight that does not fit float32")
        return cls(terms, weights, lengths)

    @classmethod
    def joined(cls, parts: "Sequence[_Waiting]") -> Self:
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def sorted(self, first_row: int) -> "_Run":
        rows = np.arange(first_row, first_row + len(self.lengths), dtype=np.uint32)
        return _run(self.terms, np.repeat(rows, self.lengths), self.weights)


class _Run(NamedTuple):
    """Postings sorted by term, then row. Those of ``terms[i]`` lie from ``starts[i]`` to ``starts[i + 1]``."""

    terms: "NDArray[np.uint32]"
    starts: "NDArray[np.int64]"
    rows: "NDArray[np.uint32]"
    weights: "NDArray[np.float32]"

    def is_sound(self, documents: int) -> bool:
        """Whether arrays that were read from a file are consistent."""
        terms, starts, rows, weights = self
        if (
            [(array.dtype, array.ndim) for array in self] != [(np.dtype(name), 1) for name in ("u4", "i8", "u4", "f4")]
            or len(starts) != len(terms) + 1
            or not (starts[0] == 0 and np.all(np.diff(starts) > 0))
            or not starts[-1] == len(rows) == len(weights)
        ):
            return False
        order = np.repeat(terms.astype(np.uint64) << np.uint64(32), np.diff(starts)) + rows
        return bool(
            np.all(terms[1:] > terms[:-1])
            and np.all(order[1:] > order[:-1])
            and (not len(rows) or rows.max() < documents)
            and np.isfinite(weights).all()
        )


class _Snapshot(NamedTuple):
    """What a search sees. Immutable, except that the two lists may grow beyond ``rows``."""

    runs: tuple[_Run, ...]
    alive: "NDArray[np.bool_] | None"
    ids: Sequence[str]
    metadata: Sequence[Mapping[str, Any]]
    rows: int

    def scores(self, query: SparseVector, *, idf: bool) -> "tuple[NDArray[np.intp], NDArray[np.float64], _Shares]":
        """Rows, ascending, that have a term of the query, their scores, and what each posting adds to them."""
        wanted = _Waiting.of([query])
        factors = wanted.weights.astype(np.float64)
        numbers: list[int] = []  # of the query's terms, one per slice
        rows: list[NDArray[np.uint32]] = []
        weights: list[NDArray[np.float32]] = []
        for run in self.runs:
            places = np.searchsorted(run.terms, wanted.terms)
            places[places == len(run.terms)] = 0
            there = np.flatnonzero(run.terms[places] == wanted.terms)
            places = places[there]
            numbers += there.tolist()
            for start, end in zip(run.starts[places].tolist(), run.starts[places + 1].tolist(), strict=True):
                rows.append(run.rows[start:end])
                weights.append(run.weights[start:end])
        if not numbers:
            return _NONE, np.empty(0), _Shares(query, [], _NONE, _NONE, np.empty(0))
        row: NDArray[np.intp] = np.concatenate(rows, dtype=np.intp)
        weight: NDArray[np.float64] = np.concatenate(weights, dtype=np.float64)
        lengths = np.array([len(part) for part in rows])
        if idf:
            living = lengths if self.alive is None else np.add.reduceat(self.alive[row], lengths.cumsum() - lengths)
            frequencies = np.bincount(numbers, living, minlength=len(factors))
            documents = self.rows if self.alive is None else np.count_nonzero(self.alive)
            factors *= np.log1p((documents - frequencies + 0.5) / (frequencies + 0.5))
        weight *= np.repeat(factors[numbers], lengths)
        totals = np.bincount(row, weight).astype(
            np.float64, copy=False
        )  # it is float64 already; numpy's stub says intp
        if weight.min() > 0:
            touched = totals > 0  # three times as fast as marking rows; with weights of both signs a sum may be 0
        else:
            touched = np.zeros(len(totals), np.bool_)
            touched[row] = True
        if self.alive is not None:
            touched &= self.alive[: len(touched)]
        found = np.flatnonzero(touched)
        return found, totals[found], _Shares(query, numbers, lengths, row, weight)

    def hits(
        self,
        ranked: Iterable[tuple[int, float]],
        accepts: Callable[[Mapping[str, Any]], object] | None,
        shares: "_Shares | None",
    ) -> Iterator[Hit]:
        for row, score in ranked:
            if accepts is None or accepts(self.metadata[row]):
                terms = None if shares is None else shares.of(row)
                yield Hit(self.ids[row], score, self.metadata[row], terms)


class _Shares(NamedTuple):
    """What each posting of the query's terms adds to its row's score: slices one after another."""

    query: SparseVector
    numbers: list[int]  # of the query's terms, one per slice
    lengths: "NDArray[np.intp]"  # of the slices
    rows: "NDArray[np.intp]"
    values: "NDArray[np.float64]"

    def of(self, row: int) -> SparseVector:
        at = np.flatnonzero(self.rows == row)  # all in one run, so the terms are ascending
        numbers = np.repeat(self.numbers, self.lengths)[at].tolist()
        indices, tokens = self.query.indices, self.query.tokens
        return SparseVector.from_pairs(
            [indices[number] for number in numbers],
            self.values[at].tolist(),
            None if tokens is None else [tokens[number] for number in numbers],
        )


def _run(terms: "NDArray[np.uint32]", rows: "NDArray[np.uint32]", weights: "NDArray[np.float32]") -> _Run:
    order = np.argsort(terms, kind="stable")  # stable: rows are ascending already; fast on sorted parts
    terms = terms[order]
    firsts = np.flatnonzero(np.diff(terms.astype(np.int64), prepend=-1))
    return _Run(terms[firsts], np.append(firsts, len(terms)), rows[order], weights[order])


def _merge(runs: Sequence[_Run], alive: "NDArray[np.bool_] | None" = None) -> _Run:
    """One run of all; with ``alive``, without deleted rows, and the others renumbered."""
    terms = np.concatenate([np.empty(0, np.uint32), *(np.repeat(run.terms, np.diff(run.starts)) for run in runs)])
    rows = np.concatenate([np.empty(0, np.uint32), *(run.rows for run in runs)])
    weights = np.concatenate([np.empty(0, np.float32), *(run.weights for run in runs)])
    if alive is not None:
        live = alive[rows]
        new_rows = (np.cumsum(alive) - 1).astype(np.uint32)
        terms, rows, weights = terms[live], new_rows[rows[live]], weights[live]
    return _run(terms, rows, weights)


def _runs(run: _Run) -> tuple[_Run, ...]:
    return (run,) if len(run.rows) else ()


def _list_ids(ids: Iterable[str]) -> list[str]:
    if isinstance(ids, str):
        raise ConfigurationError("a list of ids is needed, not one str: for one id pass [id]")
    ids = list(ids)
    for at, key in enumerate(ids):
        if not isinstance(key, str):
            raise ConfigurationError(f"id {at} is {type(key).__name__}, not str")
    return ids


def _json(key: str, fields: Mapping[str, Any]) -> str:
    try:
        return json.dumps(fields)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"metadata of {key!r} cannot be saved: {error}") from None
