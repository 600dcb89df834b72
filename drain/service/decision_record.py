"""What was decided, on record in the hold before the first of its spans is settled: so no kill tears a trace."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from drain.sampling.decision_words import packed, packed_spans, unpacked_spans
from drain.service.looked_part import span_ids
from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drain.log import RepeatedTrouble
    from drain.sampling.hold.decisions import Decisions
    from drain.service.rules_in_effect import RulesInEffect


class DecisionRecord:
    """Keeps the file of decisions such that the next drain finds in it what matters.

    Args:
        decisions: the file.
        most: decisions that a trace table remembers, and late spans that are.
        trouble: a line for each kind.
    """

    def __init__(self, decisions: Decisions, most: int, trouble: RepeatedTrouble) -> None:
        self._decisions = decisions
        self._most = most
        self._trouble = trouble
        self._is_whole = True
        # Twice what matters, however much that is: else it would be written anew each second.
        self._most_entries = 2 * most
        # Late spans that were kept for themselves: by earlier drains; and lately, for when the file is written anew.
        self._kept_before = unpacked_spans(decisions.found)
        self._kept_lately = deque(self._kept_before.tolist(), most)

    def again(self, records: np.ndarray) -> np.ndarray:
        """Return what is known of records at which an earlier drain may have looked: u1, enum rb_again.

        A trace that was decided before the kill was perhaps decided with them. To keep one of them for itself now would
        tear it.
        """
        was_kept = np.isin(span_ids(records), self._kept_before)
        again: np.ndarray = np.where(was_kept, lib.RB_AGAIN_ITSELF, lib.RB_AGAIN_MAYBE).astype(np.uint8)
        return again

    def put(self, in_effect: Iterable[RulesInEffect], for_themselves: np.ndarray | None = None) -> None:
        """Put on record what was decided since this was last called.

        Args:
            in_effect: the rules that did.
            for_themselves: ids of late spans that are kept for themselves, u8.
        """
        decided = [(one, one.traces.decided()) for one in in_effect if one.traces.has_decided]
        entries = [packed(found, one.rules) for one, found in decided if not one.are_dry]
        if for_themselves is not None and len(for_themselves):
            self._kept_lately.extend(for_themselves.tolist())
            entries.append(packed_spans(for_themselves))
        if not entries:
            return
        try:
            self._decisions.append(np.concatenate(entries))
        except OSError as error:  # better than to hold up all: until they are, a kill would tear these traces
            self._is_whole = False
            self._trouble.warn("decisions cannot be put on record", reason=str(error), entries=sum(map(len, entries)))

    def lacks_some(self) -> None:
        """Note that something is not on it, or that it is gone: it is to be written anew."""
        self._is_whole = False

    def tend(self, in_effect: Iterable[RulesInEffect]) -> None:
        """Write it anew where that is to be; once a second."""
        if self._is_whole and len(self._decisions) <= self._most_entries:
            return
        every = [packed(one.traces.remembered(), one.rules) for one in in_effect if not one.are_dry]
        try:
            self._decisions.rewrite(np.concatenate([packed_spans(np.array(self._kept_lately, np.uint64)), *every]))
        except OSError as error:
            self._trouble.warn("decisions cannot be put on record anew", reason=str(error))
            return
        self._is_whole = True
        self._most_entries = 2 * max(self._most, len(self._decisions))
