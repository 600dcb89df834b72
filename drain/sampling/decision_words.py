"""Decisions as the hold keeps them, 16 bytes each: the hash of the trace id, and a word.

    bits   0 to 19   T of the rule: how many hex digits `f` it begins with (4 bits), and the four digits behind them
          20 to 39   T_in in the same way
          40 to 41   whether R was stated by the trace, and then whether it was kept; 3: see below
          42 to 51   which rule: ten bits of a checksum of its name
          52 to 63   when, in units of 2**33 ns of CLOCK_MONOTONIC, modulo 2**12: about nine hours

A threshold of ours has at most four digits that count (`threshold_of`); what a head states may have more, and is then
as good as unknown: a late span that does not state it itself goes without.

Where bits 40 and 41 are 3 it is no decision on a trace: a late span was kept for itself, and the first word is its id.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

from drain.sampling.traces import DECIDED
from ringbuf._ringbuf import ffi, lib
from ringbuf.sampling import THRESHOLDS

if TYPE_CHECKING:
    from drain.sampling.rules import Rules

_DIGITS: Final = 14
_BITS: Final = 20
_NONE: Final = 0xFFFFF  # T is 2**56, T_in unknown: ten digits `f` are the most that four may follow
_RANDOM_AT: Final = 2 * _BITS
_RULE_AT: Final = _RANDOM_AT + 2
_RULE_BITS: Final = 10
_TIME_AT: Final = _RULE_AT + _RULE_BITS
_TIME_UNIT: Final = 33
_TIMES: Final = 1 << 64 - _TIME_AT
_OF_ID, _KEPT, _DROPPED, _ITSELF = 0, 1, 2, 3


def packed(decided: np.ndarray, rules: Rules) -> np.ndarray:
    """Return u8 of shape (n, 2) for decisions, of `DECIDED`, by these rules."""
    words = np.empty((len(decided), 2), np.uint64)
    given = np.ascontiguousarray(decided, DECIDED)
    ids = np.array([_id_of(rule.name) for rule in rules.rules], np.uint16)
    lib.rb_pack_decided(
        ffi.cast("rb_decided *", ffi.from_buffer("uint8_t[]", given.view(np.uint8))),
        len(given),
        ffi.from_buffer("uint16_t[]", ids),
        ffi.from_buffer("uint64_t[]", words),
    )
    return words


def unpacked(found: np.ndarray, rules: Rules, now_nano: int) -> np.ndarray:
    """Return decisions, of `DECIDED`, of what `packed` made; a rule that is no more is the default.

    Args:
        found: u8, shape (n, 2); what is said of spans is left out.
        rules: those of now; what was kept stays kept whatever they are.
        now_nano: CLOCK_MONOTONIC; a decision lies before it.
    """
    found = found[~_are_of_spans(found)]
    words = found[:, 1]
    decided = np.zeros(len(found), DECIDED)
    decided["hash"] = found[:, 0]
    decided["threshold"] = _long(words, THRESHOLDS)
    known = _long(words >> np.uint64(_BITS), -1)
    decided["known"] = known + np.uint64(1)
    random = words >> np.uint64(_RANDOM_AT) & np.uint64(3)
    decided["random"] = np.where(random == _KEPT, np.uint64(THRESHOLDS - 1), np.uint64(0))
    decided["random_is"] = np.where(random == _OF_ID, lib.RB_RANDOM_OF_ID, lib.RB_RANDOM_OUTCOME)
    rule_of = np.full(1 << _RULE_BITS, len(rules.rules) - 1, np.uint8)
    for at, rule in reversed(list(enumerate(rules.rules))):
        rule_of[_id_of(rule.name)] = at
    decided["rule"] = rule_of[words >> np.uint64(_RULE_AT) & np.uint64((1 << _RULE_BITS) - 1)]
    ago = ((now_nano >> _TIME_UNIT) - (words >> np.uint64(_TIME_AT)).astype(np.int64)) % _TIMES
    decided["at_nano"] = np.maximum((now_nano >> _TIME_UNIT) - ago, 0) << _TIME_UNIT
    decided["share"] = 1.0 - decided["threshold"] / THRESHOLDS
    return decided


def packed_spans(span_ids: np.ndarray) -> np.ndarray:
    """Return u8 of shape (n, 2) for late spans that are kept for themselves, by their ids as u8."""
    return np.stack([span_ids, np.full(len(span_ids), _ITSELF << _RANDOM_AT, np.uint64)], axis=1)


def unpacked_spans(found: np.ndarray) -> np.ndarray:
    """Return the ids, u8, of what `packed_spans` made; what is said of traces is left out."""
    span_ids: np.ndarray = found[_are_of_spans(found), 0]
    return span_ids


def _are_of_spans(found: np.ndarray) -> np.ndarray:
    are: np.ndarray = (found[:, 1] >> np.uint64(_RANDOM_AT) & np.uint64(3)) == _ITSELF
    return are


def _id_of(name: str) -> int:
    return zlib.crc32(name.encode()) & (1 << _RULE_BITS) - 1


def _long(words: np.ndarray, none: int) -> np.ndarray:
    short = words & np.uint64(_NONE)
    leading, digits = short >> np.uint64(16), short & np.uint64(0xFFFF)
    leading = np.minimum(leading, _DIGITS - 4)
    whole = ((np.uint64(1) << (np.uint64(4) * leading)) - np.uint64(1)) << np.uint64(16) | digits
    found: np.ndarray = whole << (np.uint64(4) * (np.uint64(_DIGITS - 4) - leading))
    return np.where(short == _NONE, np.uint64(none & 2**64 - 1), found)
