"""Events as records of the standard logger ``sparse_embed``.

WARNING: a retry after a wait of a second or more, and each pause that a rate limit causes. INFO: the end of each call.
DEBUG: each request, and retries after a shorter wait. The fields of an event are also attributes of its record.
"""

import logging
from datetime import datetime, timedelta
from typing import Any, Final

from sparse_embed.events import CallEnded, CallInfo, CallStarted, Event, Paused, RequestSent, Retrying, logger

logger.addHandler(logging.NullHandler())

LONG_WAIT: Final = 1.0  # seconds
HIGHEST_LEVEL: Final[dict[type[Event], int]] = {
    CallStarted: logging.NOTSET,
    RequestSent: logging.DEBUG,
    Retrying: logging.WARNING,
    Paused: logging.WARNING,
    CallEnded: logging.INFO,
}


def log_event(event: Event) -> None:
    """Write a record, if the event's level is enabled."""
    if not logger.isEnabledFor(HIGHEST_LEVEL[type(event)]):
        return
    match event:
        case RequestSent(call, texts, attempt):
            _log(logging.DEBUG, call, event, "%s: request of %d text(s), attempt %d", texts, attempt)
        case Retrying(call, reason, status, attempt, wait):
            # A refusal for the rate (429) pauses the whole encoder, which has an event of its own.
            level = logging.WARNING if wait >= LONG_WAIT and status != 429 else logging.DEBUG
            why = reason if status is None else f"{reason}, status {status}"
            _log(level, call, event, "%s: attempt %d failed (%s), retrying in %.1f s", attempt, why, wait)
        case Paused(call, seconds):
            until = (datetime.now().astimezone() + timedelta(seconds=seconds)).isoformat(timespec="seconds")
            _log(logging.WARNING, call, event, "%s: rate limit, no request for %.1f s, until %s", seconds, until)
        case CallEnded(call, usage, seconds, error):
            _log(
                logging.INFO,
                call,
                event,
                "%s: %s in %.2f s, texts %d (cached %d), tokens %d, requests %d (retries %d)",
                error or "done",
                seconds,
                usage.texts + usage.cache_hits,
                usage.cache_hits,
                usage.total_tokens,
                usage.requests,
                usage.retries,
            )


def _log(level: int, call: CallInfo, event: Event, message: str, *values: object) -> None:
    if logger.isEnabledFor(level):
        what = f"call {call.id} ({call.provider} {call.model}, {call.role})"
        logger.log(level, message, what, *values, extra=_fields(event))


def _fields(event: Event) -> dict[str, Any]:
    """The fields of the event and of its call, flat, under names that no attribute of a log record has."""
    fields = event._asdict()
    call, usage = fields.pop("call")._asdict(), fields.pop("usage", None)
    if usage is not None:
        fields |= {"texts": usage.texts, "tokens": usage.total_tokens, "requests": usage.requests}
        fields |= {"retries": usage.retries, "cache_hits": usage.cache_hits}
    return {"event": type(event).__name__, **call, "call_id": call.pop("id"), **fields}
