"""Site: a place that emits spans of any layout, with everything constant bound once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi
from ringbuf.packing import compile_packer, pack_constants
from ringbuf.span import CURRENT, NULL, ActiveSpan, RemoteParent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ringbuf.emitter import Emitter

__all__ = ["Site", "SiteSpan"]

_STATUS_UNSET: Final = 0
_STATUS_ERROR: Final = 2


class Site:
    """A place that emits spans of one name. Made by `Emitter.site`.

    Attributes:
        emit: `emit(start_unix_nano, end_unix_nano, *values) -> bool`, positional: writes a span under the enclosing
            `with` span, or a root, and returns whether it was written. None as a value: the attribute is absent. Raises
            TypeError or ValueError, naming the attribute, for a value that does not fit.

    >>> import tempfile, ringbuf
    >>> layout = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])
    >>> with tempfile.TemporaryDirectory() as directory, ringbuf.Emitter("kv", ring_dir=directory, layout=layout) as e:
    ...     get = e.site("get", varying=["bytes"])
    ...     get.emit(1, 2, 4096)
    ...     with get.span() as span:
    ...         span["bytes"] = 512
    True
    """

    def __init__(self, emitter: Emitter, name: str, constants: Mapping[str, object], varying: Sequence[str]) -> None:
        for key in varying:
            if key in constants:
                raise ValueError(f"attribute {key!r} is both constant and varying")
        self.emitter = emitter
        emitter.is_bound = True
        self.packer = compile_packer(emitter.layout, varying, on_cut=partial(hot.rb_count_truncated, emitter.producer))
        self._record = ffi.new("uint8_t[]", pack_constants(emitter.layout, name, constants))
        self.pointer = ffi.new(
            "rb_site *",
            {
                "producer": emitter.producer,
                "record": ffi.cast("rb_record *", self._record),
                "slot_bytes": emitter.layout.slot_bytes,
                "packed_bytes": self.packer.packed_bytes,
                "field_count": len(self.packer.fields),
                "fields": [tuple(field) for field in self.packer.fields],
            },
        )
        self.indices = {key: index for index, key in enumerate(varying)}
        self.emit = self._bind_emit()

    def _bind_emit(self) -> Callable[..., bool]:
        # A closure over locals: a method would look each of these up at every call.
        pack = self.packer.pack
        packed_bytes = self.packer.packed_bytes
        site, keep = self.pointer, self._record
        c_emit = hot.rb_emit_packed
        current = CURRENT.get
        settle = self.emitter.settle

        def emit(start_unix_nano: int, end_unix_nano: int, *values: Any) -> bool:
            packed = pack(start_unix_nano, end_unix_nano, *values)
            enclosing = current()
            parent = NULL if enclosing is None else enclosing.pointer()
            result = c_emit(site, parent, packed, packed_bytes)
            if result == 1:
                return True
            return result != 0 and settle(result, c_emit, site, parent, packed, packed_bytes)

        emit.__dict__["keep"] = keep  # the site points to it
        return emit

    def span(self, *values: Any, traceparent: str | None = None) -> SiteSpan:
        """Return a span for a `with` block; an exception that passes makes its status ERROR.

        Args:
            values: the first of the varying values; those that are missing are absent until they are set as
                `span[key] = value`.
            traceparent: the header of the caller in another process, which becomes the parent (an invalid one starts a
                new trace, as W3C has it). None: the enclosing span is the parent, if any.

        Raises:
            TypeError: more values than varying attributes.
        """
        parent = None if traceparent is None else RemoteParent(traceparent)
        return SiteSpan(self, parent, values)


class SiteSpan(ActiveSpan):
    """A span of a `Site`: set what becomes known inside the block as `span[key] = value`."""

    __slots__ = ("_indices", "_packer", "_values")

    def __init__(self, site: Site, parent: RemoteParent | None, values: Sequence[Any]) -> None:
        super().__init__(site.emitter, site.pointer, parent)
        missing = len(site.indices) - len(values)
        if missing < 0:
            raise TypeError(f"{len(values)} values for {len(site.indices)} varying attributes")
        self._packer = site.packer
        self._indices = site.indices
        self._values = [*values, *(missing * (None,))]

    def __setitem__(self, key: str, value: Any) -> None:
        """Set the value of a varying attribute; it is checked when the block ends."""
        try:
            self._values[self._indices[key]] = value
        except KeyError:
            raise ValueError(f"{key!r} is no varying attribute of this site") from None

    def _end(self, failed: bool) -> None:
        packed = self._packer.pack_values(*self._values)
        status = _STATUS_ERROR if failed else _STATUS_UNSET
        arguments = (self._site, self.pointer(), status, packed, self._packer.packed_bytes)
        result = hot.rb_span_end_packed(*arguments)
        if result != 1:
            self._emitter.settle(result, hot.rb_span_end_packed, *arguments)
