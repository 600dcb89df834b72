"""Which of many kill a process: found by halving, with a process for each guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")


def culprits(suspects: Sequence[T], survives: Callable[[Sequence[T]], bool]) -> Iterator[T]:
    """Yield those that kill by themselves, in their order.

    Args:
        suspects: that were seen to kill together, at least one.
        survives: whether a process that handles a part of them lives to the end of it.

    >>> list(culprits(range(8), lambda part: 5 not in part))
    [5]
    >>> list(culprits(range(8), lambda part: not {0, 7} <= set(part)))  # only both together: nobody by itself
    []
    """
    if len(suspects) == 1:
        yield suspects[0]
        return
    middle = len(suspects) // 2
    for part in (suspects[:middle], suspects[middle:]):
        if not survives(part):
            yield from culprits(part, survives)
