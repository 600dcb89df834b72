"""What an OTLP backend's answer means for a batch, over HTTP and gRPC alike.

Where this leaves OTLP's letter, and why:

- RESOURCE_EXHAUSTED is retried with or without `RetryInfo`: it is what a Collector's memory_limiter and Tempo's rate
  limits answer, and they take the same spans a moment later.
- What an operator has to mend (credentials, a path, a proxy, a redirect) would be answered to every batch. Such a batch
  is held and the log says what to do, instead of spans being lost at full speed.
- Until the backend has taken its first batch, a refusal is more likely to be about the configuration than about spans.
  It is held likewise, and tried in halves where it may be about some of the spans.
- A refusal in words for "too large" is one, whatever its code.
- A batch that is refused for its spans (400 and the like) is sent in halves until those are alone, `_HALVINGS` times a
  minute: they cost no other its delivery.

`--no-hold` has refusals as OTLP has them; `--retry-codes` and `--refuse-codes` decide by code.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from drain.exporters.otlp_reply import LONGEST_MESSAGE, one_line, says_too_large
from drain.exporters.protocol import Result, Verdict
from drain.log import RepeatedTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.otlp.request import Request
    from drain.settings.otlp_environment import OtlpSettings

RETRIED: Final = frozenset(
    {
        *("429", "502", "503", "504"),
        *("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"),
        "RESOURCE_EXHAUSTED",
    }
)
OPERATORS: Final = frozenset({"401", "403", "404", "407", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"})
_NEVER_FINAL: Final = frozenset({"407"})  # the proxy's word: the backend has not seen the batch
_ABOUT_SPANS: Final = frozenset({"400", "422", "INVALID_ARGUMENT", "FAILED_PRECONDITION"})
_THROTTLED: Final = frozenset({"429", "RESOURCE_EXHAUSTED"})
_MAY_BE_COMPRESSION: Final = frozenset({"400", "415", "422", "UNIMPLEMENTED"})
_REPEATED: Final = 3
_HALVINGS: Final = 200
_HALVINGS_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 1000

_CREDENTIALS: Final = "check the credentials in OTEL_EXPORTER_OTLP_HEADERS or --headers-file"
_HINTS: Final = {
    "401": _CREDENTIALS,
    "UNAUTHENTICATED": _CREDENTIALS,
    "403": _CREDENTIALS,
    "PERMISSION_DENIED": _CREDENTIALS,
    "404": "nothing takes traces at this path; over OTLP/HTTP it usually ends in /v1/traces",
    "407": "the proxy wants credentials: write it as http://USER:PASSWORD@HOST:PORT",
    "UNIMPLEMENTED": "the server has no OTLP trace service",
}


class Judge:
    """Turns a backend's answers into results; one for each exporter, since it remembers what came before.

    Args:
        settings: `hold`, `retry_codes`, `refuse_codes`, and `compression` for a hint.
        compression: of the requests, as they go out.
        clock: seconds that never go back.
        content: what the requests hold, for the log.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        compression: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        content: str = "spans",
    ) -> None:
        self._content = content
        self._clock = clock
        self._halvings_since = clock()
        self._halvings = 0
        self._settings = settings
        self._is_compressed = compression != "none"
        self._has_delivered = False
        self._trouble = RepeatedTrouble(structlog.get_logger())
        self._lock = threading.Lock()
        self._repeated: OrderedDict[int, tuple[str, int]] = OrderedDict()

    def took(self, result: Result) -> Result:
        """Note that the backend has a batch; returns the result as it is."""
        self._has_delivered = True
        return result

    def refused(
        self, code: str, text: str, message: str, request: Request, *, retry_after: float | None = None, hint: str = ""
    ) -> Result:
        """Return what an answer means that is no success.

        Args:
            code: an HTTP status, or the name of a gRPC code.
            text: the backend's own words.
            message: for the log, with code and words.
            request: that was answered so.
            retry_after: seconds that the backend asked for.
            hint: what to do, where the caller knows it better than from the code.
        """
        settings = self._settings
        if code in settings.refuse_codes and code not in _NEVER_FINAL:
            return self._refusal(code, message, request)
        if code == "413" or says_too_large(text):
            return Result(Verdict.TOO_LARGE, message=message, is_about_size=True)
        may_be_size = code in _THROTTLED and retry_after is None
        may_be_spans = code in _ABOUT_SPANS and not self._has_delivered and settings.hold
        # A try: the backend may as well be throttling, and be asked for no more than one attempt at a time.
        in_halves = (may_be_size or may_be_spans) and request.spans > 1 and self._is_repeated(request, message)
        if code in settings.retry_codes or code in RETRIED:
            return Result(Verdict.RETRY, message=message, retry_after=retry_after, may_be_too_large=in_halves)
        if code in _NEVER_FINAL or (settings.hold and (is_operators(code) or not self._has_delivered)):
            return replace(self.hold(message, hint or self._hint(code)), may_be_too_large=in_halves)
        return self._refusal(code, _with(message, hint), request)

    def unanswered(self, message: str, request: Request, *, status: str = "", hint: str = "") -> Result:
        """Return what an attempt means to which no OTLP backend said anything: it is made again, or in halves.

        Args:
            message: for the log.
            request: that was not answered.
            status: the HTTP status of whoever answered in the backend's place, a proxy that speaks no gRPC for one.
            hint: what an operator can do about it, if anything.
        """
        if status == "413" or status in self._settings.refuse_codes:
            return self.refused(status, "", message, request)
        if hint or is_operators(status):
            return self.hold(message, hint or self._hint(status))
        return Result(Verdict.RETRY, message=message)

    def hold(self, message: str, hint: str) -> Result:
        """Return that a batch waits for an operator, and tell the log."""
        message = _with(message, hint)
        event = f"backend takes no {self._content} until somebody mends this; they are held"
        self._trouble.error(event, reason=message)
        return Result(Verdict.RETRY, message=message, needs_operator=True)

    def _refusal(self, code: str, message: str, request: Request) -> Result:
        """Return a refusal for good, or halves where it may be about some of the spans: no other is lost with these.

        A span that is refused is alone after as many halvings as its batch has binary digits of spans. Where nearly all
        are refused, the bound keeps that from becoming a load of its own.
        """
        if code in _ABOUT_SPANS and request.spans > 1 and self._may_halve():
            return Result(Verdict.TOO_LARGE, message=message)
        return Result(Verdict.REFUSED, message=message)

    def _may_halve(self) -> bool:
        with self._lock:
            now = self._clock()
            if now - self._halvings_since >= _HALVINGS_SECONDS:
                self._halvings_since, self._halvings = now, 0
            self._halvings += 1
            return self._halvings <= _HALVINGS

    def _hint(self, code: str) -> str:
        if code in _MAY_BE_COMPRESSION and self._is_compressed and not self._has_delivered:
            return "the backend may not read compressed requests: try --compression none"
        if code.startswith("3"):
            return "redirects are not followed: name the final URL as --endpoint"
        return _HINTS.get(code, "")

    def _is_repeated(self, request: Request, message: str) -> bool:
        """Whether this batch was answered in the same words before, so often that its size or a part may be meant."""
        key = hash(request.body)
        with self._lock:
            before, times = self._repeated.pop(key, ("", 0))
            times = times + 1 if before == message else 1
            if times >= _REPEATED:
                return True
            self._repeated[key] = (message, times)
            while len(self._repeated) > _MOST_REMEMBERED:
                self._repeated.popitem(last=False)
            return False


def is_operators(code: str) -> bool:
    """Return whether this code would be answered to any batch, until an operator mends something."""
    return code in OPERATORS or (len(code) == len("307") and code.startswith("3"))


def _with(message: str, hint: str) -> str:
    return f"{one_line(message, LONGEST_MESSAGE - len(hint) - 2)}; {hint}" if hint else message
