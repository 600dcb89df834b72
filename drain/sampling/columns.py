"""What a condition asks of a layout's attribute, over a column of records at once; `AttributeTest.holds` of each value.

Values are those that OTLP has: a u64 above 2**63 - 1 is the text of its digits, a hex its digits, and raw bytes meet no
condition.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ringbuf.layout.attribute_types import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from drain.sampling.rules import AttributeTest
    from ringbuf.layout.attribute import LayoutField

    Test = Callable[[np.ndarray], np.ndarray]

_MAX_INT64: Final = (1 << 63) - 1
_MOST_DIGITS: Final = 20  # of a u64
_MENDED: Final = "�"


def column_test(field: LayoutField, test: AttributeTest) -> Test:
    """Return the function from records of the layout to which of them have the attribute, and as is asked."""
    holds = _value_test(field, test)
    bit = np.uint32(1 << field.index)

    def of_records(records: np.ndarray) -> np.ndarray:
        found: np.ndarray = holds(records[field.attribute.key]) & ((records["present"] & bit) != 0)
        return found

    return of_records


def _value_test(field: LayoutField, test: AttributeTest) -> Test:
    attribute = field.attribute
    made: Test = _none  # raw bytes
    match attribute.row.shape:
        case Shape.LABEL:
            made = partial(_looked_up, np.array([test.holds(label) for label in attribute.labels or ()]))
        case Shape.NUMBER if attribute.row.python is bool:
            made = partial(_of_bools, np.array([test.holds(value=False), test.holds(value=True)]))
        case Shape.NUMBER if attribute.row.python is float:
            made = _float_test(test)
        case Shape.NUMBER:
            made = _integer_test(np.dtype("<" + field.format), test)
        case Shape.EXACT:
            wanted = [_digits(one) for one in test.values if isinstance(one, str)]
            made = partial(_is_one_of, [one for one in wanted if one is not None and len(one) == field.nbytes])
        case Shape.INLINE if attribute.row.python is str:
            made = _text_test(test)
        case _:
            pass
    return made


def _none(values: np.ndarray) -> np.ndarray:
    return np.zeros(len(values), np.bool_)


def _looked_up(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    found: np.ndarray = table[values]
    return found


def _of_bools(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    return _looked_up(table, (values.view(np.uint8) != 0).astype(np.intp))  # who wrote the byte may have written any


# ---- numbers ----


def _integer_test(dtype: np.dtype[Any], test: AttributeTest) -> Test:
    least, most = int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), _MAX_INT64)
    if not test.values:
        low, high = _whole_bounds(test)
        return partial(_is_between, max(low, least), min(high, most))
    numbers = [whole for one in test.values if (whole := _whole(one)) is not None and least <= whole <= most]
    if dtype == np.uint64:
        numbers += [int(one) for one in test.values if isinstance(one, str) and _is_large(one)]
    wanted = np.array(numbers, dtype)
    return lambda values: np.isin(values, wanted)


def _whole_bounds(test: AttributeTest) -> tuple[int, int]:
    """Return the least and the greatest integer within the bounds."""
    low, high = -(1 << 64), 1 << 64
    if test.at_least is None and test.at_most is None:
        return low, high
    if any(bound is not None and math.isnan(bound) for bound in (test.at_least, test.at_most)):
        return 0, -1
    if test.at_least is not None and test.at_least > low:
        low = math.ceil(min(test.at_least, high + 1))
    if test.at_most is not None and test.at_most < high:
        high = math.floor(max(test.at_most, low - 1))
    return low, high


def _is_between(low: int, high: int, values: np.ndarray) -> np.ndarray:
    if low > high:
        return _none(values)
    found: np.ndarray = (values >= values.dtype.type(low)) & (values <= values.dtype.type(high))
    return found


def _whole(one: object) -> int | None:
    if isinstance(one, bool) or not (isinstance(one, int) or (isinstance(one, float) and one.is_integer())):
        return None
    return int(one)


def _is_large(one: str) -> bool:
    """Whether it is what OTLP has for a u64 that fits no int64."""
    is_number = one.isascii() and one.isdigit() and len(one) <= _MOST_DIGITS
    return is_number and _MAX_INT64 < int(one) < 1 << 64 and one[0] != "0"


def _float_test(test: AttributeTest) -> Test:
    if test.values:
        numbers = [one for one in test.values if isinstance(one, int | float) and not isinstance(one, bool)]
        wanted = np.array([float(one) for one in numbers if abs(one) < 1 << 1023 and float(one) == one])
        return lambda values: np.isin(values, wanted)
    low = -math.inf if test.at_least is None else test.at_least
    high = math.inf if test.at_most is None else test.at_most
    return lambda values: (values >= low) & (values <= high)


# ---- texts ----


def _digits(one: str) -> bytes | None:
    is_hex = one.isascii() and one == one.lower() and not one[:1].isspace()
    try:
        return bytes.fromhex(one) if is_hex and " " not in one else None
    except ValueError:
        return None


def _is_one_of(wanted: Iterable[bytes], values: np.ndarray) -> np.ndarray:
    found = _none(values)
    for one in wanted:
        found |= (values[:, : len(one)] == np.frombuffer(one, np.uint8)).all(axis=1)
    return found


def _text_test(test: AttributeTest) -> Test:
    texts = {one for one in test.values if isinstance(one, str)}
    if any(_MENDED in text for text in texts):  # also what is no UTF-8 is mended to this
        return lambda values: np.array([_text_of(value) in texts for value in values], np.bool_)
    wanted = [text.encode(errors="surrogatepass") for text in texts]

    def is_one(values: np.ndarray) -> np.ndarray:
        found = _none(values)
        lengths, data = values["length"], values["data"]
        for one in wanted:
            if len(one) <= data.shape[1]:
                found |= (lengths == len(one)) & _is_one_of([one], data)
        return found

    return is_one


def _text_of(value: np.void) -> str:
    text: str = value["data"][: value["length"]].tobytes().decode(errors="replace")
    return text
