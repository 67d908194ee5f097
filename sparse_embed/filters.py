"""Filters by metadata of the retrievers in this process."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sparse_embed.errors import ConfigurationError

Predicate = Callable[[Mapping[str, Any]], object]
Filter = Predicate | Mapping[str, Any]
LOGICAL: Final = ("$and", "$or", "$nor", "$not")  # other fields may begin with $, such as $id of JSON Schema


def to_predicate(accepted: Filter) -> Predicate:
    """A filter as a function of a document's metadata.

    Args:
        accepted: Such a function, or the values that fields must equal.

    Raises:
        ConfigurationError: Neither, or a mapping with operators.
    """
    if callable(accepted):
        return accepted
    if not isinstance(accepted, Mapping):
        raise ConfigurationError(
            "filter must be a function of the metadata, or a mapping of fields to the values that they must equal, not "
            f"{type(accepted).__name__}"
        )
    for name, value in accepted.items():
        compared = value if isinstance(value, Mapping) else {}
        operator = name if name in LOGICAL else next((key for key in compared if str(key).startswith("$")), None)
        if operator is not None:
            raise ConfigurationError(
                f"filter has the operator {operator!r}, and a mapping only compares for equality: pass a function "
                "of the metadata, such as lambda metadata: metadata['year'] > 2000"
            )
    wanted = accepted.items()
    return lambda metadata: all(name in metadata and metadata[name] == value for name, value in wanted)
