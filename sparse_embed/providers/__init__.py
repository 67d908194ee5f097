"""The providers by name, and how one is made from an encoder's options."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from sparse_embed.errors import ConfigurationError
from sparse_embed.providers.base import Provider
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import Pinecone
from sparse_embed.settings import Kind, check_kind

PROVIDERS: Mapping[str, type[Provider]] = {provider.name: provider for provider in (Chroma, Pinecone)}


def provider_named(name: str) -> type[Provider]:
    """The provider's class.

    Raises:
        ConfigurationError: There is none of this name.
    """
    provider = PROVIDERS.get(name) if isinstance(name, str) else None
    if provider is None:
        raise ConfigurationError(f"unknown provider {name!r}: choose one of {', '.join(PROVIDERS)}")
    return provider


def read_config(config: str | Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's arguments from ``"provider"``, ``"provider:model"``, or a mapping of them, as a file holds it.

    Raises:
        ConfigurationError: It is something else, or names no provider.
    """
    if isinstance(config, str):
        provider, _, model = config.partition(":")
        return {"provider": provider, "model": model} if model else {"provider": provider}
    if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
        raise ConfigurationError('a configuration is "provider:model", or a mapping with names for its keys')
    if "provider" not in config:
        raise ConfigurationError("the configuration names no provider")
    return dict(config)


def make_provider(
    name: str, kind: Kind, model: str | None, return_tokens: bool, options: Mapping[str, Any]
) -> Provider:
    """Choose the provider and check its options.

    Raises:
        ConfigurationError: An unknown provider, an option that this provider does not have, a model that cannot be one.
    """
    provider = provider_named(name)
    known = {option.name for option in fields(provider)} - {"kind", "model", "return_tokens"}
    for option in options:
        if option not in known:
            close = get_close_matches(option, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ConfigurationError(
                f"{provider.title} has no option {option!r}{hint}; it has {', '.join(sorted(known))}"
            )
    check_kind("return_tokens", return_tokens, bool)
    model = provider.default_models[kind] if model is None else model
    if not isinstance(model, str) or not model or not model.isascii() or not model.isprintable():
        raise ConfigurationError(f"model must be a model's id, not {model!r}")
    return provider(kind=kind, model=model, return_tokens=return_tokens, **options)
