"""Embeds a dataset of Ray Data: `EmbedBatch` adds columns of vectors, and `map_options` makes it fast.

Leaves scheduling, and what happens to the blocks of an actor that dies, to Ray.
"""

import asyncio
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from sparse_embed.arrow import to_arrow
from sparse_embed.encoder import DenseEncoder, SparseEncoder
from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.options import check_count
from sparse_embed.providers import read_config
from sparse_embed.settings import Secret
from sparse_embed.texts import has_content

with requires("pyarrow", "ray"):
    import pyarrow as pa
    import ray.data

T = TypeVar("T")
Config = str | Mapping[str, Any]
CALLS_PER_ACTOR: Final = 4  # so that an actor reads and writes blocks while others wait for the provider
CPUS_PER_ACTOR: Final = 0.25  # it mostly waits


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
        return to_arrow(_spread(texts, await self._sparse.aembed_documents(list(filter(has_content, texts)))))

    async def _dense_column(self, texts: list[str | None]) -> pa.Array:
        return pa.array(
            _spread(texts, await self._dense.aembed_documents(list(filter(has_content, texts)))), pa.list_(pa.float32())
        )

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
    """Ray writes the repr of constructor arguments where it describes a dataset: no secret may show in it."""
    if config is None or isinstance(config, str):
        return config
    given = read_config(config)
    if isinstance(given.get("api_key"), str):
        given["api_key"] = Secret(given["api_key"])
    if given.get("default_headers"):
        given["default_headers"] = _Headers(given["default_headers"])
    return given


class _Headers(dict[str, str]):
    """Headers that do not show their values."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, "**********"))


def _spread(texts: list[str | None], vectors: Iterable[T]) -> list[T | None]:
    """One per text, None for a text without content."""
    rest = iter(vectors)
    return [next(rest) if has_content(text) else None for text in texts]
