"""What happens during a call, as typed events: for `on_event`, the log and OpenTelemetry.

No event holds a text, a vector, a header or a key.
"""

import logging
from collections.abc import Callable
from itertools import count
from typing import Final, NamedTuple, TypeAlias

from sparse_embed.settings import Kind, Role
from sparse_embed.vectors import Usage


class CallInfo(NamedTuple):
    """The call that an event belongs to: one `embed_documents`, `embed_query` or stream, with all its requests.

    Attributes:
        id: A number that is unique in this process.
        provider: ``"chroma"`` or ``"pinecone"``.
        model: The model that is asked.
        kind: ``"sparse"`` or ``"dense"``.
        role: ``"document"`` or ``"query"``.
        texts: Number of texts, None for a stream.
        host: Host name of the address that is asked.
        port: Port of that address.
    """

    id: int
    provider: str
    model: str
    kind: Kind
    role: Role
    texts: int | None
    host: str
    port: int


class CallStarted(NamedTuple):
    """A call begins; nothing has been sent yet."""

    call: CallInfo


class RequestSent(NamedTuple):
    """A request is about to be sent.

    Attributes:
        call: The call.
        texts: Number of texts in the request.
        attempt: 1 for the first time that these texts are sent, 2 for the first retry.
    """

    call: CallInfo
    texts: int
    attempt: int


class Retrying(NamedTuple):
    """A request failed and will be sent again.

    Attributes:
        call: The call.
        reason: Name of the error's class, such as ``"ServerError"``.
        status: HTTP status, None if there was no complete answer.
        attempt: How often the request has been sent.
        wait: Seconds until it is sent again, at the earliest.
    """

    call: CallInfo
    reason: str
    status: int | None
    attempt: int
    wait: float


class Paused(NamedTuple):
    """The provider limits the rate (429): no request of the encoder is sent until the pause is over.

    There is one event per pause, although several requests may be refused at its beginning.

    Attributes:
        call: The call whose request was refused. The pause holds for every call of the encoder.
        seconds: Length of the pause.
    """

    call: CallInfo
    seconds: float


class CallEnded(NamedTuple):
    """A call has ended, well or with an error.

    Attributes:
        call: The call.
        usage: What this call used.
        seconds: How long it took, pauses included. A stream lasts as long as its consumer takes.
        error: Name of the error's class, None if there was none.
        status: HTTP status of the error, if it has one.
        dimension: Length of the dense vectors received, None for sparse ones.
    """

    call: CallInfo
    usage: Usage
    seconds: float
    error: str | None
    status: int | None
    dimension: int | None


Event: TypeAlias = CallStarted | RequestSent | Retrying | Paused | CallEnded
Listener: TypeAlias = Callable[[Event], None]
Notify: TypeAlias = Callable[..., None]  # called with a class of event, and its fields after `call`

logger: Final = logging.getLogger("sparse_embed")
next_id: Final = count(1).__next__
