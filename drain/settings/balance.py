"""How several endpoints share the spans."""

from __future__ import annotations

from typing import Literal

Balance = Literal["trace", "round-robin", "failover"]
