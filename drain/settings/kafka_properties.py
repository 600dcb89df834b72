"""librdkafka's properties as they are written: a table of the file, and a variable for each.

In the file both forms of TOML are the same: `"sasl.password" = "…"` and `sasl.password = "…"`. A value that is to be
read from a file is `{ file = "/run/secrets/password" }`; as a variable it is the one with `_FILE` behind its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final, TypeAlias

from drain.settings.secrets_in_urls import HIDDEN

# Not KAFKA_: Kubernetes puts KAFKA_PORT and the like into every pod beside a service of that name.
VARIABLE_PREFIX: Final = "RINGBUF_DRAIN_KAFKA_"
_FIELD_PREFIX: Final = "kafka_"
FILE: Final = "file"
"""The only key of a table that stands for the contents of a file."""

_FILE_SUFFIX: Final = ".file"
# Properties of librdkafka that end like our word for a file.
_END_SO: Final = frozenset(
    {"sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.jwt.template.file"}
)
_SECRET: Final = re.compile(r"password|passphrase|secret|\.pem$|oauthbearer\.config|token|\.jaas\.")

Value: TypeAlias = str | Mapping[str, str]
"""Of a property: as librdkafka takes it, or `{"file": path}`."""


def from_variables(environ: Mapping[str, str], fields: Collection[str]) -> tuple[dict[str, Value], list[str]]:
    """Return the properties that variables give, and the names of these.

    Args:
        environ: all variables.
        fields: of the settings: what is one of them is no property.

    Example:
        >>> from_variables({"RINGBUF_DRAIN_KAFKA_SASL_PASSWORD_FILE": "/run/p"}, ())
        ({'sasl.password': {'file': '/run/p'}}, ['RINGBUF_DRAIN_KAFKA_SASL_PASSWORD_FILE'])
    """
    found: dict[str, Value] = {}
    names = []
    for variable in sorted(environ):
        rest = variable[len(VARIABLE_PREFIX) :].lower()
        if not is_variable(variable) or _FIELD_PREFIX + rest in fields or not environ[variable]:
            continue
        name = rest.replace("_", ".")
        if name.endswith(_FILE_SUFFIX) and name not in _END_SO:
            found[name.removesuffix(_FILE_SUFFIX)] = {FILE: environ[variable]}
        else:
            found[name] = environ[variable]
        names.append(variable)
    return found, names


def is_variable(variable: str) -> bool:
    """Return whether a variable may be that of a property."""
    return variable.upper().startswith(VARIABLE_PREFIX) and len(variable) > len(VARIABLE_PREFIX)


def flat(table: object) -> object:
    """Return a table with one key for each property, and librdkafka's own form of values; no table as it is.

    Raises:
        ValueError: a value is a list or the like.

    Example:
        >>> flat({"sasl": {"password": {"file": "/run/p"}}, "linger.ms": 20, "enable": {"idempotence": True}})
        {'sasl.password': {'file': '/run/p'}, 'linger.ms': '20', 'enable.idempotence': 'true'}
    """
    return dict(_flat(table, "")) if isinstance(table, Mapping) else table


def _flat(table: Mapping[str, object], before: str) -> Iterator[tuple[str, Value]]:
    for key, value in table.items():
        name = f"{before}{key}".lower()
        match value:
            case {"file": str(path), **others} if not others and f"{name}{_FILE_SUFFIX}" not in _END_SO:
                yield name, {FILE: path}
            case Mapping():
                yield from _flat(value, f"{name}.")
            case bool():
                yield name, str(value).lower()
            case str() | int() | float():
                yield name, str(value)
            case _:
                raise ValueError(f"{name}: a text, a number, true or false, or {{ file = PATH }}")


def shown(properties: Mapping[str, Value]) -> dict[str, Value]:
    """Return the properties as they may be shown: without what is a secret.

    >>> shown({"sasl.password": "p", "ssl.key.pem": "k", "acks": "all"})
    {'sasl.password': '(hidden)', 'ssl.key.pem': '(hidden)', 'acks': 'all'}
    """
    return {name: HIDDEN if isinstance(value, str) and is_secret(name) else value for name, value in properties.items()}


def is_secret(name: str) -> bool:
    """Return whether the value of a property is for nobody's eyes."""
    return _SECRET.search(name) is not None
