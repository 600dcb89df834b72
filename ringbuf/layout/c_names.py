"""Identifiers for C and C++ out of any text: attribute keys, span names and labels are free, identifiers are not."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Identifiers", "identifier"]

_NOT_IN_IDENTIFIERS: Final = re.compile(r"[^a-z0-9]+")
_MAX_CHARACTERS: Final = 48

# Keywords of C up to C23 and of C++ up to C++20, and the lower-case macros of glibc and of gcc's GNU dialects.
_TAKEN: Final = frozenset(
    """
    alignas alignof and and_eq asm assert atomic_cancel auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue
    decltype default delete do double dynamic_cast else enum errno explicit export extern false float for friend goto
    i386 if inline int linux long major makedev minor mutable namespace new noexcept not not_eq nullptr offsetof
    operator or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof
    static static_assert static_cast stderr stdin stdout struct switch template this thread_local throw true try
    typedef typeid typename typeof typeof_unqual union unix unsigned using virtual void volatile wchar_t while xor
    xor_eq
    """.split()  # noqa: SIM905 - a list literal of a hundred words is a hundred lines
)


def identifier(text: str) -> str:
    """Return the lower-case identifier that a text comes to; empty when it has no ASCII letter or digit.

    >>> identifier("grafos.lease-id"), identifier("2xx"), identifier("größe"), identifier("…")
    ('grafos_lease_id', 'n2xx', 'gr_e', '')
    """
    found = _NOT_IN_IDENTIFIERS.sub("_", text.lower()).strip("_")[:_MAX_CHARACTERS].rstrip("_")
    return f"n{found}" if found[:1].isdigit() else found


class Identifiers:
    """Hands out identifiers of one C namespace, none of them twice.

    Args:
        reserved: those that are taken already.
    """

    def __init__(self, *reserved: str) -> None:
        self._taken = set(reserved)

    def take(self, wanted: str, index: int) -> str:
        """Return `wanted`, with a number from `index` on where it is taken; `class` becomes `class_value`."""
        if wanted in _TAKEN:
            wanted += "_value"
        found = wanted
        number = index
        while found in self._taken:
            found = f"{wanted}_{number}"
            number += 1
        self._taken.add(found)
        return found
