"""What is written about each request: one line in the log, one count in the metrics, never a text or a key.

Decides the log's form. Leaves answers to ``app``, numbers to ``metrics``.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger("sparse_embed.server")


@dataclass
class Trace:
    """What a request turned out to be, filled while it is answered.

    Attributes:
        model: The model's id, "" until one was found.
        texts: Number of texts.
        tokens: Their tokens.
        queue_seconds: Seconds in the model's queue, None where there is none.
        compute_seconds: Seconds of the model, None where there is none.
    """

    model: str = ""
    texts: int = 0
    tokens: int = 0
    queue_seconds: float | None = None
    compute_seconds: float | None = None

    def server_timing(self) -> str:
        """Return the header ``Server-Timing`` (W3C), in milliseconds."""
        queue, compute = self.queue_seconds or 0.0, self.compute_seconds or 0.0
        return f"queue;dur={queue * 1000:.1f}, compute;dur={compute * 1000:.1f}"


class AccessLog:
    """ASGI middleware that times each request.

    Args:
        app: What answers.
        count: Told status, seconds and trace of each request.
    """

    def __init__(self, app: ASGIApp, count: Callable[[int, float, Trace], None]) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        trace = scope.setdefault("state", {})["trace"] = Trace()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - started
            if scope["method"] == "POST":
                self._count(status, seconds, trace)
            if LOGGER.isEnabledFor(logging.INFO):
                _log(scope, status, seconds, trace)


def _log(scope: Scope, status: int, seconds: float, trace: Trace) -> None:
    facts: dict[str, Any] = {
        "client": (scope.get("client") or ("-",))[0],
        "method": scope["method"],
        # As it was sent, so that no line break of a client's is one of the log's.
        "path": scope["raw_path"].decode("ascii", "replace")[:200],
        "status": status,
        "ms": round(seconds * 1000, 1),
    }
    if trace.model:
        facts |= {"model": trace.model, "texts": trace.texts, "tokens": trace.tokens}
    if trace.queue_seconds is not None and trace.compute_seconds is not None:
        facts["queue_ms"] = round(trace.queue_seconds * 1000, 1)
        facts["compute_ms"] = round(trace.compute_seconds * 1000, 1)
    LOGGER.info(" ".join(f"{name}={value}" for name, value in facts.items()), extra={"facts": facts})


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the facts of a request by name."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line |= getattr(record, "facts", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def logging_config(level: str, log_format: str) -> dict[str, Any]:
    """Return the configuration of a server's logs, for `logging.config.dictConfig`: all of them to stderr.

    Args:
        level: critical, error, warning, info (a line for each request) or debug.
        log_format: text or json.
    """
    formatters: dict[str, Any] = {
        "text": {"format": "%(asctime)s %(levelname)s %(message)s"},
        "json": {"()": JsonLines},
    }
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"chosen": formatters[log_format]},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen"}},
        "loggers": {LOGGER.name: logger, "uvicorn": logger},
    }
