"""`ringbuf layout`: a layout as C, JSON or numpy has it."""

from __future__ import annotations

import pprint
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drain.tools.looking.command_line import EXIT_USAGE, fail
from ringbuf.layout_c import to_c_header
from ringbuf.layout_source import load_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from ringbuf.layout.layout import SpanLayout


class Format(StrEnum):
    """What to write."""

    C = "c"
    JSON = "json"
    DTYPE = "dtype"


def layout(
    source: Annotated[
        str,
        typer.Argument(
            metavar="LAYOUT",
            help="FILE.py or MODULE, with :ATTRIBUTE where it has several layouts; a layout's JSON; or a ring.",
        ),
    ],
    output_format: Annotated[Format, typer.Option("--format", help="c: a header for C11 and C++17.")] = Format.C,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="c: what identifiers begin with; else the scope's name."),
    ] = None,
) -> None:
    """Write a layout as a C header, as JSON or as numpy's dtype.

    It is what another program needs, so that nobody types offsets. c: struct, enumerations, setters and static
    assertions, with the JSON in a constant. json: as a ring's header has it. dtype: a Python expression of numpy's
    dtype, for readers that have no ringbuf.
    """
    if name is not None and output_format is not Format.C:
        fail("--name is for --format=c", EXIT_USAGE)
    try:
        found = load_layout(source)
        text = to_c_header(found, name) if output_format is Format.C else _text(found, output_format)
    except ValueError as error:
        fail(error, EXIT_USAGE)
    typer.echo(text, nl=False)


def _text(found: SpanLayout, output_format: Format) -> str:
    if output_format is Format.JSON:
        return found.to_json().decode() + "\n"
    dtype = found.dtype
    places: Mapping[str, Any] = dtype.fields or {}
    description = {
        "names": list(dtype.names or ()),
        "formats": [_numpy_format(places[name][0]) for name in dtype.names or ()],
        "offsets": [places[name][1] for name in dtype.names or ()],
        "itemsize": dtype.itemsize,
    }
    return f"numpy.dtype(\n{pprint.pformat(description, width=118, sort_dicts=False)}\n)\n"


def _numpy_format(dtype: np.dtype[Any]) -> Any:
    """Return what numpy.dtype makes the same of: a string, a string and a shape, or a list of fields."""
    if dtype.names is not None:
        return [(name, *_as_tuple(_numpy_format(dtype[name]))) for name in dtype.names]
    if dtype.subdtype is not None:
        return (dtype.subdtype[0].str, dtype.subdtype[1])
    return dtype.str


def _as_tuple(described: Any) -> tuple[Any, ...]:
    return described if isinstance(described, tuple) else (described,)
