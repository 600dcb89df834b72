"""The state that C keeps for a producer, and what frees it."""

from __future__ import annotations

import os
from typing import Any

from ringbuf._ringbuf import ffi, lib
from ringbuf._site import own_producer
from ringbuf.exceptions import RingCreateError

__all__ = ["new_producer"]


def new_producer() -> tuple[Any, object]:
    """Make a producer without a ring.

    Returns:
        An `rb_producer *`, and its owner: the state is there for as long as somebody refers to that.

    Raises:
        RingCreateError: there is no memory for it.
    """
    state = lib.rb_producer_new()
    if state == ffi.NULL:
        raise RingCreateError(f"no memory for the emitter's private state: {os.strerror(ffi.errno)}")
    return state, own_producer(int(ffi.cast("uintptr_t", state)))
