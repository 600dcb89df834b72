"""What stands behind a gateway of the fleet: an OTLP/HTTP backend that writes each body down before it answers.

argv: port, file. It is never killed: what a gateway has handed on is kept.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kept_bodies import KeptBodies
from tests.otlp_server import OtlpHttpServer, success

if TYPE_CHECKING:
    from tests.otlp_server import OtlpHandler


def main() -> None:
    kept = KeptBodies(Path(sys.argv[2]))
    answer = success()

    def keep(handler: OtlpHandler) -> None:
        kept.add(handler.received.body)
        answer(handler)

    with OtlpHttpServer(int(sys.argv[1]), otherwise=keep, keeps=False):
        signal.pause()
