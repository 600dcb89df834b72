"""What the drain that has a spool says of its backend: asked at its /readyz, where it tells it from memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Final

from drain.settings.address import Address
from drain.settings.settings import LISTEN_OFF

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS: Final = 5.0  # one that hangs does not keep the tables from being shown
_MOST_BYTES: Final = 1 << 20
_MOST_SECONDS: Final = 1e9
_OF_ANY_HOST: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, and not listened on


@dataclass(frozen=True, slots=True)
class BackendLook:
    """What a drain said.

    Attributes:
        note: why it could not be asked; empty: it said the rest.
        next_attempt_seconds: until it tries again; 0: now, or nothing waits for it.
        failing_seconds: for how long the backend has taken nothing; 0: it takes what it is sent.
        last_error: what it said last, while it takes nothing.
        endpoints: of several, what each said last whose last attempt came to nothing.
    """

    note: str = ""
    next_attempt_seconds: float = 0.0
    failing_seconds: float = 0.0
    last_error: str = ""
    endpoints: Mapping[str, str] | None = None


def ask_drain(listen: str, process: int) -> BackendLook:
    """Ask the drain that has a spool; it answers from memory, and nothing of it waits for that.

    Args:
        listen: where it listens, as its setting has it.
        process: its number; 0: it has none here.

    Raises:
        ValueError: the setting is no address.
    """
    if listen == LISTEN_OFF:
        return BackendLook("it listens nowhere (--listen off): its log tells them")
    if not process:
        return BackendLook("it is in another container: its /readyz and its log tell them")
    elsewhere = "name its --listen; its log tells them, too"
    host, port = Address.parse(listen)
    connection = HTTPConnection(_OF_ANY_HOST.get(host, host), port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = json.loads(connection.getresponse().read(_MOST_BYTES))
        if answer["pid"] != process:
            return BackendLook(f"another drain, process {int(answer['pid'])}, listens at {listen}: {elsewhere}")
        return _read(answer["backend"])
    except OSError as error:
        return BackendLook(f"it does not answer at {listen} ({error.strerror or error}): {elsewhere}")
    except (HTTPException, ValueError, TypeError, KeyError, RecursionError):
        return BackendLook(f"what answers at {listen} is no drain of this version: {elsewhere}")
    finally:
        connection.close()


def _read(said: Any) -> BackendLook:
    return BackendLook(
        next_attempt_seconds=_seconds(said["next_attempt_seconds"]),
        failing_seconds=_seconds(said["failing_seconds"]),
        last_error=str(said["last_error"]),
        endpoints={str(name): str(error) for name, error in dict(said["endpoints"]).items()},
    )


def _seconds(number: Any) -> float:
    seconds = float(number)
    if not 0 <= seconds <= _MOST_SECONDS:
        raise ValueError("no time that a drain waits")
    return seconds
