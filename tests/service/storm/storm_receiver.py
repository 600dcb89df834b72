"""An OTLP/HTTP receiver that is killed and restarted: keeps each body before it answers, and answers as it likes.

argv: port, file, seed. Some requests are refused before they are kept (503, 429), some are kept and then get no answer:
the client must send those again.
"""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kept_bodies import KeptBodies
from tests.otlp_server import OtlpHttpServer, disconnect

if TYPE_CHECKING:
    from tests.otlp_server import OtlpHandler


def main() -> None:
    kept = KeptBodies(Path(sys.argv[2]))
    dice = random.Random(int(sys.argv[3]))  # noqa: S311 - a seed is what is wanted

    def meet(handler: OtlpHandler) -> None:
        chance = dice.random()
        if chance < 0.05:
            handler.answer(503)
        elif chance < 0.1:
            handler.answer(429, headers={"Retry-After": "0"})
        else:
            kept.add(handler.received.body)
            if chance < 0.15:
                disconnect(handler)  # kept, and the client does not know
            else:
                handler.answer(200)

    with OtlpHttpServer(int(sys.argv[1]), otherwise=meet, keeps=False):
        signal.pause()
