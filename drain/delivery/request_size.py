"""How large a request may be: so that a slow backend answers within --timeout, and one with a limit takes it."""

from __future__ import annotations

import threading
from typing import Final

ANY_SIZE: Final = 1 << 62
_ANSWERS_BEFORE_MORE: Final = 32  # at a size beyond which a request timed out


class RequestSize:
    """Spans by what was answered in time, and bytes by what was refused; any thread may use it.

    The number of spans halves after each request that timed out, and doubles again while requests are answered. Up to
    the size that timed out it doubles with each answer, so that a backend that did not answer at all is back at full
    size after a few; that size itself is tried again seldom, since each attempt in vain takes the whole timeout.

    A size that was refused is a bound for good: requests are cut before they are sent, instead of each being refused.

    Example:
        >>> size = RequestSize()
        >>> size.timed_out(8000), size.spans
        (4000, 4000)
        >>> size.took(900_000); size.was_refused(1_000_000); size.bytes
        900000
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._too_many = ANY_SIZE  # spans, of a request that timed out
        self._answers = 0
        self.spans = ANY_SIZE
        self._largest_taken = 0
        self._smallest_refused = ANY_SIZE
        self.bytes = ANY_SIZE

    def timed_out(self, spans: int) -> int:
        """A request with so many spans was not answered in time; return how many the next ones may have."""
        with self._lock:
            self._too_many = max(2, spans)
            self.spans = max(1, min(self.spans, spans // 2))
            self._answers = 0
            return self.spans

    def answered(self, spans: int) -> None:
        """A request with so many spans was answered."""
        if self.spans == ANY_SIZE:
            return
        with self._lock:
            if spans >= self._too_many:
                self._too_many = ANY_SIZE
            if spans * 2 <= self.spans:
                return  # says nothing of this size
            self._answers += 1
            if self.spans * 2 < self._too_many or self._answers >= _ANSWERS_BEFORE_MORE:
                self._answers = 0
                self.spans = min(self.spans * 2, ANY_SIZE)

    def took(self, size: int) -> None:
        """A request of so many bytes was taken."""
        if size > self._largest_taken:
            with self._lock:
                self._largest_taken = max(self._largest_taken, size)
                self._set_bound()

    def was_refused(self, size: int) -> int:
        """A request of so many bytes was refused for its size; return how many the next ones may have."""
        with self._lock:
            self._smallest_refused = min(self._smallest_refused, size)
            if self._largest_taken >= self._smallest_refused:  # the limit was lowered, or is one after compression
                self._largest_taken = 0
            self._set_bound()
            return self.bytes

    def forget(self) -> None:
        """The backend is another, or may have another limit: take any size again."""
        with self._lock:
            self._largest_taken, self._smallest_refused, self.bytes = 0, ANY_SIZE, ANY_SIZE

    def _set_bound(self) -> None:
        if self._smallest_refused < ANY_SIZE:
            self.bytes = max(1, self._smallest_refused // 2, self._largest_taken)
