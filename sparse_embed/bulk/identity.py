"""Whether a target was begun with the settings and the source of this run; the errors say what differs."""

from collections.abc import Mapping
from typing import Any

from sparse_embed.errors import ConfigurationError


def refuse_other_settings(target: object, begun: Mapping[str, Any], now: Mapping[str, Any], again: str) -> None:
    """Refuse settings that differ from those that a target was begun with.

    Args:
        target: Its name.
        begun: Its settings.
        now: Settings of this run.
        again: How to go on, or to start anew.

    Raises:
        ConfigurationError: The message names each that differs.
    """
    before, after = _flatten(begun), _flatten(now)
    differing = [
        f"{name} was {before.get(name)!r} and is now {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if differing:
        raise ConfigurationError(f"{target} was begun with other settings: {'; '.join(differing)}. {again}")


def refuse_other_engines(target: object, known: Mapping[str, str], now: Mapping[str, str], again: str) -> None:
    """Refuse engines of local providers that differ from those of earlier rows, as far as both are known.

    Raises:
        ConfigurationError: The message names each that differs.
    """
    refuse_other_settings(target, {"engine": {**now, **known}}, {"engine": {**known, **now}}, again)


def refuse_other_source(target: object, begun: Mapping[str, Any], now: Mapping[str, Any], again: str) -> None:
    """Refuse a source that differs from the one that a target was begun with.

    Raises:
        ConfigurationError: Its rows or its fingerprint differ.
    """
    if begun != now:
        raise ConfigurationError(
            f"{target} was begun with another source: it had {begun['rows']:,} rows and the fingerprint "
            f"{begun['fingerprint']}, and now has {now['rows']:,} rows and {now['fingerprint']}. {again}"
        )


def leaves_idf_to_the_store(*names: str | None) -> bool:
    """Whether the weight of rare words is missing from such vectors: it is from BM25's, not from learned models'."""
    return any("bm25" in (name or "").lower() for name in names)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
