"""Who is told how a service does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.span_metrics import SpanMetrics


class Observer(Protocol):
    """Who is told how a service does, by its thread.

    Attributes:
        spans: counts the spans that are released; None: nobody does.
    """

    spans: SpanMetrics | None

    def went_round(self, status: Callable[[], str]) -> None:
        """The loop goes round; `status` says in a line what it does now."""

    def stopping(self, status: str) -> None:
        """It delivers what is there, and ends."""

    def broke(self, reason: str) -> None:
        """A thread has ended that was to go on: the service is about to end, too."""
