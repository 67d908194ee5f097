"""Who listens to a call: the logger, OpenTelemetry where the application has loaded it, and `on_event`."""

import sys

from sparse_embed.events import Listener
from sparse_embed.log import log_event


def listeners(on_event: Listener | None) -> list[Listener]:
    """The listeners of one call."""
    found: list[Listener] = [log_event]
    # An application that wants spans has imported this module. Importing it here would cost every other one 20 ms.
    if "opentelemetry.trace" in sys.modules:
        from sparse_embed.telemetry import CallRecorder

        found.append(CallRecorder())
    if on_event is not None:
        found.append(on_event)
    return found
