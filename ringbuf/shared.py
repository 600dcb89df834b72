"""The emitter that a whole process shares: for libraries, which cannot know who configures it and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringbuf.emitter import SHARED, Emitter
from ringbuf.ring.resource import given_attributes
from ringbuf.ring.settings import DEFAULT_CAPACITY, RingSettings

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ringbuf.layout.layout import SpanLayout
    from ringbuf.ring.resource import AttributeValue

__all__ = ["SHARED", "configure", "get_emitter"]


def get_emitter() -> Emitter:
    """Return the process's shared emitter.

    Without `configure` it makes its ring at its first span, from OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and
    RINGBUF_DIR. If that fails, one warning is logged, and spans are counted as local.
    """
    found = SHARED.get(None)
    return found if found is not None else SHARED.setdefault(None, Emitter.unopened())


def configure(
    service_name: str | None = None,
    *,
    resource_attributes: Mapping[str, AttributeValue] | None = None,
    ring_dir: str | os.PathLike[str] | None = None,
    layout: SpanLayout | None = None,
    capacity: int = DEFAULT_CAPACITY,
    lanes: int | None = None,
    mode: int | None = None,
    emit_unsampled: bool = False,
) -> Emitter:
    """Configure the shared emitter and make its ring; returns it. Sites that were bound before go on with it.

    Once is enough; the same arguments again change nothing, so that a factory of applications may call it each time.

    A forked child may configure anew, before its first span: a server's worker need not be what its parent is.

    Args:
        service_name: as for `Emitter`, and so are the others.
        resource_attributes: the same.
        ring_dir: the same.
        layout: the same.
        capacity: the same.
        lanes: the same.
        mode: the same.
        emit_unsampled: the same.

    Raises:
        RuntimeError: it has a ring in this process already, by other arguments (close it first), or sites rely on its
            layout.
        ValueError, TypeError, RingCreateError: as `Emitter`.
    """
    found = get_emitter()
    if found.closed:
        # Sites of the closed one stay closed; those bound from now on use the new one.
        found = Emitter.unopened(layout)
    settings = RingSettings(
        service_name, given_attributes(resource_attributes), ring_dir, capacity, lanes, mode, emit_unsampled
    )
    found.configure(layout, settings)
    SHARED[None] = found
    return found
