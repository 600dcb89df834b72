"""Prometheus label names for attribute keys: valid, readable, and different within one layout."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVICE_LABEL: Final = "service"
SPAN_NAME_LABEL: Final = "span_name"

# `le` and `quantile` belong to Prometheus's own types; `job` and `instance` are what a scrape adds.
_RESERVED: Final = frozenset({SERVICE_LABEL, SPAN_NAME_LABEL, "le", "quantile", "job", "instance"})
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")
_MAX_CHARACTERS: Final = 120


def label_names(keys: Iterable[str]) -> dict[str, str]:
    """Return a label name for each attribute key of one layout.

    A name depends on the set of keys, not on their order: dots and whatever else no name may hold become underscores;
    of keys that would share a name, the first in the alphabet gets it, the others with their CRC-32 behind it.

    Args:
        keys: different from each other.

    Source: Prometheus data model, "Metric names and labels"; names that begin with two underscores are Prometheus's.

    >>> label_names(["grafos.operation", "grafos.outcome", "le"])
    {'grafos.operation': 'grafos_operation', 'grafos.outcome': 'grafos_outcome', 'le': 'le_b549a383'}
    """
    taken = set(_RESERVED)
    names = dict.fromkeys(keys, "")
    for key in sorted(names):
        name = _plain(key)
        if name in taken:
            name += f"_{zlib.crc32(key.encode()):08x}"
        while name in taken:  # by a key that looks like a name with a CRC
            name += "_"
        taken.add(name)
        names[key] = name
    return names


def label_value(text: str) -> str:
    """Return `text` as a label's value, cut to 120 characters: names of services come out of rings.

    >>> label_value("shop")
    'shop'
    """
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _plain(key: str) -> str:
    name = _NOT_IN_A_NAME.sub("_", key[:_MAX_CHARACTERS])
    return name if name[0].isalpha() else f"attribute_{name}"
