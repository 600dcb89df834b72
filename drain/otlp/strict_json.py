"""OTLP/JSON for receivers that read it more strictly than it is written.

One value that such a receiver cannot read makes it refuse every span in the request (rotel does, with serde). The lists
that such receivers miss are always written (json_lines.py). What is looked for here cannot stand inside a JSON text,
where its quotes would be escaped; so most bodies are not even parsed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drain.otlp.json_lines import Json

_NON_FINITE = b'"doubleValue":"'  # a number has no quotes


def without_non_finite(body: bytes) -> tuple[bytes, int]:
    r"""Return the message without its NaN and infinite doubles, and how many there were.

    An attribute goes whole, and so does an element of an array or an entry of a map.

    Args:
        body: a line of `TracesData`, from the encoder.

    Example:
        >>> without_non_finite(b'{"attributes":[{"key":"a","value":{"doubleValue":"NaN"}}]}\n')
        (b'{"attributes":[]}\n', 1)
    """
    if _NON_FINITE not in body:
        return body, 0
    left_out = [0]
    message = _without(json.loads(body), left_out)
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n", left_out[0]


def _without(value: Json, left_out: list[int]) -> Json:
    if isinstance(value, dict):
        return {name: _without(item, left_out) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    kept = [item for item in value if not _is_non_finite(item)]
    left_out[0] += len(value) - len(kept)
    return [_without(item, left_out) for item in kept]


def _is_non_finite(item: Json) -> bool:
    if not isinstance(item, dict):
        return False
    inner = item.get("value", item)  # a KeyValue has its AnyValue in there
    return isinstance(inner, dict) and isinstance(inner.get("doubleValue"), str)
