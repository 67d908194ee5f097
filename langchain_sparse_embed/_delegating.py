"""What the four classes share: settings as pydantic fields, and an encoder of the core that does the work.

Decides LangChain's conventions: which fields are serialized, what a pickle holds, and whether a key is explicit or the
environment's. Leaves checks, requests and retries to the encoder.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from langchain_core.load.serializable import Serializable
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, SkipValidation

from sparse_embed import ConfigurationError, DenseEncoder, Quota, SparseEncoder, Usage
from sparse_embed.cache import ByteStore
from sparse_embed.events import Listener
from sparse_embed.extras import requires
from sparse_embed.options import document_fields, init_model
from sparse_embed.providers import owner_of
from sparse_embed.providers.base import Provider
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import API_VERSION, Pinecone
from sparse_embed.transport.client import AsyncClient, SyncClient
from sparse_embed.transport.run import RateLimiter  # BaseRateLimiter would load asyncio

if TYPE_CHECKING:
    Key = SecretStr | str  # pydantic accepts a plain str too, and type checkers should
else:
    Key = SecretStr


KEY: Final = (
    "The key; else the provider's environment variable. A key equal to the variable's value counts as the variable's:"
    " it is sent only to the provider's own host, to the host that its URL variable names, and to loopback, and is in"
    " no pickle."
)


class Delegating(Serializable):
    """Frozen settings with an encoder built from them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)

    _provider: ClassVar[type[Provider]]
    _encoder_class: ClassVar[type[SparseEncoder] | type[DenseEncoder]]
    _encoder: SparseEncoder | DenseEncoder = PrivateAttr()
    _explicit_key: Key | None = PrivateAttr()

    model: str  # with a default in each class
    api_key: Key | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description=KEY,
    )
    base_url: str | None = Field(
        default=None, description="Another address, such as a gateway's or a local provider's."
    )
    batch_size: int | None = Field(
        default=None, description="Texts per request. Default and upper bound: the provider's limit."
    )
    max_concurrency: int = Field(default=16, description="Requests in flight, over all calls on this object.")
    max_retries: int | None = Field(
        default=None, description="Sends after the first. None: 6 for documents, 2 for queries."
    )
    deadline: float | None = Field(
        default=None,
        description="Seconds without a vector after which a call gives up. None: 180 for documents, 30 for queries.",
    )
    timeout: float | None = Field(
        default=60.0, description="Seconds without progress after which one attempt is given up."
    )
    show_progress_bar: bool = Field(
        default=False, description="Show the progress of ``embed_documents`` and ``aembed_documents``."
    )
    allow_insecure_http: bool = Field(
        default=False, description="Permit a plain ``http://`` address that is not loopback."
    )
    default_headers: dict[str, str] | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Sent with every request. Not serialized: headers may hold secrets.",
    )
    cache: SkipValidation[int | str | os.PathLike[str] | ByteStore | None] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Remember vectors: a number of entries to hold in memory, the path of a SQLite file, or a "
        "LangChain byte store.",
    )
    rate_limiter: RateLimiter | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Asked before each attempt: a LangChain ``BaseRateLimiter``, or anything with its two methods.",
    )
    quota: Quota | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="What the provider allows per minute, if that is known; objects may share one.",
    )
    on_event: SkipValidation[Listener | None] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Called with each event of ``sparse_embed.events``, in the thread or task where it occurs.",
    )
    http_client: SyncClient | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="An ``httpx.Client`` to use as it is (proxy, certificates); never closed here.",
    )
    http_async_client: AsyncClient | None = Field(
        default=None, exclude=True, repr=False, description="The same for the async methods."
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # the fields; the four classes' signatures are generated
        """Check the settings; nothing is sent.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        # Not in model_post_init: what is raised there, pydantic 2.14 turns into a ValidationError.
        init_model(super().__init__, type(self), fields, owner_of)
        # LangChain fills api_key from the environment, by the field's default and in loads(secrets_from_env=True), and
        # does not tell which keys came from there. The core reads the environment itself when sending, and restricts to
        # which hosts such a key goes. So a key that equals the environment's is never passed on as an explicit one.
        # Decided once, since the environment may change.
        from_environment = os.environ.get(self._provider.endpoint.key_variable, "").strip()
        explicit = isinstance(self.api_key, SecretStr) and self.api_key.get_secret_value().strip() != from_environment
        self._explicit_key = self.api_key if explicit else None
        settings = {name: getattr(self, name) for name in type(self).model_fields if name != "show_progress_bar"}
        settings |= {"api_key": self._explicit_key, "on_progress": report}
        self._encoder = self._encoder_class(self._provider.name, **settings)  # type: ignore[arg-type]  # a literal

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401  # pydantic's
        document_fields(cls)

    def __repr_args__(self) -> Any:  # noqa: ANN401  # pydantic's
        """LangChain leaves out fields with their default value; the model is shown always."""
        shown = dict(super().__repr_args__())
        return ({"model": self.model} | shown).items()

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401  # any field
        if not name.startswith("_"):  # pydantic 2.14 refuses with the value in the message, be it a key
            raise ConfigurationError(
                f"{name} cannot be changed on a {type(self).__name__}: make a copy with model_copy(update=...)"
            )
        super().__setattr__(name, value)

    def _given(self) -> dict[str, Any]:
        """The arguments for an equal object; a key from the environment is looked up again."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"api_key"}}
        return given if self._explicit_key is None else given | {"api_key": self._explicit_key}

    def __getstate__(self) -> dict[Any, Any]:
        self._encoder.__getstate__()  # refuses to leave the process with a caller's own connections
        return self._given()

    def __setstate__(self, state: dict[Any, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a pickle is checked like any other input

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return type(self)(**self._given())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other settings, checked like a new object (pydantic's own would keep the old encoder)."""
        return type(self)(**self._given() | dict(update or {}))

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """LangChain's ``dumps`` and ``loads`` work, with ``valid_namespaces=["langchain_sparse_embed"]``."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The key is serialized as the name of its variable."""
        return {"api_key": self._provider.endpoint.key_variable}

    @property
    def provider(self) -> str:
        """The provider's name: ``"chroma"`` or ``"pinecone"``."""
        return self._encoder.provider

    @property
    def engine(self) -> str | None:
        """What computed the last answer, where a local provider said so; None for the real providers."""
        return self._encoder.engine

    @property
    def usage(self) -> Usage:
        """What this object has used so far: tokens, requests, retries, texts."""
        return self._encoder.usage

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._encoder.close()

    async def aclose(self) -> None:
        """Like `close`, and waits until the running loop's connections are closed."""
        await self._encoder.aclose()


def _key_in(variable: str) -> Callable[[], SecretStr | None]:
    """Like LangChain's `secret_from_env`, whose import takes longer than all of this package."""

    def key() -> SecretStr | None:
        value = os.environ.get(variable)
        return SecretStr(value) if value else None

    return key


class ChromaSettings(Delegating):
    """Options that only Chroma Cloud has."""

    _provider = Chroma

    api_key: Key | None = Field(
        default_factory=_key_in(Chroma.endpoint.key_variable), exclude=True, repr=False, description=KEY
    )
    task: str | None = Field(
        default=None, description="Task name, sent with a target that follows the role. Excludes both instructions."
    )
    instructions: str | None = Field(
        default=None,
        description="Instruction text for documents, and for queries unless `query_instructions` is given.",
    )
    query_instructions: str | None = Field(default=None, description="Instruction text for queries.")
    query_model: str | None = Field(
        default=None, description="Model for queries; from a ``…-doc`` model it follows by itself."
    )


class PineconeSettings(Delegating):
    """Options that only Pinecone has."""

    _provider = Pinecone

    api_key: Key | None = Field(
        default_factory=_key_in(Pinecone.endpoint.key_variable), exclude=True, repr=False, description=KEY
    )
    truncate: str = Field(
        default="END",
        description='What happens to a text over the model\'s limit: ``"END"`` cuts it, ``"NONE"`` refuses it, '
        '``"START"`` (llama-text-embed-v2 only) cuts its beginning.',
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Any further model parameter, sent as it is.")
    api_version: str = Field(default=API_VERSION, description="Value of ``X-Pinecone-Api-Version``.")


_bar: ContextVar[Any] = ContextVar("sparse_embed_progress_bar", default=None)


@contextmanager
def progress_bar(wanted: bool) -> Iterator[None]:
    """Show the progress that `report` is told. A context variable separates concurrent calls on one object."""
    if not wanted:
        yield
        return
    with requires("tqdm", "langchain"):
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    with tqdm(unit="text") as bar:
        token = _bar.set(bar)
        try:
            yield
        finally:
            _bar.reset(token)


def report(done: int, total: int | None) -> None:
    """Update the bar of the current call, if it has one."""
    bar = _bar.get()
    if bar is not None:
        bar.total = total
        bar.update(done - bar.n)
