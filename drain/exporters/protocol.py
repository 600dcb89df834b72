"""What an exporter is: it makes exactly one attempt a call, and says what came of it.

Waiting and trying again is the delivery's part (`drain.delivery.retry`), so that a stop, a spool or a full lane can end
the waiting at any time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np

    from drain.accounting.broker_state import BrokerState
    from drain.accounting.export_state import EndpointState
    from drain.otlp.request import Encoding, Request


class Verdict(enum.Enum):
    """What became of one attempt, and thereby what the delivery may do next."""

    DELIVERED = "delivered"
    """The backend has the batch; a part may have been rejected for good (`Result.rejected`)."""
    RETRY = "retry"
    """Nobody knows that the backend has it: the same batch is sent again, later."""
    REFUSED = "refused"
    """The backend will never take it: sending it again is forbidden by OTLP."""
    TOO_LARGE = "too large"
    """The backend takes no request of this size, or refuses it for some of its spans: the halves may be sent."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one attempt came to.

    Attributes:
        verdict: what happened, and what may be done next.
        rejected: spans of a delivered batch that the backend did not take (OTLP partial success).
        message: one printable line for the log; empty when there is nothing to tell.
        retry_after: seconds that the backend asks to be left alone, or None.
        sent_bytes: size of the body as it went out, None where the exporter cannot tell.
        values_left_out: of the body as it went out: values that receivers may refuse a whole request for.
        reader_is_gone: nobody takes anything any more, and nobody will: there is nothing left to do but to end.
        needs_operator: any batch would be answered so, until somebody mends something.
        is_timeout: the backend was there, and did not answer in time: a smaller request may fare better.
        is_about_size: of `TOO_LARGE`: no request of this size is taken, whatever its spans are.
        is_not_taken: of a batch to be sent again: the backend has nothing of it for sure, since none of it was sent, or
            it said so. Without that nobody knows: an answer got lost, or did not come in time.
        may_be_too_large: of a batch to be sent again: it was answered so before, and may be too large, or hold a span
            that is not taken; its halves are worth a try. It is a guess: the backend may as well be ill.
    """

    verdict: Verdict
    rejected: int = 0
    message: str = ""
    retry_after: float | None = None
    sent_bytes: int | None = field(default=None, compare=False)
    values_left_out: int = field(default=0, compare=False)
    reader_is_gone: bool = field(default=False, compare=False)
    needs_operator: bool = field(default=False, compare=False)
    is_timeout: bool = field(default=False, compare=False)
    is_about_size: bool = field(default=False, compare=False)
    is_not_taken: bool = field(default=False, compare=False)
    may_be_too_large: bool = field(default=False, compare=False)


class Exporter(Protocol):
    """Delivers batches; safe to call from several threads.

    Attributes:
        encoding: the encoding that `export` sends. A request in the other one is translated, at a cost.
        endpoint: where the spans go, for logs; without credentials.
    """

    encoding: Encoding
    endpoint: str

    def export(self, request: Request) -> Result:
        """Make one attempt, blocking up to the exporter's timeout; trouble with the backend is never raised.

        Raises:
            ValueError: the request is in the other encoding, and its body does not parse.
        """
        ...

    def close(self) -> None:
        """Give up connections and files; attempts that still run may end in `Verdict.RETRY`."""
        ...


@runtime_checkable
class GroupExporter(Exporter, Protocol):
    """An exporter that takes requests for several destinations in one call, and says what came of each."""

    @property
    def most_together(self) -> int:
        """How many one call may be given, at least 1."""
        ...

    def export_together(self, requests: Sequence[Request]) -> Sequence[Result]:
        """Make one attempt for each, as `export` does for one; an attempt ends with its answer.

        Args:
            requests: at most one for each destination.

        Returns:
            what came of each, in the order of the requests. Of one whose body does not parse: `Verdict.REFUSED`.
        """
        ...


class Partitioner(Protocol):
    """Says which destination each span goes to, so that those of a trace go to the same; one thread asks it."""

    @property
    def names(self) -> Sequence[str]:
        """The destinations that there are now (`Request.destination`); may change from one batch to the next."""
        ...

    def assign(self, records: np.ndarray, service: str) -> np.ndarray:
        """Return an index into `names` for each record: uint16, shape (n,).

        Args:
            records: of one ring, contiguous, one dimension, at least one; each has a `trace_id` of 16 bytes.
            service: whose they are.
        """
        ...

    def home(self, trace_id: bytes, service: str) -> str:
        """Return the destination of one trace: the same as `assign` says, for what is cut after it was encoded."""
        ...


@runtime_checkable
class Relocating(Partitioner, Protocol):
    """A partitioner that can give the spans of destinations that are away to the others."""

    @property
    def hand_over_after(self) -> float:
        """Seconds that one is away before that, and is back before it gets its spans again; 0: never."""
        ...

    def leave_out(self, away: Collection[str]) -> None:
        """Let `assign` and `home` choose among the others from now on; any thread may say so.

        Args:
            away: of `names`, not all of them; empty: all are there.
        """
        ...

    def breakers_open(self, destinations: Collection[str]) -> None:
        """Note to which of `names` one attempt at a time is made, for whoever shows it."""
        ...

    def handed_over(self, destination: str, spans: int) -> None:
        """Count spans that waited for one that is away, and are for others now."""
        ...


@runtime_checkable
class Partitioned(Exporter, Protocol):
    """An exporter for which spans are sorted by destination before they are encoded."""

    @property
    def partitioner(self) -> Partitioner | None:
        """What sorts them; None: nothing does now, and a request is for any destination."""
        ...


def partitioner_of(exporter: Exporter | None) -> Partitioner | None:
    """Return what sorts the spans of an exporter now; None: nothing does."""
    # Asked in each round: isinstance with Partitioned looks at a hundred names each time, 0.1 ms. So with those below.
    partitioner: Partitioner | None = getattr(exporter, "partitioner", None)
    return partitioner


def sends_gzip(exporter: Exporter | None) -> bool:
    """Return whether an exporter sends requests of protobuf as they are after `Request.gzip`."""
    is_so: bool = getattr(exporter, "sends_gzip", False)
    return is_so


def relocating(partitioner: Partitioner | None) -> Relocating | None:
    """Return the partitioner where it may send spans elsewhere; None: it does not."""
    return cast("Relocating", partitioner) if hasattr(partitioner, "breakers_open") else None


def group_exporter(exporter: Exporter | None) -> GroupExporter | None:
    """Return the exporter where it takes several requests in one call; None: it takes one."""
    return cast("GroupExporter", exporter) if hasattr(exporter, "export_together") else None


def most_together_of(exporter: Exporter | None) -> int:
    """Return how many batches the exporter takes at once."""
    most: int = getattr(exporter, "most_together", 1)
    return most


def most_bytes_of(exporter: Exporter | None) -> int | None:
    """Return how large a request's body may be, by what a `Bounded` exporter was told; None: nobody has told it."""
    most: int | None = getattr(exporter, "most_bytes", None)
    return most


@runtime_checkable
class Renewable(Exporter, Protocol):
    """An exporter that has files or connections which it can leave for new ones."""

    def renew(self) -> None:
        """Take up certificates, headers and the file of a name anew, whatever has changed; any thread may ask."""
        ...


@runtime_checkable
class Bounded(Exporter, Protocol):
    """An exporter whose destination has told how large a request may be."""

    @property
    def most_bytes(self) -> int:
        """The largest body that it takes; may change."""
        ...


@runtime_checkable
class Inspectable(Exporter, Protocol):
    """An exporter that looks at its destination without sending anything."""

    def findings(self) -> Sequence[str]:
        """Return what an operator should know; blocks until it has looked, some seconds at the most."""
        ...

    def is_reachable(self) -> bool:
        """Return whether spans can be sent, as far as a look tells."""
        ...


@runtime_checkable
class Brokered(Exporter, Protocol):
    """An exporter that sends to brokers."""

    def broker_state(self) -> BrokerState:
        """Return what is shown of them; any thread may ask."""
        ...


@runtime_checkable
class Balanced(Exporter, Protocol):
    """An exporter that sends to several endpoints."""

    def endpoint_states(self) -> Sequence[EndpointState]:
        """Return what came of the attempts at each; any thread may ask."""
        ...
