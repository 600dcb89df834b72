"""What an exception is in OpenTelemetry's attributes: the keys, its type and what it says."""

from __future__ import annotations

from typing import Final

__all__ = ["ERROR_MESSAGE", "ERROR_TYPE", "error_message", "error_type"]

ERROR_TYPE: Final = "error.type"
ERROR_MESSAGE: Final = "error.message"

_MAX_CHARACTERS: Final = 4096


def error_type(exception: object) -> str:
    """Return the name of an exception's class with its module; the built-in ones are known without it.

    Source: OpenTelemetry semantic conventions, "Recording errors"; the form is the Python SDK's `exception.type`.

    >>> error_type(KeyError("k"))
    'KeyError'
    """
    kind = exception if isinstance(exception, type) else type(exception)
    return kind.__qualname__ if kind.__module__ in (None, "builtins") else f"{kind.__module__}.{kind.__qualname__}"


def error_message(exception: object) -> str | None:
    """Return what an exception says, as much as a record could hold; None where it says nothing, or fails to."""
    try:
        return None if isinstance(exception, type) else str(exception)[:_MAX_CHARACTERS] or None
    except Exception:  # noqa: BLE001 - an application's own __str__: the span goes on without
        return None
