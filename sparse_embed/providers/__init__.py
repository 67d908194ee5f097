"""The providers by name, and how one is made from an encoder's options."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Final, get_args, get_origin

from pydantic_core import to_json

from sparse_embed.errors import ConfigurationError
from sparse_embed.options import unknown_option
from sparse_embed.providers.base import Provider
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone
from sparse_embed.quota import Quota
from sparse_embed.settings import Kind, check_kind

PROVIDERS: Mapping[str, type[Provider]] = {provider.name: provider for provider in (Chroma, Pinecone)}
ONE_KIND_ONLY: Final[Mapping[str, Kind]] = {
    "return_tokens": "sparse",
    "max_tokens_per_sequence": "sparse",
    "dimension": "dense",
}
IN_HEADERS: Final = ("model", "query_model", "api_version")


def provider_named(name: str) -> type[Provider]:
    """The provider's class.

    Raises:
        ConfigurationError: There is none of this name.
    """
    provider = PROVIDERS.get(name) if isinstance(name, str) else None
    if provider is None:
        raise ConfigurationError(f"unknown provider {name!r}: choose one of {', '.join(PROVIDERS)}")
    return provider


def owner_of(option: str) -> str | None:
    """The provider that has this option, and for which kind of vector; None if there is none."""
    owners = [provider for provider in PROVIDERS.values() if option in {field.name for field in fields(provider)}]
    if not owners or option in ("kind", "model"):
        return None
    kind = ONE_KIND_ONLY.get(option)
    who = "both providers" if len(owners) == len(PROVIDERS) else owners[0].title
    return f"{who}, for {kind} vectors" if kind else who


def read_config(config: str | Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's arguments from ``"provider"``, ``"provider:model"``, or a mapping of them, as a file holds it.

    In a file, ``quota`` is a mapping of the arguments of `Quota`.

    Raises:
        ConfigurationError: It is something else, names no provider, or has a wrong quota.
    """
    if isinstance(config, str):
        provider, model = split_model(config, None)
        return {"provider": provider, "model": model} if model else {"provider": provider}
    if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
        raise ConfigurationError('a configuration is "provider:model", or a mapping with names for its keys')
    if "provider" not in config:
        raise ConfigurationError("the configuration names no provider")
    arguments = dict(config)
    quota = arguments.get("quota")
    if quota is not None and not isinstance(quota, Quota):
        arguments["quota"] = Quota.from_mapping(quota)
    return arguments


def split_model(provider: str, model: str | None) -> tuple[str, str | None]:
    """Provider and model from ``"provider"`` or ``"provider:model"``.

    Raises:
        ConfigurationError: The model is given twice.
    """
    if not isinstance(provider, str) or ":" not in provider:
        return provider, model
    if model is not None:
        raise ConfigurationError(f"the model is given twice: in {provider!r} and as model={model!r}")
    provider, _, model = provider.partition(":")
    return provider, model


def make_provider(
    name: str,
    kind: Kind,
    model: str | None,
    return_tokens: bool,
    options: Mapping[str, Any],
    *,
    settings: Iterable[str] = (),
) -> Provider:
    """Choose the provider and check its options; `settings` are the encoder's own, for suggestions.

    Raises:
        ConfigurationError: An unknown provider, an option that this provider does not have, a model that cannot be one.
    """
    provider = provider_named(name)
    known = {option.name for option in fields(provider)} - {"kind", "model", "return_tokens"}
    for option in options:
        if option not in known:
            raise unknown_option(provider.title, option, known.union(settings), elsewhere=owner_of(option))
    model = provider.default_models[kind] if model is None else model
    given = {**options, "model": model, "return_tokens": return_tokens}
    for declared in fields(provider):
        if declared.name in given:
            _check_option(declared.name, given[declared.name], declared.type)
    for option, only in provider.only_for.items():
        if given.get(option) and only != kind:
            raise ConfigurationError(f"{option} is an option for {only} vectors, and this encoder gives {kind} ones")
    return provider(kind=kind, **given)


def _check_option(name: str, value: Any, declared: Any) -> None:  # noqa: ANN401  # of any type
    kinds = get_args(declared) if isinstance(declared, UnionType) else (get_origin(declared) or declared,)
    check_kind(name, value, *kinds)
    if name in IN_HEADERS and value is not None and not (value and value.isascii() and value.isprintable()):
        raise ConfigurationError(f"{name} must be printable ASCII and not empty: it goes into a header")
    try:
        to_json(dict(value) if isinstance(value, Mapping) else value)
    except ValueError:
        raise ConfigurationError(
            f"{name} cannot be written as JSON: use valid Unicode, numbers, lists and mappings"
        ) from None
