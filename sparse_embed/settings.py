"""Settings of an encoder: checked once, frozen, and the only place that looks at the environment.

Decides where a request may go and with which key. Leaves sending to ``transport``.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType
from typing import Final, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from sparse_embed.errors import ConfigurationError
from sparse_embed.options import check_count

Role = Literal["document", "query"]
Kind = Literal["sparse", "dense"]
# These, and names that end in ".localhost", get plain http: no more of 127.0.0.0/8 than can be kept from a proxy.
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

MAX_SECONDS: Final = 1_000_000  # the system waits for a socket in milliseconds of 32 bits: 24 days


class SupportsSecret(Protocol):
    """The shape of pydantic's ``SecretStr``."""

    def get_secret_value(self) -> str:
        """The secret."""
        ...


class Secret:
    """A text that does not show itself.

    Importing pydantic's own takes as long as the rest of this package.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """The secret."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('**********')"


class Endpoint(NamedTuple):
    """Where a provider lives and where its users keep their key."""

    base_url: str
    url_variable: str
    key_variable: str


class Route(NamedTuple):
    """What an error may say about where a request went and where its settings came from. It holds no secret.

    Attributes:
        origin: Scheme, host and port, such as ``http://127.0.0.1:8900``.
        url_source: The setting that the address came from, None for the provider's own address.
        key_source: The argument or variable that the key came from.
        loopback: Whether the host is this machine.
    """

    origin: str
    url_source: str | None
    key_source: str
    loopback: bool


UNKNOWN_ROUTE: Final = Route("an unknown address", None, "api_key", loopback=False)


class Address(NamedTuple):
    """Where to send and with which key. The key stays masked until the header is written."""

    base_url: str
    api_key: Secret
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How requests travel; the same for both providers. See `SparseEncoder` for the meaning of each."""

    api_key: Secret | None = None
    base_url: str | None = None
    batch_size: int | None = None
    max_concurrency: int = 16
    max_retries: int | None = None
    deadline: float | None = None
    timeout: float | None = 60.0
    default_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_insecure_http: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (("batch_size", self.batch_size, 1), ("max_retries", self.max_retries, 0)):
            if value is not None:
                check_count(name, value, at_least=least)
        check_count("max_concurrency", self.max_concurrency)
        _seconds("deadline", self.deadline)
        _seconds("timeout", self.timeout)
        check_kind("base_url", self.base_url, str, NoneType)
        check_kind("allow_insecure_http", self.allow_insecure_http, bool)
        if self.base_url is not None:
            _check_url(self.base_url, self.allow_insecure_http)
        if self.api_key is not None:
            _check_key(self.api_key.get_secret_value(), "api_key")
        _check_headers(self.default_headers)
        # Like all names that are sent, so that one overwrites another and none goes out twice.
        lower = {name.lower(): value for name, value in self.default_headers.items()}
        object.__setattr__(self, "default_headers", lower)

    def base_url_for(self, endpoint: Endpoint) -> str:
        """The configured address, else the one in the environment, else the provider's own."""
        return self.base_url or os.environ.get(endpoint.url_variable) or endpoint.base_url

    def address(self, endpoint: Endpoint) -> Address:
        """Resolve host and key at the moment of sending, so that no loaded file decides where a key goes.

        A key from the environment goes to the provider's own host, to the host that its URL variable names, and to
        loopback; over plain http only where the variable says http. Any other host needs a key that was given
        explicitly.

        Raises:
            ConfigurationError: There is no key, or it may not go to this host.
        """
        source, url = self._locate(endpoint)
        key_source = endpoint.key_variable if self.api_key is None else "api_key"
        route = Route(url.origin, source, key_source, _is_loopback(url.host))
        if self.api_key is not None:
            return Address(url.text, _check_key(self.api_key.get_secret_value(), key_source), route)
        key = os.environ.get(endpoint.key_variable)
        if not key:
            raise ConfigurationError(f"no API key: set {endpoint.key_variable} or pass api_key=")
        host, plain = url.host, url.plain
        named = os.environ.get(endpoint.url_variable) or endpoint.base_url
        trusted = [_check_url(url, True, endpoint.url_variable) for url in (endpoint.base_url, named)]
        if not any(host == url.host and plain <= url.plain for url in trusted) and not route.loopback:
            raise ConfigurationError(
                f"the key in {endpoint.key_variable} is not sent to {'http://' * plain}{host}: "
                f"pass api_key= explicitly, or name that address in {endpoint.url_variable}"
            )
        return Address(url.text, _check_key(key, key_source), route)

    def host_and_port(self, endpoint: Endpoint) -> tuple[str, int]:
        """Host and port that requests go to."""
        _, url = self._locate(endpoint)
        return url.host, url.port

    def _locate(self, endpoint: Endpoint) -> "tuple[str | None, _Url]":
        """The checked address, and the setting that it came from."""
        in_environment = endpoint.url_variable if os.environ.get(endpoint.url_variable) else None
        source = "base_url" if self.base_url else in_environment
        return source, _check_url(self.base_url_for(endpoint), self.allow_insecure_http, source or "base_url")


class _Url(NamedTuple):
    text: str
    host: str
    port: int
    plain: bool  # http
    origin: str


@lru_cache(maxsize=64)
def _check_url(url: str, allow_insecure_http: bool, source: str = "base_url") -> _Url:
    scheme_given = "://" in url
    if not scheme_given:
        url = f"https://{url}"  # the official Pinecone clients accept a bare host in PINECONE_CONTROLLER_HOST
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port = parts.port or (80 if parts.scheme == "http" else 443)  # raises on nonsense
    except ValueError:
        raise ConfigurationError(f"{source} is not a URL") from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError(f"{source} must look like https://host or https://host:port/path")
    if not _is_host(host):
        raise ConfigurationError(f"{source} holds no valid host name")
    if not scheme_given and _is_loopback(host):
        raise ConfigurationError(f"{source} must say whether it is http or https: did you mean http://{parts.netloc}?")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"{source} must hold no user, password, query or fragment")
    if parts.scheme == "http" and not allow_insecure_http and not _is_loopback(host):
        raise ConfigurationError(
            f"{source} http://{host} would send the key in the clear: use https, or pass allow_insecure_http=True"
        )
    return _Url(url.rstrip("/"), host, port, parts.scheme == "http", f"{parts.scheme}://{parts.netloc}")


def _is_host(host: str) -> bool:
    """Whether httpx and the resolver take it: they refuse it when sending, each with errors of its own."""
    if ":" in host:
        return True  # IPv6: urlsplit has looked
    try:
        if not host.isascii() or "xn--" in host:
            import idna  # httpx needs it

            host = idna.encode(host).decode()
        elif host.replace(".", "").isdigit():
            import ipaddress

            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return re.fullmatch(r"[^.]{1,63}(\.[^.]{1,63})*\.?", host) is not None


def _is_loopback(host: str) -> bool:
    return host in LOOPBACK or host.endswith(".localhost")


def _check_key(key: str, source: str) -> Secret:
    key = key.strip()  # a key read from a file often ends in a newline
    if not key:
        raise ConfigurationError(f"{source} is empty")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(f"{source} holds characters that no key has (spaces, controls or non-ASCII)")
    return Secret(key)


def _check_headers(headers: Mapping[str, str]) -> None:
    """A header may hold a secret: the message names it and never shows its value."""
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name, re.ASCII):
            raise ConfigurationError("a name in default_headers is not a header's name")
        if name.lower() in ("host", "content-length", "transfer-encoding"):
            raise ConfigurationError(f"default_headers[{name!r}] is decided for each request")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"default_headers[{name!r}] must be printable ASCII text")


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Refuse another type; a bool is not a number. The message never shows the value: it may be a misplaced key."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds if kind is not NoneType)
        raise ConfigurationError(f"{name} must be of type {wanted}, not {type(value).__name__}")


def _seconds(name: str, value: float | None) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value <= MAX_SECONDS)
    ):
        raise ConfigurationError(
            f"{name} must be a positive number of seconds, at most {MAX_SECONDS}, not {_shown(value)}"
        )


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, int | float) else type(value).__name__
