"""Who listens to a call: the logger, OpenTelemetry where the application has imported it, and `on_event`."""

import logging
import sys
from collections.abc import Callable

from sparse_embed.events import CallEnded, CallInfo, Event, Listener, logger
from sparse_embed.log import log_event


class Observer:
    """Hands the events of one call to its listeners.

    Listeners run in the thread or task where the event occurs. If one raises, that is logged and the call goes on: what
    the provider answers has been paid for.

    Attributes:
        active: Whether every event is listened to. Otherwise only warnings are, by the log, so that a call nobody
            follows costs nothing.
    """

    def __init__(self, describe: Callable[[], CallInfo], on_event: Listener | None) -> None:
        self._describe = describe
        self._call: CallInfo | None = None
        self._ended = False
        self._listeners: list[Listener] = [] if on_event is None else [on_event]
        # An application that wants spans has imported this module. Importing it here would cost every other one 20 ms.
        if "opentelemetry.trace" in sys.modules:
            from sparse_embed.telemetry import CallRecorder

            self._listeners.append(CallRecorder())
        self.active = bool(self._listeners) or logger.isEnabledFor(logging.INFO)
        self._listeners.append(log_event)

    def notify(self, kind: Callable[..., Event], *fields: object) -> None:
        """Call every listener with an event of this call; a request that outlives its call reports nothing."""
        if self._ended:
            return
        self._ended = kind is CallEnded
        if self._call is None:
            self._call = self._describe()
        event = kind(self._call, *fields)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001  # of any kind, from the user
                logger.exception("a listener for %s failed and is ignored", type(event).__name__)
