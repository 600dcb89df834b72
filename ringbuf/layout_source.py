"""Finds a layout: in a Python file or module, in the JSON of a layout, or in the header of a ring."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ringbuf._ringbuf import lib
from ringbuf.layout.layout import SpanLayout
from ringbuf.ring.attaching import attach, document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["load_layout"]

_RING_MAGIC: Final = b"ringbuf\0"


def load_layout(source: str) -> SpanLayout:
    """Return the layout that a source names.

    Args:
        source: `file.py` or `package.module`, which is run and has one SpanLayout among its globals, or has it as the
            attribute that follows a colon (`file.py:LAYOUT`, `package.module:Store.layout`); the path of a layout's
            JSON; or the path of a ring.

    Raises:
        ValueError: there is no layout, there are several, its JSON is none (LayoutError), or the Python code raises:
            then that is the cause.
        RingFormatError: a ring that is unsound.
        OSError: the file cannot be read.

    >>> load_layout("ringbuf.dataplane:DATAPLANE_LAYOUT").scope_name
    'grafos.dataplane'
    """
    place, _, attribute = source.partition(":")
    path = Path(place)
    if path.suffix == ".py":
        return _pick(_globals_of_file(path), attribute, source)
    if Path(source).is_file():
        return _of_file(Path(source))
    if all(part.isidentifier() for part in place.split(".")):
        with _on_sys_path(Path.cwd()):
            return _pick(_globals_of(place, lambda: vars(importlib.import_module(place))), attribute, source)
    raise ValueError(f"{source}: no such file, and no name of a module")


def _globals_of_file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    # As `python FILE` does, so that it finds what lies beside it.
    with _on_sys_path(path.parent.resolve()):
        return _globals_of(str(path), lambda: runpy.run_path(str(path), run_name=path.stem))


def _globals_of(place: str, run: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return run()
    except (Exception, SystemExit) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{place}{_line_in(place, error)}: {type(error).__name__}: {what}") from error


def _line_in(place: str, error: BaseException) -> str:
    """Say in which line of the file it was; empty where it was in none of its lines."""
    if isinstance(error, SyntaxError) and error.filename == place:
        return f":{error.lineno}"
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == place]
    return f":{lines[-1]}" if lines else ""


def _of_file(path: Path) -> SpanLayout:
    """Read a ring's header, or JSON: never more of the file than a layout can have."""
    most: int = lib.RB_MAX_JSON_BYTES
    with path.open("rb") as file:
        data = file.read(len(_RING_MAGIC))
        if data == _RING_MAGIC:
            return _of_ring(path)
        data += file.read(most)
    if len(data) > most:
        raise ValueError(f"{path}: larger than a layout can be ({most} bytes)")
    return SpanLayout.from_json(data)


def _pick(names: Mapping[str, Any], attribute: str, source: str) -> SpanLayout:
    if not attribute:
        found = {name: value for name, value in names.items() if isinstance(value, SpanLayout)}
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        if not found:
            raise ValueError(f"{source}: no SpanLayout among its globals; name one: {source}:ATTRIBUTE")
        raise ValueError(f"{source}: several layouts; name one: {', '.join(f'{source}:{name}' for name in found)}")
    first, *rest = attribute.split(".")
    try:
        value = names[first]
        for part in rest:
            value = getattr(value, part)
    except (KeyError, AttributeError):
        raise ValueError(f"{source}: no such attribute") from None
    if not isinstance(value, SpanLayout):
        raise ValueError(f"{source}: a {type(value).__name__}, no SpanLayout")  # noqa: TRY004 - the source is the value
    return value


def _of_ring(path: Path) -> SpanLayout:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        consumer = attach(descriptor, lib.RB_OBSERVE, path)
    finally:
        os.close(descriptor)
    try:
        return SpanLayout.from_json(document(lib.rb_consumer_header(consumer), "layout"))
    finally:
        lib.rb_consumer_free(consumer)


@contextmanager
def _on_sys_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
