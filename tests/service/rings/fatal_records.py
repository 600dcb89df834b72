"""Planted in a drain and in its examiner: encoding certain records kills the process, as a fault of the encoder would.

FATAL, in the environment, is JSON: `numbers` of the fatal records; whether they kill only `together`; and `how`: abort,
kill (from outside), spin (for ever), attach (when the ring is attached, or an encoder made for what is held), look (as
rules look at them), gzip (as they are written straight to gzip), measure (as they are
measured for that), raise (an exception).
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from drain.otlp.encoder import Encoded, Encoder

FATAL = json.loads(os.environ.get("FATAL", "{}"))


def die(how: str) -> NoReturn:
    if how == "raise":
        raise ValueError("planted")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while how == "spin":
        pass
    os.abort()


def plant(fatal: dict[str, Any]) -> None:
    from drain.otlp.encoder import Encoder  # noqa: PLC0415 - as late as can be: this file is run before anything else, too

    numbers, how, together = set(fatal["numbers"]), fatal["how"], fatal.get("together", False)
    begin = Encoder.__init__

    def planted(encode: Callable[..., Encoded]) -> Callable[..., Encoded]:
        def planted_encode(self: Encoder, records: np.ndarray, *more: Any) -> Encoded:
            found = numbers & set(records["number"].tolist())
            if found and how not in {"attach", "look", "gzip", "measure"} and (found == numbers or not together):
                die(how)
            return encode(self, records, *more)

        return planted_encode

    def planted_begin(self: Encoder, layout: Any, resource: Any, root_threshold: int = 0) -> None:
        if how == "attach" and resource["service.name"] == "shop":
            os.abort()
        begin(self, layout, resource, root_threshold)

    for name in ("encode", "encode_json"):
        setattr(Encoder, name, planted(getattr(Encoder, name)))
    Encoder.__init__ = planted_begin  # type: ignore[method-assign]  # which is what planting is
    if how == "look":
        plant_look(numbers)
    if how == "gzip":
        plant_gzip(numbers)
    if how == "measure":
        plant_measure(numbers)


def plant_look(numbers: set[int]) -> None:
    from drain.sampling.seen_records import RecordLooker  # noqa: PLC0415 - as above

    look = RecordLooker.look

    def planted_look(self: RecordLooker, records: np.ndarray) -> Any:
        if numbers & set(records["number"].tolist()):
            os.abort()
        return look(self, records)

    RecordLooker.look = planted_look  # type: ignore[method-assign]  # which is what planting is


def plant_gzip(numbers: set[int]) -> None:
    from drain.otlp.direct_gzip import DirectGzip  # noqa: PLC0415 - as above

    add = DirectGzip.add

    def planted_add(self: DirectGzip, encoder: Encoder, records: np.ndarray) -> tuple[int, int]:
        if numbers & set(records["number"].tolist()):
            os.abort()
        return add(self, encoder, records)

    DirectGzip.add = planted_add  # type: ignore[method-assign]  # which is what planting is


def plant_measure(numbers: set[int]) -> None:
    from drain.otlp.encoder import Encoder  # noqa: PLC0415 - as above

    measure = Encoder.measure

    def planted_measure(self: Encoder, records: np.ndarray) -> tuple[int, int, int]:
        if numbers & set(records["number"].tolist()):
            os.abort()
        return measure(self, records)

    Encoder.measure = planted_measure  # type: ignore[method-assign]  # which is what planting is


if FATAL:
    plant(FATAL)
