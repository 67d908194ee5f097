"""Chroma: a sparse encoder as the embedding function of a collection, stored with it and found again by name.

Chroma stores the name of a collection's function and its settings, without the key. Importing this module registers the
function with chromadb. **Import it in every process that opens such a collection**: chromadb 1.5 cannot discover
functions, and for an unknown one it warns once and writes documents without sparse vectors. To make that an error::

    warnings.filterwarnings("error", message="Could not reconstruct sparse embedding function")

Sparse indexes exist in Chroma Cloud only.
"""

import json
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sparse_embed.convert import convert_all, to_chroma
from sparse_embed.encoder import ProviderOptions, SparseEncoder
from sparse_embed.errors import ConfigurationError
from sparse_embed.extras import requires
from sparse_embed.stores.chroma_search import SPARSE_KEY
from sparse_embed.texts import list_texts

with requires("chromadb", "chroma"):
    from chromadb import K, Schema, SparseVector, SparseVectorIndexConfig, VectorIndexConfig
    from chromadb.api.types import Documents, SparseEmbeddingFunction
    from chromadb.errors import InvalidArgumentError
    from chromadb.utils.embedding_functions import register_sparse_embedding_function

if TYPE_CHECKING:
    from chromadb import Collection, CollectionMetadata, EmbeddingFunction
    from chromadb.api import ClientAPI

# The settings that determine a vector. No other setting is read from a stored configuration: somebody with write access
# to the database must not choose a cache file, or permit sending a key in the clear.
STORED = frozenset({"provider", "model", "base_url", "return_tokens", *ProviderOptions.__annotations__})


# Live encoders of this process, by their settings as JSON text.
_given: WeakValueDictionary[str, SparseEncoder] = WeakValueDictionary()


@lru_cache(maxsize=64)
def _build_encoder(settings: str) -> SparseEncoder:
    config = json.loads(settings)
    if foreign := sorted(config.keys() - STORED):
        raise ConfigurationError(
            f"the settings stored in Chroma have options that this version does not accept: {foreign}"
        )
    return SparseEncoder.from_config(config)


@register_sparse_embedding_function
class EncoderFunction(SparseEmbeddingFunction[Documents]):
    """A `SparseEncoder` as chromadb's sparse embedding function: for `open_collection`, or `SparseVectorIndexConfig`.

    chromadb 1.5 rebuilds the function from its stored settings for every ``add`` and every search. As long as the given
    encoder exists, these use it, with its connections, cache and key. In another process, or later, an encoder is built
    from the settings, and its key comes from the environment.
    """

    def __init__(self, encoder: SparseEncoder) -> None:
        """Remember the encoder by its settings.

        Raises:
            ConfigurationError: Another encoder exists with these settings and another key. chromadb could not tell them
                apart, and would send one owner's texts with the other's key.
        """
        self._encoder: SparseEncoder | None = encoder
        self._settings = json.dumps(_describe(encoder), sort_keys=True)
        other = _given.get(self._settings, encoder)
        if other._settings.api_key != encoder._settings.api_key:
            raise ConfigurationError(
                "another encoder with these settings and another key is in use with Chroma in this process; Chroma "
                "stores settings without keys, and could not tell the two apart"
            )
        _given[self._settings] = encoder

    def __repr__(self) -> str:
        config = self.get_config()
        return f"{type(self).__name__}({config.get('provider')!r}, model={config.get('model')!r})"

    def __call__(self, input: Documents) -> list[SparseVector]:  # noqa: A002  # chromadb checks the name
        """Vectors of documents, one per text, in order; a blank text has the empty vector.

        Raises:
            ConfigurationError: There is no key, or the stored settings cannot work.
            SparseEmbedError: The vectors could not be obtained.
        """
        return convert_all(to_chroma, self._find_encoder().embed_documents(input))

    def embed_query(self, input: Documents) -> list[SparseVector]:  # noqa: A002  # chromadb passes it by name
        """Vectors of queries, one per text, in order, with one request per query."""
        return [to_chroma(self._find_encoder().embed_query(text)) for text in list_texts(input)]

    @staticmethod
    def name() -> str:
        """The name under which chromadb stores and finds this function."""
        return "sparse_embed"

    def get_config(self) -> dict[str, Any]:
        """The settings that determine a vector; never a key."""
        config: dict[str, Any] = json.loads(self._settings)
        return config

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "EncoderFunction":
        """Build from stored settings. They are checked when a vector is computed.

        (chromadb 1.5 turns an error here into a warning, and continues without sparse vectors.)
        """
        function = object.__new__(EncoderFunction)
        function._encoder = None
        function._settings = json.dumps(config, sort_keys=True)
        return function

    def _find_encoder(self) -> SparseEncoder:
        if self._encoder is None:
            self._encoder = _given.get(self._settings) or _build_encoder(self._settings)
        return self._encoder


def _describe(encoder: SparseEncoder) -> dict[str, Any]:
    """Settings that differ from their defaults, so that a later version with more settings stores the same."""
    provider = encoder._provider
    config: dict[str, Any] = {"provider": provider.name, "model": provider.model}
    if encoder._settings.base_url is not None:
        config["base_url"] = encoder._settings.base_url
    for field in fields(provider):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(provider, field.name)
        if field.name in STORED and value != default:
            config[field.name] = value
    return config


def open_collection(
    client: "ClientAPI",
    name: str,
    function: EncoderFunction,
    *,
    sparse_key: str = SPARSE_KEY,
    dense: "EmbeddingFunction[Any] | None" = None,
    metadata: "CollectionMetadata | None" = None,
) -> "Collection":
    """Open a collection with a sparse index over its documents, or create it.

    Args:
        client: A ``chromadb.CloudClient``.
        name: The collection's name.
        function: Gives the sparse vectors.
        sparse_key: The metadata key that holds them.
        dense: chromadb's function for dense vectors. None: each document is added with its dense vector, as both
            frameworks' stores do.
        metadata: Of the collection, when it is created.

    Raises:
        ConfigurationError: The client is not of Chroma Cloud, or the collection exists with another sparse index.
    """
    index = SparseVectorIndexConfig(embedding_function=function, source_key=K.DOCUMENT)
    schema = Schema().create_index(config=VectorIndexConfig(embedding_function=dense))
    schema = schema.create_index(config=index, key=sparse_key)
    refused = False
    try:
        collection = client.get_or_create_collection(name, schema=schema, embedding_function=None, metadata=metadata)
    except InvalidArgumentError as error:  # chromadb 1.5 gives it no own class or code, only these words
        refused = "not enabled in local" in str(error)
        if not refused:
            raise
    if refused:
        raise ConfigurationError(
            "sparse indexes exist in Chroma Cloud only, and this is a self-hosted Chroma: open it with "
            "chromadb.CloudClient, keep the vectors in a store that has sparse search here (Qdrant, Milvus), or in "
            "this process with SparseRetriever"
        )
    found = _function_of(collection, sparse_key)
    if found is None or found.get_config() != function.get_config():  # chromadb ignores the schema of an existing one
        has = f"has {found.get_config()}" if found else "is missing, or has another function"
        raise ConfigurationError(f"the collection {name} exists, and its sparse index {sparse_key} {has}")
    return collection


def _function_of(collection: "Collection", sparse_key: str) -> EncoderFunction | None:
    values = collection.schema.keys.get(sparse_key) if collection.schema else None
    index = values.sparse_vector.sparse_vector_index if values and values.sparse_vector else None
    function = index.config.embedding_function if index and index.enabled else None
    return function if isinstance(function, EncoderFunction) else None
