"""The resource of a ring: the attributes of the process that fills it, and their JSON in the ring's header."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from ringbuf.log import warn_aside
from ringbuf.strict_json import json_object

Scalar: TypeAlias = str | bool | int | float
AttributeValue: TypeAlias = "Scalar | Sequence[AttributeValue] | Mapping[str, AttributeValue] | None"
"""What JSON and OTLP's AnyValue both hold: within at most 15 others."""

SERVICE_NAME: Final = "service.name"

_MAX_DEPTH: Final = 16  # of values in values, as the drain takes them in a record
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_INSTANCES: Final[dict[int, str]] = {}  # by pid; those of the processes before a fork stay
# A hostile key must not fill the log that quotes it.
_QUOTED_CHARACTERS: Final = 64


def build_resource(
    service_name: str | None,
    resource_attributes: Mapping[str, AttributeValue] | None,
    *,
    version: str,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, AttributeValue]:
    """Return the resource attributes of this process, sequences as lists.

    The first that names a key wins: `service_name`, `resource_attributes`, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    what is found out here. An empty service name counts as none, and an empty variable as unset. A pair of
    OTEL_RESOURCE_ATTRIBUTES that cannot be read is warned about on the logger `ringbuf` and skipped, as the Python SDK
    does (the specification would rather discard the whole variable).

    Args:
        service_name: `service.name`; None leaves it to the other sources.
        resource_attributes: the caller's own attributes.
        version: `telemetry.sdk.version`.
        environ: where the two variables are looked up.

    Raises:
        TypeError: an attribute is no str, bool, int, float, None, sequence or mapping of these, or the service name is
            no str.
        ValueError: an attribute has an empty name, an int beyond int64, a NaN or infinity, a lone surrogate, or more
            than 15 values around a value.

    Source: OpenTelemetry specification, "Resource SDK"; semantic conventions, "Service" and "Telemetry SDK".

    >>> build_resource("shop", {"shop.tills": 3}, version="1.0", environ={})["shop.tills"]
    3
    """
    given = given_attributes(resource_attributes)
    if service_name is not None:
        given[SERVICE_NAME] = service_name
    given = _validated(given)
    given_name = given.get(SERVICE_NAME, "")
    if not isinstance(given_name, str):
        raise TypeError(f"resource attribute {SERVICE_NAME!r} must be a str, not {type(given_name).__name__}")
    from_environment = _attributes_of(environ)
    name = given_name or from_environment.get(SERVICE_NAME) or _unknown_service()
    found: dict[str, AttributeValue] = {
        "service.instance.id": _instance_id(),
        "process.pid": os.getpid(),
        "host.name": _as_utf8(os.uname().nodename),
        "telemetry.sdk.name": "ringbuf",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": version,
    }
    return {**found, **from_environment, **given, SERVICE_NAME: name}


def given_attributes(attributes: Mapping[str, AttributeValue] | None) -> dict[str, AttributeValue]:
    """Return the attributes that a caller has given, as they are now.

    Raises:
        TypeError: they are no mapping.
    """
    if attributes is not None and not isinstance(attributes, Mapping):
        raise TypeError(f"resource_attributes: {attributes!r} is no mapping of names to values")
    return dict(attributes or {})


def resource_to_json(resource: Mapping[str, AttributeValue]) -> bytes:
    """Return a resource as compact UTF-8 JSON, which `resource_from_json` reads back equal.

    Raises:
        TypeError: as `build_resource`.
        ValueError: as `build_resource`.

    >>> resource_to_json({"service.name": "shop", "load": 1.0})
    b'{"service.name":"shop","load":1.0}'
    """
    text = json.dumps(_validated(resource), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def resource_from_json(data: bytes) -> dict[str, AttributeValue]:
    """Return the resource that a ring's header holds; `data` may come from anybody.

    Args:
        data: UTF-8 JSON: one object.

    Raises:
        ValueError: it is anything else, with the reason; also for a name that is empty or given twice, an integer
            beyond int64, a number that is not finite, a lone surrogate, and more than 15 values around a value.

    >>> resource_from_json(b'{"load":1.0}')
    {'load': 1.0}
    """
    try:
        parsed = json_object(data)
    except ValueError as error:
        raise ValueError(f"resource: {error}") from None
    try:
        return _validated(parsed)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _validated(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {_valid_name(name): _valid_value(name, value) for name, value in attributes.items()}


def _valid_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a resource attribute's name must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError("a resource attribute's name must not be empty")
    return _valid_text(name, name)


def _valid_value(name: str, value: object, depth: int = 1) -> AttributeValue:
    if isinstance(value, Mapping):
        _check_depth(name, depth)
        return {_valid_name(key): _valid_value(name, item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        _check_depth(name, depth)
        return [_valid_value(name, item, depth + 1) for item in value]
    return None if value is None else _valid_scalar(name, value)


def _check_depth(name: str, depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise ValueError(f"resource attribute {_quoted(name)} is nested too deeply")


def _valid_scalar(name: str, value: object) -> Scalar:
    """Return a value as its plain type, so that an enumeration's member or a numpy float is written as what it is."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _valid_text(name, value)
    if isinstance(value, int):
        if not _INT64_MIN <= value <= _INT64_MAX:
            raise ValueError(f"resource attribute {_quoted(name)} is an int beyond int64")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"resource attribute {_quoted(name)} is {value}, which JSON cannot hold")
        return float(value)
    raise TypeError(
        f"resource attribute {_quoted(name)} must be str, bool, int, float, None, or a sequence or mapping of these, "
        f"not {type(value).__name__}",
    )


def _valid_text(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"resource attribute {_quoted(name)} holds a lone surrogate, which has no UTF-8") from None
    return str.__str__(text)


def _quoted(name: str) -> str:
    return repr(name[:_QUOTED_CHARACTERS])


def _attributes_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Read `key1=value1,key2=value2`, percent-decoded (OpenTelemetry specification, "Resource SDK")."""
    attributes = {}
    variable = environ.get("OTEL_RESOURCE_ATTRIBUTES")
    for pair in variable.split(",") if variable else ():
        name, separator, value = pair.partition("=")
        name = _percent_decoded(name.strip())
        if name and separator:
            attributes[name] = _percent_decoded(value.strip())
        else:
            warn_aside("OTEL_RESOURCE_ATTRIBUTES: %r is not key=value and is skipped", pair)
    if service_name := environ.get("OTEL_SERVICE_NAME"):
        attributes[SERVICE_NAME] = _as_utf8(service_name)
    return attributes


def _percent_decoded(text: str) -> str:
    if "%" in text:
        from urllib.parse import unquote  # noqa: PLC0415 - 8 ms, for what few environments hold

        text = unquote(text)
    return _as_utf8(text)


def _as_utf8(text: str) -> str:
    """Replace each byte that the system's text had and UTF-8 has not: it arrives here as a lone surrogate."""
    # UTF-16, where a lone surrogate is one unit: through UTF-8 each would become three replacement characters.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _instance_id() -> str:
    """Return the same for all rings of a process, and another one in a forked child.

    A ring that takes the place of a removed one goes on with the same instance of the service.
    """
    pid = os.getpid()
    found = _INSTANCES.get(pid)
    return found if found is not None else _INSTANCES.setdefault(pid, random_uuid())


def _unknown_service() -> str:
    executable = _as_utf8((sys.executable or "").rpartition("/")[2])
    return f"unknown_service:{executable}" if executable else "unknown_service"


def random_uuid() -> str:
    """Return a version 4 UUID (RFC 9562, section 5.4), without the 4 ms that importing `uuid` takes."""
    octets = bytearray(os.urandom(16))
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    digits = octets.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
