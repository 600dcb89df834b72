"""The forms in which `ringbuf dump` writes spans."""

from __future__ import annotations

import csv
import io
import json
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from drain.otlp.encode_plan import find_spans, stated_threshold
from drain.otlp.encoder import Encoder
from drain.tools.looking.span_text import escaped_json, json_value, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.tools.dump.columns import Schema
    from drain.tools.looking.observed_ring import ObservedRing


class MissingLibraryError(Exception):
    """A format needs a library that is not installed; the message says how to get it."""


class Writer(Protocol):
    """Writes spans in one form to one file."""

    def write(self, ring: ObservedRing, records: np.ndarray) -> int:
        """Write records of a ring; return how many of them were spans."""

    def end(self) -> None:
        """Write what ends the file."""


class JsonLines:
    """OTLP JSON lines, as the drain's file exporter writes them: one `TracesData` for each piece of a ring.

    Args:
        to: the file.
        is_terminal: whether it is one, which no character may steer.
    """

    def __init__(self, to: IO[bytes], *, is_terminal: bool = False) -> None:
        self._to = to
        self._is_terminal = is_terminal
        self._encoders: dict[ObservedRing, Encoder] = {}

    def write(self, ring: ObservedRing, records: np.ndarray) -> int:
        """Write records of a ring; return how many of them were spans."""
        if ring not in self._encoders:
            self._encoders[ring] = Encoder(ring.layout, ring.resource, stated_threshold(ring.header))
        encoded = self._encoders[ring].encode_json(records)
        if encoded.spans:
            line = b'{"resourceSpans":[%s]}\n' % encoded.body
            self._to.write(escaped_json(line.decode()).encode() if self._is_terminal else line)
        return encoded.spans

    def end(self) -> None:
        """Do nothing: a file of lines may end after any."""


class Csv:
    """A line a span, and a first one with the names; None is empty, bytes are base64.

    A text that a spreadsheet would take for a formula begins with an apostrophe: its producer chose it.

    Args:
        to: the file.
        schema: the columns.
        is_terminal: whether it is one, which no character may steer.
    """

    def __init__(self, to: IO[bytes], schema: Schema, *, is_terminal: bool = False) -> None:
        self._is_terminal = is_terminal
        self._text = io.TextIOWrapper(to, "utf-8", newline="", write_through=True)
        self._schema = schema
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._csv.writerow(map(self._cell, schema.types))

    def write(self, ring: ObservedRing, records: np.ndarray) -> int:
        """Write records of a ring; return how many of them were spans."""
        spans = records[find_spans(records, ring.layout)]
        columns = self._schema.columns(ring, spans).values()
        self._csv.writerows([self._cell(value) for value in row] for row in zip(*columns, strict=True))
        return len(spans)

    def _cell(self, value: Any) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        cell = json_value(value)
        if not isinstance(cell, str):
            return cell
        if cell.startswith(_FORMULA_STARTS):
            cell = f"'{cell}"
        return printable(cell, len(cell)) if self._is_terminal else cell

    def end(self) -> None:
        """Leave the file to whoever opened it."""
        self._text.detach()


class Parquet:
    """A Parquet file with the columns of the CSV, typed.

    Raises:
        MissingLibraryError: pyarrow is not installed.
    """

    def __init__(self, to: IO[bytes], schema: Schema) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra of its own
            import pyarrow.parquet as pq  # noqa: PLC0415 - the same
        except ModuleNotFoundError as error:
            raise MissingLibraryError(
                "--format parquet needs pyarrow, which is not installed: pip install 'ringbuf-spans[parquet]'"
            ) from error
        self._schema = schema
        kinds = {
            "bool": pa.bool_(),
            "f64": pa.float64(),
            "str": pa.string(),
            "bytes": pa.binary(),
            **{f"{sign}{bits}": getattr(pa, f"{word}{bits}")() for sign, word in _SIGNS for bits in (8, 16, 32, 64)},
        }
        self._arrow: Any = pa.schema([(name, kinds[kind]) for name, kind in schema.types.items()])
        self._table: Any = pa.table
        self._parquet: Any = pq.ParquetWriter(to, self._arrow, compression="zstd")

    def write(self, ring: ObservedRing, records: np.ndarray) -> int:
        """Write records of a ring; return how many of them were spans."""
        spans = records[find_spans(records, ring.layout)]
        if len(spans):
            self._parquet.write_table(self._table(self._schema.columns(ring, spans), schema=self._arrow))
        return len(spans)

    def end(self) -> None:
        """Write the footer, without which a Parquet file is none."""
        self._parquet.close()


class Numpy:
    """An .npz with an array of raw records for each ring, in its layout's dtype, and `<ring>.json` to read it by."""

    def __init__(self, to: IO[bytes]) -> None:
        self._to = to
        self._arrays: dict[str, list[np.ndarray]] = {}
        self._about: dict[str, str] = {}

    def write(self, ring: ObservedRing, records: np.ndarray) -> int:
        """Keep records of a ring, those that are no spans too; return how many of them are."""
        spans = int(find_spans(records, ring.layout).sum())
        self._arrays.setdefault(ring.name, []).append(records.copy())
        self._about[ring.name] = json.dumps(
            {"service": ring.service, "resource": ring.resource, "layout": json.loads(ring.layout.to_json())}
        )
        return spans

    def end(self) -> None:
        """Write them all."""
        content: dict[str, Any] = {}
        for name, parts in self._arrays.items():
            content[name] = _joined(parts)
            content[f"{name}.json"] = np.array(self._about[name])
        whole = io.BytesIO()  # a zip goes back in its file, which a pipe does not
        np.savez_compressed(whole, **content)
        self._to.write(whole.getbuffer())


_SIGNS = (("u", "uint"), ("i", "int"))
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet reads as a formula (OWASP, "CSV Injection")."""


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays of one dtype in a row, their fields in the order of their offsets: a file has no other."""
    dtype = parts[0].dtype
    fields = sorted((dtype.fields or {}).items(), key=lambda item: item[1][1])
    in_order = np.dtype(
        {
            "names": [name for name, _ in fields],
            "formats": [place[0] for _, place in fields],
            "offsets": [place[1] for _, place in fields],
            "itemsize": dtype.itemsize,
        }
    )
    # Not np.concatenate, which would move the fields together.
    return np.frombuffer(b"".join(part.tobytes() for part in parts), in_order)
