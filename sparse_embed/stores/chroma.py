"""Chroma: a sparse encoder as the embedding function of a collection, stored with it and found again by name.

Chroma stores which function a collection has, and its settings; the key is not among them. Importing this module makes
the function known to chromadb. **Import it in every process that opens such a collection**: chromadb 1.5 has no way to
find a function by itself, and for one that it does not know it gives one warning and writes documents without sparse
vectors. To make that an error wherever it may happen::

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

# What decides a vector. Nothing else is taken from a stored configuration: whoever may write to the database must not
# choose a file for the cache, or whether a key travels in the clear.
STORED = frozenset({"provider", "model", "base_url", "return_tokens", *ProviderOptions.__annotations__})


# Encoders that live in this process, and what is built from stored settings, by those settings as JSON text.
_given: WeakValueDictionary[str, SparseEncoder] = WeakValueDictionary()


@lru_cache(maxsize=64)
def _rebuilt(settings: str) -> SparseEncoder:
    config = json.loads(settings)
    if foreign := sorted(config.keys() - STORED):
        raise ConfigurationError(f"the settings stored in Chroma hold what this version does not take: {foreign}")
    return SparseEncoder.from_config(config)


@register_sparse_embedding_function
class EncoderFunction(SparseEmbeddingFunction[Documents]):
    """A `SparseEncoder` as chromadb's sparse embedding function: for `open_collection`, or `SparseVectorIndexConfig`.

    chromadb 1.5 builds the function anew from its stored settings for every ``add`` and every search. As long as the
    encoder given here lives, these use it: its connections, its cache, its key. In another process, or later, an
    encoder is built from the settings, and its key comes from the environment.
    """

    def __init__(self, encoder: SparseEncoder) -> None:
        """Remember the encoder by its settings.

        Raises:
            ConfigurationError: Another encoder lives that has these settings and another key. chromadb could not tell
                them apart, and would send one owner's texts with the other's key.
        """
        self._encoder: SparseEncoder | None = encoder
        self._settings = json.dumps(_stored(encoder), sort_keys=True)
        other = _given.get(self._settings, encoder)
        if other._settings.api_key != encoder._settings.api_key:
            raise ConfigurationError(
                "another encoder with these settings and another key is in use with Chroma in this process; Chroma "
                "stores settings without keys, and could not tell the two apart"
            )
        _given[self._settings] = encoder

    def __call__(self, input: Documents) -> list[SparseVector]:  # noqa: A002  # chromadb checks the name
        """Vectors of documents, one a text, in order; a blank text has the empty vector.

        Raises:
            ConfigurationError: There is no key, or the stored settings cannot work.
            SparseEmbedError: The vectors cannot be had.
        """
        return convert_all(to_chroma, self._find_encoder().embed_documents(input))

    def embed_query(self, input: Documents) -> list[SparseVector]:  # noqa: A002  # chromadb passes it by name
        """Vectors of queries, one a text, in order, with one request a query."""
        return [to_chroma(self._find_encoder().embed_query(text)) for text in list_texts(input)]

    @staticmethod
    def name() -> str:
        """The name under which chromadb stores and finds this function."""
        return "sparse_embed"

    def get_config(self) -> dict[str, Any]:
        """What decides a vector, and never a key."""
        config: dict[str, Any] = json.loads(self._settings)
        return config

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "EncoderFunction":
        """Build from stored settings. What is wrong with them is said when a vector is asked for.

        (chromadb 1.5 turns an error here into a warning, and goes on without sparse vectors.)
        """
        function = object.__new__(EncoderFunction)
        function._encoder = None
        function._settings = json.dumps(config, sort_keys=True)
        return function

    def _find_encoder(self) -> SparseEncoder:
        if self._encoder is None:
            self._encoder = _given.get(self._settings) or _rebuilt(self._settings)
        return self._encoder


def _stored(encoder: SparseEncoder) -> dict[str, Any]:
    """Settings that differ from their defaults, so that a later version, with more of them, stores the same."""
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
        dense: chromadb's function for dense vectors. None: who adds a document brings its vector, as both frameworks'
            stores do.
        metadata: Of the collection, when it is created.

    Raises:
        ConfigurationError: The client is not of Chroma Cloud, or there is such a collection with another sparse index.
    """
    index = SparseVectorIndexConfig(embedding_function=function, source_key=K.DOCUMENT)
    schema = Schema().create_index(config=VectorIndexConfig(embedding_function=dense))
    schema = schema.create_index(config=index, key=sparse_key)
    refused = False
    try:
        collection = client.get_or_create_collection(name, schema=schema, embedding_function=None, metadata=metadata)
    except InvalidArgumentError as error:  # chromadb 1.5 has no class or code of its own for it, only these words
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
    if found is None or found.get_config() != function.get_config():  # chromadb takes an existing one as it is
        has = f"has {found.get_config()}" if found else "is missing, or has another function"
        raise ConfigurationError(f"the collection {name} exists, and its sparse index {sparse_key} {has}")
    return collection


def _function_of(collection: "Collection", sparse_key: str) -> EncoderFunction | None:
    values = collection.schema.keys.get(sparse_key) if collection.schema else None
    index = values.sparse_vector.sparse_vector_index if values and values.sparse_vector else None
    function = index.config.embedding_function if index and index.enabled else None
    return function if isinstance(function, EncoderFunction) else None
