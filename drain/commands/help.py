"""The help of `ringbuf-drain`: options by what one wants to do, examples, exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperCommand, TyperGroup

from drain.exit_codes import EXIT_CODES
from drain.settings.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# In the order of the help. What is in no group is in that of its exporter or its stores, else in the last.
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "Which rings": ("once", "ring_dir", "allow_uid", "allow_gid", "max_ring_bytes"),
    "Where the spans go": ("exporter", "endpoint", "balance", "output", "kafka_brokers"),
    "An OTLP backend": (),
    "A file": (),
    "Kafka": (),
    "What waits on disk": ("state_dir",),
    "When an attempt fails": tuple(name for name in Settings.model_fields if name.startswith("retry_")),
    "Which spans are delivered": ("sampling", "keep_ratio", "hold_bytes", "on_stop", "unsampled"),
    "Batches": ("batch_spans", "batch_bytes", "batch_delay", "concurrency"),
    "Metrics by OTLP": ("metrics_exporter",),
    "The service itself": ("config_file", "listen", "log_level", "max_series", "shutdown_timeout"),
}
OWN: Final = (
    "Of this command",
    ("against", "flush", "remove", "as_json", "shows_all", "drop", "dead_letter", "is_sure"),
)
"""Options that are no settings, of one subcommand each; before all the others."""
_OTHERS: Final = "The service itself"
_BY_EXTRA: Final = {
    ("exporter", "otlp"): "An OTLP backend",
    ("exporter", "file"): "A file",
    ("exporter", "kafka"): "Kafka",
    ("needs", "state_dir"): "What waits on disk",
    ("needs", "metrics_exporter"): "Metrics by OTLP",
}
EXAMPLES: Final = {
    "look at spans in the terminal": "ringbuf-drain --exporter console",
    "deliver to a Collector, surviving outages": "ringbuf-drain --endpoint http://127.0.0.1:4318 --state-dir ~/.drain",
    "try the backend before it matters": "ringbuf-drain --endpoint https://otlp.example check",
    "write what is there to a file, and end": "ringbuf-drain --once --output spans.jsonl",
    "see what waits on disk": "ringbuf-drain spool",
    "deliver what was refused": "ringbuf-drain replay --endpoint http://127.0.0.1:4318 --remove ~/.drain/dead-letters",
}
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def group_of(name: str) -> str:
    """Return the heading under which an option is.

    >>> group_of("timeout"), group_of("spool_max_bytes"), group_of("version")
    ('An OTLP backend', 'What waits on disk', 'The service itself')
    """
    for group, names in (OWN, *GROUPS.items()):
        if name in names:
            return group
    field = Settings.model_fields.get(name)
    extra = field.json_schema_extra if field is not None else None
    pairs = extra.items() if isinstance(extra, dict) else ()
    return next((_BY_EXTRA[key, str(value)] for key, value in pairs if (key, str(value)) in _BY_EXTRA), _OTHERS)


def _sections(parameters: Sequence[Any], context: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    records: dict[str, list[tuple[str, str]]] = {group: [] for group in ("Arguments", OWN[0], *GROUPS)}
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if record is not None:
            if parameter.param_type_name == "argument":  # without the type that it has in Python
                records["Arguments"].append((parameter.metavar, record[1]))
            else:
                records[group_of(parameter.name)].append(record)
    return ((group, rows) for group, rows in records.items() if rows)


class GroupedCommand(TyperCommand):
    """A subcommand whose options are in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options."""
        _write(self.get_params(ctx), ctx, formatter)


class GroupedProgram(TyperGroup):
    """The program, with its options in groups, examples and exit codes."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write examples, subcommands, options and exit codes."""
        with formatter.section("Examples"):
            for purpose, command in EXAMPLES.items():
                formatter.write(f"{'':>{formatter.current_indent}}{purpose}:\n")
                formatter.write(f"{'':>{formatter.current_indent}}  {command}\n")
        self.format_commands(ctx, formatter)
        _write(self.get_params(ctx), ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl(list(EXIT_CODES.items()))


def _write(parameters: Sequence[Any], context: Any, formatter: Any) -> None:
    for group, rows in _sections(parameters, context):
        with formatter.section(group):
            formatter.write_dl(rows)
