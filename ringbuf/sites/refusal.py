"""What is left out of a span because it does not fit: told of once, and never an exception for the application.

Source: OpenTelemetry specification, "Error handling in OpenTelemetry": the API must not throw unhandled exceptions.
"""

from __future__ import annotations

from ringbuf.environment import is_true
from ringbuf.log import warn_aside

__all__ = ["Refusals"]


class Refusals:
    """What the spans of one place could not take.

    Args:
        place: the span name, or whatever tells a reader of the log where to look.
    """

    __slots__ = ("_has_told", "place")

    def __init__(self, place: str) -> None:
        self.place = place
        self._has_told = False

    def __call__(self, name: str | None, error: Exception) -> None:
        """Warn of the first of them.

        Args:
            name: what is left out, None where it is nothing that was given.
            error: why.

        Raises:
            Exception: `error`, where RINGBUF_STRICT is 1 or true.
        """
        if is_true("RINGBUF_STRICT", "1"):
            raise error
        if self._has_told:
            return
        self._has_told = True
        # As text: an exception holds the frames it passed, and these what the application has in its hands.
        if name is None:
            warn_aside("spans of %s go on without a part: %s: %s", self.place, type(error).__name__, str(error))
        else:
            warn_aside(
                "spans of %s: %s is left out: %s (told once; EmitterStats.invalid_values counts on)",
                self.place, name, str(error),
            )  # fmt: skip
