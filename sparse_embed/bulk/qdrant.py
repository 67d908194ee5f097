"""A Qdrant collection as a target: named vectors, and ids that a repeated run would give again.

Decides how rows become points. What is in the collection is not embedded again.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from sparse_embed.bulk.layouts import Embedded, Layout
from sparse_embed.bulk.pipeline import Item
from sparse_embed.bulk.report import Report
from sparse_embed.bulk.sources import BadRow, Row, Scan
from sparse_embed.convert import to_qdrant
from sparse_embed.errors import ConfigurationError, SparseEmbedError
from sparse_embed.extras import requires
from sparse_embed.settings import Kind

ASKED_AT_ONCE: Final = 1000  # ids
POINTS: Final = 256  # per request: under Qdrant's 32 MB with dense vectors of 4,096 values and 500 terms
LARGEST_ID: Final = 2**64 - 1


class QdrantTarget:
    """A collection.

    Args:
        target: ``qdrant:URL/COLLECTION``; instead of a URL, a folder for Qdrant's local mode.
        layout: Must be the plain one.
        kinds: Kinds of vectors.

    Raises:
        ConfigurationError: No such address, or another layout.
        ImportError: qdrant-client is not installed.
    """

    typed = False
    own_files: Sequence[Path] = ()

    def __init__(self, target: str, layout: Layout, kinds: Sequence[Kind]) -> None:
        with requires("qdrant-client", "qdrant"):
            from qdrant_client import QdrantClient
        place, _, self._collection = target.removeprefix("qdrant:").rpartition("/")
        if not place or not self._collection:
            raise ConfigurationError(f"{target}: a store is named qdrant:URL/COLLECTION")
        if layout.name != "plain":
            raise ConfigurationError(f"the layout {layout.name!r} is for files")
        self._kinds, self._place = kinds, place
        self._settings: dict[str, Any] = {}
        self._exists = False
        with self._named_errors():
            if "://" in place:
                self._client = QdrantClient(place, api_key=os.environ.get("QDRANT_API_KEY"))
            else:
                self._client = QdrantClient(path=place)
