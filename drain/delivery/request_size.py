"""How large a request may be: so that a slow backend answers within --timeout, and one with a limit takes it."""

from __future__ import annotations

import threading
from typing import Final

ANY_SIZE: Final = 1 << 62
_ANSWERS_BEFORE_MORE: Final = 32  # at a size beyond which a request timed out


class TimelySpans:
    """How many spans a request to one destination may have, by what was answered in time; any thread may use it.

    The number halves after each request that timed out, and doubles again while requests are answered. Up to the size
    that timed out it doubles with each answer, so that a backend that did not answer at all is back at full size after
    a few; that size itself is tried again seldom, since each attempt in vain takes the whole timeout.

    Attributes:
        most: spans that the next request may have.

    Example:
        >>> spans = TimelySpans()
        >>> spans.timed_out(8000), spans.most
        (4000, 4000)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._too_many = ANY_SIZE  # of a request that timed out
        self._answers = 0
        self.most = ANY_SIZE

    def timed_out(self, spans: int) -> int:
        """A request with so many spans was not answered in time; return how many the next ones may have."""
        with self._lock:
            self._too_many = max(2, spans)
            self.most = max(1, min(self.most, spans // 2))
            self._answers = 0
            return self.most

    def answered(self, spans: int) -> None:
        """A request with so many spans was answered."""
        if self.most == ANY_SIZE:
            return
        with self._lock:
            if spans >= self._too_many:
                self._too_many = ANY_SIZE
            if spans * 2 <= self.most:
                return  # says nothing of this size
            self._answers += 1
            if self.most * 2 < self._too_many or self._answers >= _ANSWERS_BEFORE_MORE:
                self._answers = 0
                self.most = min(self.most * 2, ANY_SIZE)


class RequestSize:
    """How many bytes a request may have, by what was refused; any thread may use it.

    A size that was refused is a bound for good, whatever the destination: requests are cut before they are sent,
    instead of each being refused.

    Attributes:
        bytes: that the next request may have.

    Example:
        >>> size = RequestSize()
        >>> size.took(900_000); size.was_refused(1_000_000)
        900000
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._largest_taken = 0
        self._smallest_refused = ANY_SIZE
        self.bytes = ANY_SIZE

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
