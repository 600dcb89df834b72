"""An OTLP/HTTP receiver that counts what it took, span by span, and is away or refuses when told to."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Literal, Self

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.otlp_server import OtlpHttpServer
from tests.points.victim import check_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.otlp_server import OtlpHandler

Mood = Literal["takes", "away at first", "away", "refuses"]
_STATUS: dict[Mood, int] = {"takes": 200, "away at first": 503, "away": 503, "refuses": 200}
_REFUSED = 400
_GONE = 410
_REFUSED_OF = 16  # of so many spans of a producer one is bad: halving a batch that is refused finds it
_REFUSALS = 4


def numbers_of(body: bytes) -> Iterator[tuple[str, int]]:
    """Return service and number of each span, whose other fields must follow from the number."""
    for resource_spans in TracesData.FromString(body).resource_spans:
        (service,) = (a.value.string_value for a in resource_spans.resource.attributes if a.key == "service.name")
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                values = {attribute.key: attribute.value.int_value for attribute in span.attributes}
                number = values.pop("number")
                assert list(values.values()) == [check_of(number)] * 10, span
                assert span.start_time_unix_nano == span.end_time_unix_nano == number, span
                assert len(span.trace_id) == 16, span
                assert len(span.span_id) == 8, span
                yield service, number


class Receiver:
    """A receiver on a free port.

    Attributes:
        mood: what it answers; after some refusals "away at first" becomes "takes"; "refuses" refuses bad spans.
        taken: how often each number of each service was taken.
        faults: what was wrong with spans.
    """

    def __init__(self) -> None:
        self.mood: Mood = "takes"
        self.taken: dict[str, Counter[int]] = {}
        self.faults: list[str] = []
        self._refused = 0
        self._tests = 0
        self._lock = threading.Lock()
        self._server = OtlpHttpServer(otherwise=self._meet, keeps=False)

    @property
    def url(self) -> str:
        """The endpoint of this test: what drains of an earlier one sent, before they were killed, may come late."""
        return f"{self._server.url}/{self._tests}"

    def _meet(self, handler: OtlpHandler) -> None:
        handler.answer(self.answer(handler.received.path, handler.received.body))

    def answer(self, path: str, body: bytes) -> int:
        """Take a body, or not; return the status."""
        with self._lock:
            if not path.startswith(f"/{self._tests}/"):
                return _GONE
            is_refused = self.mood == "refuses" and any(number % _REFUSED_OF == 0 for _, number in numbers_of(body))
            status = _REFUSED if is_refused else _STATUS[self.mood]
            if self.mood == "away at first":
                self._refused += 1
                if self._refused == _REFUSALS:
                    self.mood = "takes"
            if status == _STATUS["takes"]:
                try:
                    for service, number in numbers_of(body):
                        self.taken.setdefault(service, Counter())[number] += 1
                except (AssertionError, KeyError, ValueError) as fault:
                    self.faults.append(repr(fault))
        return status

    def so_far(self) -> dict[str, Counter[int]]:
        """Return a copy of `taken`."""
        with self._lock:
            return {service: Counter(numbers) for service, numbers in self.taken.items()}

    def reset(self, mood: Mood) -> None:
        """Forget all, for the next test."""
        with self._lock:
            self.mood, self.taken, self.faults, self._refused = mood, {}, [], 0
            self._tests += 1

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.stop()
