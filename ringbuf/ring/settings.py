"""What a ring is made from, and its making."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ringbuf._ringbuf import ffi, lib
from ringbuf.environment import is_true
from ringbuf.exceptions import RingCreateError
from ringbuf.layout.present_bits import present_bits
from ringbuf.ring.cgroup import memory_limit
from ringbuf.ring.directory import DEFAULT_MAX_BYTES, GROUP_MODE, check_room, default_ring_dir, ensure_ring_dir
from ringbuf.ring.resource import AttributeValue, build_resource, resource_to_json
from ringbuf.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringbuf.layout.layout import SpanLayout
    from ringbuf.sampling import RootSampler

DEFAULT_CAPACITY: Final = 8192
_ALWAYS: Final = 1 << 64
_AS_THE_DIRECTORY: Final = 0  # rb_config.file_mode
_PRIVATE_MODE: Final = 0o600
_MAX_LANES_BY_DEFAULT: Final = 8
_ADVICE: Final = {
    errno.ENOSPC: "the file system is full: free room in it, or give the emitter a smaller capacity",
    errno.EACCES: "the directory may not be written by this user: set RINGBUF_DIR to one that may",
    errno.EPERM: "the directory may not be written by this user: set RINGBUF_DIR to one that may",
    errno.EOPNOTSUPP: "the file system has no O_TMPFILE: use a tmpfs such as /dev/shm",
    errno.EISDIR: "the file system has no O_TMPFILE: use a tmpfs such as /dev/shm",
    errno.EFBIG: "RLIMIT_FSIZE is below the ring's size: raise it, or give the emitter a smaller capacity",
    errno.EMFILE: "this process has no file descriptor left",
    errno.ENOMEM: "memory is short: give the emitter a smaller capacity",
}


@dataclass(frozen=True, slots=True)
class RingSettings:
    """The arguments of an `Emitter`, kept for the rings that are made later."""

    service_name: str | None = None
    resource_attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    ring_dir: str | os.PathLike[str] | None = None
    capacity: int = DEFAULT_CAPACITY
    lanes: int | None = None
    mode: int | None = None
    emit_unsampled: bool = False
    decides_roots: bool = True  # else whoever made the spans did, by a sampler of which the ring can say nothing


def open_ring(producer: Any, settings: RingSettings, layout: SpanLayout, sampler: RootSampler) -> Path:
    """Make a ring in its directory, which is made where it is not there, and give it to a producer.

    Args:
        producer: an `rb_producer *`.
        settings: of the ring; what is None there is taken from the environment.
        layout: of its records.
        sampler: of its roots.

    Returns:
        The ring's file, an absolute path.

    Raises:
        ValueError, TypeError: a setting that cannot be; the message names it.
        RingCreateError: the ring cannot be made; the message says what to do.
    """
    if why := no_extension():
        raise RingCreateError(why)
    ring_dir = ring_dir_of(settings)
    ensure_ring_dir(ring_dir)
    max_bytes = _max_bytes()
    resource = build_resource(settings.service_name, settings.resource_attributes, version=__version__)
    resource_json = resource_to_json(resource)
    layout_json = layout.to_json()
    # The config only points to these: they must live until rb_open returns.
    strings = [
        ffi.new("char[]", text)
        for text in (os.fsencode(ring_dir), str(resource["service.name"]).encode(), layout_json, resource_json)
    ]
    lanes = _default_lanes() if settings.lanes is None else settings.lanes
    config = ffi.new(
        "rb_config *",
        {
            "ring_dir": strings[0],
            "service_name": strings[1],
            "layout_json": strings[2],
            "resource_json": strings[3],
            "layout_bytes": len(layout_json),
            "resource_bytes": len(resource_json),
            "slot_bytes": layout.slot_bytes,
            "span_name_count": len(layout.span_names),
            "lane_count": _in_range("lanes", lanes, 1, lib.RB_MAX_LANES),
            "capacity_slots": check_capacity(settings.capacity),
            "file_mode": _file_mode(settings.mode),
            "emit_unsampled": settings.emit_unsampled,
            "present_bits": present_bits(len(layout.attributes)),
            "root_always": sampler.bound == _ALWAYS and settings.decides_roots,
            "root_bound": min(sampler.bound, _ALWAYS - 1),
            "root_threshold": 1 + sampler.threshold if sampler.threshold is not None and settings.decides_roots else 0,
        },
    )
    ring_bytes = lib.rb_ring_bytes(config)
    if ring_bytes > 0:  # else rb_open says what is wrong
        check_room(ring_dir, ring_bytes, max_bytes)
    path = ffi.new("char[]", lib.RB_MAX_PATH_BYTES)
    error = ffi.new("rb_error *")
    if lib.rb_open(producer, config, path, error) != lib.RB_OK:
        raise _open_error(ring_dir, error)
    return Path(os.fsdecode(ffi.string(path)))


def no_extension() -> str:
    """Return why no ring can be made by this build of the package; empty where one can."""
    return getattr(lib, "WHY_NO_RING", "")


def is_required() -> bool:
    """Return whether a ring that cannot be made is an error: RINGBUF_REQUIRED is 1 or true."""
    return is_true("RINGBUF_REQUIRED", "1")


def check_arguments(settings: RingSettings) -> None:
    """Refuse what was given and cannot be.

    Raises:
        ValueError, TypeError: the message names the setting.
    """
    check_capacity(settings.capacity)
    if settings.lanes is not None:
        _in_range("lanes", settings.lanes, 1, lib.RB_MAX_LANES)
    if settings.mode is not None:
        _file_mode(settings.mode)


def check_capacity(capacity: int) -> int:
    """Return a number of slots if it is a power of two within the format's bounds.

    Raises:
        ValueError, TypeError: it is not.
    """
    _in_range("capacity", capacity, lib.RB_MIN_CAPACITY_SLOTS, lib.RB_MAX_CAPACITY_SLOTS)
    if capacity & (capacity - 1):
        raise ValueError(f"capacity: {capacity} is no power of two")
    return capacity


def check_environment(settings: RingSettings) -> None:
    """Find out what would be in the way of a ring, but its size, without making it.

    Raises:
        ValueError: a variable that cannot be.
        RingCreateError: of the directory; the message says what to do.
    """
    _max_bytes()
    _file_mode(settings.mode)
    if why := no_extension():
        raise RingCreateError(why)
    ring_dir = ring_dir_of(settings)
    ensure_ring_dir(ring_dir)
    try:
        os.close(os.open(ring_dir, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _create_error(ring_dir, error.strerror or "", error.errno) from error


def ring_dir_of(settings: RingSettings) -> Path:
    """Return where rings are made, an absolute path.

    Raises:
        TypeError: what was given is none.
        ValueError: it is empty, which as a path would be the working directory.
    """
    if settings.ring_dir is None:
        return default_ring_dir().absolute()
    try:
        path = os.fspath(settings.ring_dir)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise TypeError(f"ring_dir: {settings.ring_dir!r} is no path")
    if not path:
        raise ValueError("ring_dir: an empty path; leave it out for RINGBUF_DIR or /dev/shm/ringbuf-<uid>")
    return Path(path).absolute()


def _default_lanes() -> int:
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)
    if has_gil():
        return 1
    return min(len(os.sched_getaffinity(0)), _MAX_LANES_BY_DEFAULT)


def _max_bytes() -> int:
    """Return RINGBUF_MAX_BYTES; without it the default, or half of what the control group allows, if that is less."""
    text = os.environ.get("RINGBUF_MAX_BYTES")
    if not text:
        limit = memory_limit()
        return DEFAULT_MAX_BYTES if limit is None else min(DEFAULT_MAX_BYTES, limit // 2)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"RINGBUF_MAX_BYTES: {text!r} is no number of bytes") from None


def _in_range(name: str, value: int, low: int, high: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name}: {value!r} is no int")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is not between {low} and {high}")
    return value


def _file_mode(mode: int | None) -> int:
    name = "mode" if mode is not None else "RINGBUF_MODE"
    if mode is None:
        text = os.environ.get("RINGBUF_MODE")
        if not text:
            return _AS_THE_DIRECTORY
        try:
            mode = int(text, 8)
        except ValueError:
            raise ValueError(f"RINGBUF_MODE: {text!r} is no octal number") from None
    if not isinstance(mode, int):
        raise TypeError(f"{name}: {mode!r} is no int")
    if mode not in (_PRIVATE_MODE, GROUP_MODE):
        raise ValueError(f"{name}: {mode:#o}; a ring is 0o600, or 0o660 in the group form")
    return mode


def _open_error(ring_dir: Path, error: Any) -> Exception:
    detail = ffi.string(error.detail).decode(errors="replace")
    return ValueError(detail) if error.status == lib.RB_E_ARGUMENT else _create_error(ring_dir, detail, error.os_errno)


def _create_error(ring_dir: Path, detail: str, os_errno: int | None) -> RingCreateError:
    advice = _ADVICE.get(os_errno or 0)
    return RingCreateError(f"{ring_dir}: {detail}" + (f"; {advice}" if advice else ""))
