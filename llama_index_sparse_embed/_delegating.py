"""What the four classes share: settings as pydantic fields, and an encoder of the core that does the work.

Decides LlamaIndex's conventions: which fields are serialized, which may be assigned, what a pickle holds. Leaves
checks, requests and retries to the encoder.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, SkipValidation
from pydantic.json_schema import SkipJsonSchema

from llama_index_sparse_embed._windows import advance
from sparse_embed import ConfigurationError, DenseEncoder, Quota, SparseEncoder, Usage
from sparse_embed.cache import ByteStore
from sparse_embed.encoder import ProviderOptions
from sparse_embed.events import Listener
from sparse_embed.options import document_fields, init_model
from sparse_embed.providers import owner_of
from sparse_embed.providers.base import Provider
from sparse_embed.providers.chroma import Chroma
from sparse_embed.providers.pinecone import API_VERSION, Pinecone
from sparse_embed.transport.client import AsyncClient, SyncClient

# LlamaIndex passes texts in windows and waits for the end of each, so one window must fill `max_concurrency` requests.
# A constant, and not computed from the settings: it is serialized, and the ingestion cache would be invalid whenever a
# tuning field changed.
REQUESTS_PER_WINDOW = 16

if TYPE_CHECKING:
    Key = SecretStr | str  # pydantic accepts a plain str too, and type checkers should
else:
    Key = SecretStr


class Delegating(BaseModel):
    """Settings with an encoder built from them.

    ``to_dict`` contains the fields that determine a vector. The key and the fields that only determine how requests are
    sent are left out, so that the ingestion cache survives tuning; after ``from_dict`` these have their defaults.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    _provider: ClassVar[type[Provider]]
    _encoder_class: ClassVar[type[SparseEncoder] | type[DenseEncoder]]
    _encoder: SparseEncoder | DenseEncoder = PrivateAttr()

    api_key: Key | None = Field(
        default=None,
        exclude=True,
        repr=False,
        description="The key, held as a ``SecretStr``. None: the provider's variable is looked up whenever a "
        "request is sent.",
    )
    base_url: str | None = Field(
        default=None,
        description="Another address, such as a gateway's or a local provider's. The environment's key goes "
        "only to the provider's own host, to the host that its URL variable names, and to loopback.",
    )
    batch_size: int | None = Field(
        default=None,
        exclude=True,
        description="Texts per request. Default and upper bound: the provider's limit. (`embed_batch_size` is "
        "the number of texts that LlamaIndex hands over at once, sent as several requests "
        "at the same time.)",
    )
    max_concurrency: int = Field(
        default=16, exclude=True, description="Requests in flight, over all calls on this object."
    )
    max_retries: int | None = Field(
        default=None, exclude=True, description="Sends after the first. None: 6 for documents, 2 for queries."
    )
    deadline: float | None = Field(
        default=None,
        exclude=True,
        description="Seconds without a vector after which a call gives up. None: 180 for documents, 30 for queries.",
    )
    timeout: float | None = Field(
        default=60.0, exclude=True, description="Seconds without progress after which one attempt is given up."
    )
    cache: SkipJsonSchema[SkipValidation[int | str | os.PathLike[str] | ByteStore | None]] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Remember vectors: a number of entries, the path of a SQLite file, or a byte store. Unlike "
        "`embeddings_cache`, it tells models apart, and queries from documents.",
    )
    allow_insecure_http: bool = Field(
        default=False, exclude=True, description="Permit a plain ``http://`` address that is not loopback."
    )
    default_headers: dict[str, str] | None = Field(
        default=None, exclude=True, repr=False, description="Sent with every request."
    )
    quota: SkipJsonSchema[Quota | None] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="What the provider allows per minute, if that is known; objects may share one.",
    )
    on_event: SkipJsonSchema[SkipValidation[Listener | None]] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Called with each event of ``sparse_embed.events``, in the thread or task where it occurs.",
    )
    http_client: SkipJsonSchema[SyncClient | None] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="An ``httpx.Client`` to use as it is (proxy, certificates); never closed here.",
    )
    http_async_client: SkipJsonSchema[AsyncClient | None] = Field(
        default=None, exclude=True, repr=False, description="The same for the async methods."
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401  # the fields; the four classes' signatures are generated
        """Check the settings; nothing is sent.

        Raises:
            ConfigurationError: A setting that cannot work.
        """
        fields.pop("class_name", None)  # LlamaIndex adds it to every dump
        # Not in model_post_init: what is raised there, pydantic 2.14 turns into a ValidationError.
        init_model(super().__init__, type(self), fields, owner_of)
        settings = {name: value for name, value in self if name in ENCODER_FIELDS}
        settings["model"] = settings.pop("model_name")
        self._encoder = self._encoder_class(self._provider.name, on_progress=advance, **settings)  # type: ignore[arg-type]  # a literal

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401  # pydantic's
        document_fields(cls)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401  # any field
        # LlamaIndex assigns callback_manager and embed_batch_size. A new value of our own fields would have no effect.
        if name in ENCODER_FIELDS:
            raise ConfigurationError(
                f"{name} cannot be changed on a {type(self).__name__}: make a copy with model_copy(update=...)"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[Any, Any]:
        self._encoder.__getstate__()  # refuses to leave the process with a caller's own connections
        return super().__getstate__()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other settings, checked like a new object (pydantic's own would keep the old encoder)."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | dict(update or {}))

    @classmethod
    def class_name(cls) -> str:
        """The name in dumps and events."""
        return cls.__name__

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


# The fields that are passed to the encoder, under the same names except `model_name`.
ENCODER_FIELDS = {"model_name", *Delegating.model_fields, *ProviderOptions.__annotations__}


class ChromaSettings(Delegating):
    """Options that only Chroma Cloud has."""

    _provider = Chroma

    embed_batch_size: int = Field(
        default=REQUESTS_PER_WINDOW * Chroma.max_batch_size,
        gt=0,
        le=2048,
        description="Texts that LlamaIndex hands over at once.",
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

    embed_batch_size: int = Field(
        default=REQUESTS_PER_WINDOW * Pinecone.max_batch_size,
        gt=0,
        le=2048,
        description="Texts that LlamaIndex hands over at once.",
    )
    truncate: str = Field(
        default="END",
        description='What happens to a text over the model\'s limit: ``"END"`` cuts it, ``"NONE"`` refuses it, '
        '``"START"`` (llama-text-embed-v2 only) cuts its beginning.',
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Any further model parameter, sent as it is.")
    api_version: str = Field(default=API_VERSION, description="Value of ``X-Pinecone-Api-Version``.")
