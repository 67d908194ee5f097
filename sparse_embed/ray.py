"""Embeds a dataset of Ray Data, with one rate limit for all actors.

`EmbedBatch` adds columns of vectors, and `map_options` gives ``Dataset.map_batches`` the options with which it is
fast. `RayRateLimiter` lets all actors of a cluster share one limit. Leaves scheduling and retries of whole batches to
Ray.
"""

import asyncio
import math
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from sparse_embed.arrow import to_arrow
from sparse_embed.encoder import DenseEncoder, SparseEncoder
from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.locks import ForkSafeLock
from sparse_embed.options import check_count
from sparse_embed.providers import read_config
from sparse_embed.settings import Secret, check_kind

with requires("ray", "ray"):
    import ray
with requires("pyarrow", "ray"):
    import pyarrow as pa
    import ray.data
    from ray.exceptions import RayActorError

T = TypeVar("T")
Config = str | Mapping[str, Any]
CALLS_PER_ACTOR: Final = 4  # so that an actor reads and writes blocks while others wait for the provider
CPUS_PER_ACTOR: Final = 0.25  # it mostly waits
MOST_DEATHS: Final = 20  # of actors that one limiter outlives: a cluster in which they cannot start is no endless loop
NAMESPACE: Final = "sparse-embed"  # of all limiters in a cluster, so that jobs share them too


class EmbedBatch:
    """Adds the vectors of a column of texts to each batch: a class for ``Dataset.map_batches``.

    The new columns are ``sparse``, ``struct<indices: list<uint32>, values: list<float32>>``, and ``dense``,
    ``list<float32>``; each only if it is configured. `sparse_embed.convert.from_arrow` reads the first. A text that is
    missing or blank has null in both, and is not sent.

    Example:
        >>> import ray
        >>> from sparse_embed.ray import EmbedBatch, map_options
        >>> documents = ray.data.read_parquet("documents.parquet")  # doctest: +SKIP
        >>> documents.map_batches(EmbedBatch, **map_options("pinecone")).write_parquet("vectors")  # doctest: +SKIP
    """

    def __init__(self, sparse: Config | None = None, dense: Config | None = None, text: str = "text") -> None:
        """Check the settings; nothing is sent.

        Args:
            sparse: What `SparseEncoder.from_config` takes. Without a key in it, each actor looks up the key in its own
                environment.
            dense: What `DenseEncoder.from_config` takes.
            text: The column of texts.

        Raises:
            ConfigurationError: Neither is given, or a setting cannot work.
        """
        if sparse is None and dense is None:
            raise ConfigurationError("sparse, dense or both must be configured")
        encoders: dict[str, SparseEncoder | DenseEncoder] = {}
        if sparse is not None:
            encoders["sparse"] = self._sparse = SparseEncoder.from_config(sparse)
        if dense is not None:
            encoders["dense"] = self._dense = DenseEncoder.from_config(dense)
        self._names = list(encoders)
        self._busy = max(one._batch_size * one._settings.max_concurrency for one in encoders.values())
        self._text = text
        self._rows = self._rows_now = self._most_rows = 0

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its vectors.

        Raises:
            ConfigurationError: There is no column of texts, or the batch has a column of vectors already.
            SparseEmbedError: A vector could not be obtained.
        """
        texts = self._texts(batch)
        self._rows_now += len(texts)
        self._most_rows = max(self._most_rows, self._rows_now)
        columns = {"sparse": self._sparse_column, "dense": self._dense_column}
        tasks = [asyncio.ensure_future(columns[name](texts)) for name in self._names]
        try:
            for name, column in zip(self._names, await asyncio.gather(*tasks), strict=True):
                batch = batch.append_column(name, column)
        finally:
            self._rows_now -= len(texts)
            for task in tasks:  # when one of two has failed, the other must not go on
                task.cancel()
        self._warn_if_idle(len(texts))
        return batch

    async def _sparse_column(self, texts: list[str | None]) -> pa.Array:
        return to_arrow(_spread(texts, await self._sparse.aembed_documents(_present(texts))))

    async def _dense_column(self, texts: list[str | None]) -> pa.Array:
        return pa.array(_spread(texts, await self._dense.aembed_documents(_present(texts))), pa.list_(pa.float32()))

    def _texts(self, batch: pa.Table) -> list[str | None]:
        names = batch.column_names
        if self._text not in names:
            raise ConfigurationError(f"no column {self._text!r} with texts: there are {', '.join(names)}")
        for name in self._names:
            if name in names:
                raise ConfigurationError(f"the dataset already has a column {name!r}: rename or drop it")
        kind = batch.schema.field(self._text).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise ConfigurationError(f"the column {self._text!r} must hold texts, not {kind}")
        texts: list[str | None] = batch.column(self._text).to_pylist()
        return texts

    def _warn_if_idle(self, rows: int) -> None:
        before, self._rows = self._rows, self._rows + rows
        if before < self._busy <= self._rows and 2 * self._most_rows < self._busy:
            warnings.warn(
                f"this actor had at most {self._most_rows} rows at the same time, and needs {self._busy} to keep its "
                "max_concurrency requests busy: use map_options(), or repartition the dataset into blocks of at least "
                f"{self._busy} rows",
                stacklevel=2,
            )


def map_options(
    sparse: Config | None = None, dense: Config | None = None, *, text: str = "text", actors: int = 1
) -> dict[str, Any]:
    """The arguments of ``Dataset.map_batches`` with which `EmbedBatch` is fast.

    Other arguments, such as ``runtime_env``, can be given beside them.

    Args:
        sparse: As in `EmbedBatch`. A key given as ``api_key`` travels in Ray's object store; no log shows it.
        dense: As in `EmbedBatch`.
        text: As in `EmbedBatch`.
        actors: Number of actors. One sends as much as one process does; more need `RayRateLimiter` where the provider
            limits the rate.

    Raises:
        ConfigurationError: A setting cannot work: seen here, before an actor starts.
    """
    check_count("actors", actors)
    batch_size = EmbedBatch(sparse, dense, text)._busy
    return {
        "fn_constructor_kwargs": {"sparse": _mask(sparse), "dense": _mask(dense), "text": text},
        "batch_size": batch_size,
        "batch_format": "pyarrow",
        "compute": ray.data.ActorPoolStrategy(size=actors, max_concurrent_calls_per_actor=CALLS_PER_ACTOR),
        "num_cpus": CPUS_PER_ACTOR,
        "udf_modifying_row_count": False,
    }


def _mask(config: Config | None) -> Config | None:
    """Ray writes the repr of constructor arguments where it describes a dataset: a key must not show in it."""
    if config is None or isinstance(config, str):
        return config
    given = read_config(config)
    return given | {"api_key": Secret(given["api_key"])} if isinstance(given.get("api_key"), str) else given


def _present(texts: list[str | None]) -> list[str]:
    return [text for text in texts if text and not text.isspace()]


def _spread(texts: list[str | None], vectors: Iterable[T]) -> list[T | None]:
    """One per text, None for those that are not present."""
    rest = iter(vectors)
    return [next(rest) if text and not text.isspace() else None for text in texts]


class _Turns:
    """The actor behind `RayRateLimiter`: gives out turns, one after another."""

    def __init__(self) -> None:
        self._next = 0.0

    async def take(self, gap: float, blocking: bool) -> bool:
        """Wait for a turn; `gap` seconds later comes the next one. Not blocking: take it only if it is now."""
        now = asyncio.get_running_loop().time()
        start = max(self._next, now)
        if not blocking and start > now:
            return False
        self._next = start + gap
        await asyncio.sleep(start - now)
        return True


class RayRateLimiter:
    """Starts at most so many requests per second, over all encoders in a Ray cluster that use its name.

    An actor of that name gives out the turns. It is created by the first process that hands the limiter to others, or
    uses it, and ends with it; then another process creates the next one.

    Example:
        >>> limiter = RayRateLimiter(20, name="chroma")
        >>> documents.map_batches(
        ...     EmbedBatch, **map_options({"provider": "chroma", "rate_limiter": limiter}, actors=8)
        ... )  # doctest: +SKIP
    """

    def __init__(self, requests_per_second: float, *, name: str = "requests") -> None:
        """Nothing is started.

        Args:
            requests_per_second: What the provider allows, in all.
            name: Limiters of one name share one limit: use one name for each account.

        Raises:
            ConfigurationError: The number is not positive, or the name is empty.
        """
        check_kind("requests_per_second", requests_per_second, int, float)
        if not 0 < requests_per_second < math.inf:
            raise ConfigurationError(f"requests_per_second must be positive, not {requests_per_second}")
        check_kind("name", name, str)
        if not name:
            raise ConfigurationError("name must not be empty")
        self._requests_per_second, self._name = requests_per_second, name
        self._gap = 1 / requests_per_second
        self._lock = ForkSafeLock()
        self._actor: Any = None
        self._deaths = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._requests_per_second}, name={self._name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if ray.is_initialized():
            self._find()  # so that the actor lives as long as the process that hands the limiter out
        return partial(type(self), name=self._name), (self._requests_per_second,)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait for a turn. Not blocking: take one only if there is one now, and return whether there was.

        Raises:
            ConfigurationError: This process is not connected to Ray.
        """
        while True:
            actor = self._find()
            try:
                return bool(ray.get(actor.take.remote(self._gap, blocking)))
            except RayActorError as error:
                self._forget(actor, error)

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Like `acquire`, on the running event loop."""
        while True:
            actor = self._find()
            try:
                return bool(await actor.take.remote(self._gap, blocking))
            except RayActorError as error:
                self._forget(actor, error)

    def _find(self) -> Any:  # noqa: ANN401  # Ray's handle of a `_Turns`
        """The actor: the one that is known here, else the one of this name, else a new one."""
        if not ray.is_initialized():  # where Ray would start a cluster of its own
            raise ConfigurationError("RayRateLimiter needs a running Ray: call ray.init() first")
        with self._lock:
            if self._actor is None:
                actors = ray.remote(num_cpus=0)(_Turns)
                self._actor = actors.options(name=self._name, namespace=NAMESPACE, get_if_exists=True).remote()
            return self._actor

    def _forget(self, actor: Any, error: Exception) -> None:  # noqa: ANN401  # as above
        """An actor ends with the process that created it: the next turn comes from a new one, unless that fails too."""
        with self._lock:
            if self._actor is actor:
                self._actor = None
                self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise error
