"""How large a request may be, so that a slow backend answers within --timeout."""

from __future__ import annotations

import threading
from typing import Final

ANY_SIZE: Final = 1 << 62
_ANSWERS_BEFORE_MORE: Final = 32  # at a size beyond which a request timed out


class RequestSize:
    """Halves after each request that timed out, and doubles again while requests are answered; any thread may use it.

    Up to the size that timed out it doubles with each answer, so that a backend that did not answer at all is back at
    full size after a few; that size itself is tried again seldom, since each attempt in vain takes the whole timeout.

    Example:
        >>> size = RequestSize()
        >>> size.timed_out(8000), size.spans
        (4000, 4000)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._too_many = ANY_SIZE  # spans, of a request that timed out
        self._answers = 0
        self.spans = ANY_SIZE

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
