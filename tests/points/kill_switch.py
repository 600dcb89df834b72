"""Kills the process at a named step of the drain's Python code: the code itself holds nothing of it.

A step is `dotted.name/before` or `dotted.name/after`, of a function or method; `/after:3` is the third time.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def owner_of(dotted: str) -> tuple[Any, str]:
    """Return the module or class that a function is looked up in, and its name there.

    Raises:
        LookupError: there is no such thing.
    """
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:-1]:
            owner = vars(owner).get(part)
            if owner is None:
                break
        else:
            if callable(vars(owner).get(parts[-1])):
                return owner, parts[-1]
    raise LookupError(f"{dotted}: no function")


def arm(step: str) -> None:
    """Let this process die at a step."""
    dotted, _, moment = step.partition("/")
    when, _, nth = moment.partition(":")
    owner, name = owner_of(dotted)
    function: Callable[..., Any] = vars(owner)[name]
    calls = itertools.count(1)

    @functools.wraps(function)
    def dying(*arguments: Any, **keywords: Any) -> Any:
        is_last = next(calls) == int(nth or 1)
        if is_last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **keywords)
        if is_last and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)
