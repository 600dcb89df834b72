"""How several endpoints share the spans."""

from __future__ import annotations

from typing import Literal

Balance = Literal["trace", "collector-ring", "round-robin", "failover"]
