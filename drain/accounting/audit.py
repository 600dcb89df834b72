"""The conservation law, service by service: what the rings took in is what came out of them, to the last span.

    published = delivered + spooled + rejected + dead_lettered + invalid + sampled_out + pending + quarantined

What went into a store has the store's own law: `HoldSums`, `SpoolSums`, `LetterSums`.

The sums outlive the rings: a ring that is gone leaves its numbers here.
"""

from __future__ import annotations

import io
import shutil
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from drain.accounting.hold_sums import HOLD_SUM_NAMES, HoldSums
from drain.accounting.letter_sums import LETTER_SUM_NAMES, LetterSums, all_letters
from drain.accounting.spool_sums import SPOOL_SUM_NAMES, SpoolSums
from drain.accounting.sums import MAX_SERVICES, OTHER_SERVICES, SUM_NAMES, Sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.sampling_status import SamplingStatus
    from drain.standard_streams import TextStream

_AnySums: TypeAlias = Sums | HoldSums | SpoolSums | LetterSums


class Audit:
    """The sums by service of all rings that this drain had."""

    def __init__(self) -> None:
        self._gone: dict[str, Sums] = {}
        self._before: dict[str, Sums] = {}

    def ring_had(self, service: str, before: Sums) -> None:
        """Note what a ring had counted under earlier drains, when it is taken in."""
        self._of(self._before, service).add(before)

    def ring_is_gone(self, service: str, sums: Sums) -> None:
        """Keep the last sums of a ring that the drain lets go of."""
        self._of(self._gone, service).add(sums)

    def by_service(self, attached: Iterable[tuple[str, Sums]]) -> dict[str, Sums]:
        """Return the sums of each service over the rings that are gone and those that are attached."""
        total: dict[str, Sums] = {}
        for service, sums in (*self._gone.items(), *attached):
            self._of(total, service).add(sums)
        return dict(sorted(total.items()))

    def since_start(self, attached: Iterable[tuple[str, Sums]]) -> dict[str, Sums]:
        """Return the same without what rings had counted under earlier drains.

        A counter of Prometheus begins anew with its process: what rings had before would look like a burst.
        """
        total = self.by_service(attached)
        for service, before in self._before.items():
            if service in total:
                total[service].subtract(before)
        return total

    @staticmethod
    def _of(services: dict[str, Sums], service: str) -> Sums:
        known = service in services or len(services) < MAX_SERVICES
        return services.setdefault(service if known else OTHER_SERVICES, Sums())


def log_audit(
    log: FilteringBoundLogger,
    services: Mapping[str, Sums],
    spool: Mapping[str, SpoolSums] = MappingProxyType({}),
    letters: Mapping[str, LetterSums] | None = None,
    destination: str = "",
    hold: Mapping[str, HoldSums] = MappingProxyType({}),
    sampling: SamplingStatus | None = None,
) -> None:
    """Log the whole audit as one line.

    Args:
        log: where to.
        services: of the rings.
        spool: of the spool, by service; empty without one.
        letters: of the dead letters, by service; None where none are kept.
        destination: where the spans went.
        hold: of the hold, by service; empty without one.
        sampling: what rules on whole traces decided; None without any.
    """
    every: list[_AnySums] = [*services.values(), *hold.values(), *spool.values(), *(letters or {}).values()]
    unaccounted = [sums.unaccounted for sums in every]
    held = {service: _that_count(sums, HOLD_SUM_NAMES, {"held"}) for service, sums in hold.items()}
    spooled = {service: _that_count(sums, SPOOL_SUM_NAMES, {"spooled"}) for service, sums in spool.items()}
    refused = {service: _that_count(sums, LETTER_SUM_NAMES, {"waiting"}) for service, sums in (letters or {}).items()}
    log.info(
        "audit",
        adds_up=not any(unaccounted),
        to=destination,
        services={service: _that_count(sums, SUM_NAMES, {"rings"}) for service, sums in services.items()},
        **({"hold": held} if held else {}),
        **({} if sampling is None else {"rules": _decided(sampling), "dry_run": sampling.is_dry_run}),
        **({"spool": spooled} if spooled else {}),
        **({} if letters is None else {"dead_letters": refused}),
    )


def _that_count(sums: _AnySums, names: Sequence[str], always: AbstractSet[str]) -> dict[str, int]:
    counts = {name: getattr(sums, name) for name in (*names, "unaccounted")}
    return {name: count for name, count in counts.items() if count or name in always}


def _decided(sampling: SamplingStatus) -> dict[str, dict[str, int]]:
    return {
        name: {
            "traces": sum(rule.traces.values()),
            "kept_traces": rule.kept_traces,
            "spans": rule.kept_spans + rule.sampled_out_spans,
            "kept_spans": rule.kept_spans,
        }
        for name, rule in sampling.rules.items()
    }


def write_audit(
    services: Mapping[str, Sums],
    to: TextStream,
    spool: Mapping[str, SpoolSums] = MappingProxyType({}),
    letters: Mapping[str, LetterSums] | None = None,
    destination: str = "",
    hold: Mapping[str, HoldSums] = MappingProxyType({}),
    sampling: SamplingStatus | None = None,
) -> None:
    """Write the audit as tables for people: with rich on a terminal, as plain text elsewhere.

    Args:
        services: of the rings.
        to: where to.
        spool: of the spool, by service; empty without one.
        letters: of the dead letters, by service; None where none are kept.
        destination: where the spans went.
        hold: of the hold, by service; empty without one.
        sampling: what rules on whole traces decided; None without any.

    Raises:
        OSError: it cannot be written.
    """
    # As one text: what takes it may take it at once or not at all.
    text = io.StringIO()
    total = Sums()
    for sums in services.values():
        total.add(sums)
    always = {"rings", "published", "delivered", "pending"}
    table = _table([*services.items(), ("total", total)], SUM_NAMES, always)
    _write_table("What became of the spans", table, text, for_terminal=to.isatty())
    if destination:
        text.write(f"to {destination}\n")
    if hold:
        hold_total = HoldSums(*(sum(getattr(sums, name) for sums in hold.values()) for name in HOLD_SUM_NAMES))
        always = {"held", "delivered", "sampled_out", "waiting"}
        text.write("\n")
        table = _table([*hold.items(), ("total", hold_total)], HOLD_SUM_NAMES, always)
        _write_table("Of those that waited for a decision", table, text, for_terminal=to.isatty())
    if sampling is not None:
        text.write("\n")
        _write_rules(sampling, text, for_terminal=to.isatty())
    if spool:
        spool_total = SpoolSums(*(sum(getattr(sums, name) for sums in spool.values()) for name in SPOOL_SUM_NAMES))
        always = {"spooled", "delivered", "waiting"}
        text.write("\n")
        table = _table([*spool.items(), ("total", spool_total)], SPOOL_SUM_NAMES, always)
        _write_table("Of those that were spooled", table, text, for_terminal=to.isatty())
    if letters:
        text.write("\n")
        rows = [*letters.items(), ("total", all_letters(letters.values()))]
        table = _table(rows, LETTER_SUM_NAMES, {"kept", "waiting"})
        _write_table("Of the dead letters", table, text, for_terminal=to.isatty())
    to.write(text.getvalue())
    to.flush()


def _write_table(title: str, content: tuple[list[str], list[list[str]]], to: TextIO, *, for_terminal: bool) -> None:
    head, rows = content
    if for_terminal:
        from rich.console import Console  # noqa: PLC0415 - 100 ms, for a table that few runs show
        from rich.table import Table  # noqa: PLC0415 - likewise 100 ms
        from rich.text import Text  # noqa: PLC0415 - no markup: names come out of ring files

        table = Table(title=title)
        for name in head:
            table.add_column(name, justify="right" if table.columns else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        Console(file=to, force_terminal=True, width=shutil.get_terminal_size().columns).print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        to.write("  ".join(cells).rstrip() + "\n")


def _table(
    services: Sequence[tuple[str, _AnySums]],
    names: Sequence[str],
    always: AbstractSet[str],
) -> tuple[list[str], list[list[str]]]:
    # Columns that are zero everywhere would hide those that are not.
    shown = [
        name for name in (*names, "unaccounted") if name in always or any(getattr(sums, name) for _, sums in services)
    ]
    rows = [[_printable(service), *(f"{getattr(sums, name):,}" for name in shown)] for service, sums in services]
    return ["service", *(name.replace("_", "-") for name in shown)], rows


def write_rules(sampling: SamplingStatus, to: TextStream) -> None:
    """Write what each rule decided, as a table for people.

    Args:
        sampling: of the rules.
        to: where to.

    Raises:
        OSError: it cannot be written.
    """
    text = io.StringIO()
    _write_rules(sampling, text, for_terminal=to.isatty())
    to.write(text.getvalue())
    to.flush()


def _write_rules(sampling: SamplingStatus, to: TextIO, *, for_terminal: bool) -> None:
    words = "would have decided: a dry run" if sampling.is_dry_run else "decided"
    _write_table(f"What the rules {words}", _rules_table(sampling), to, for_terminal=for_terminal)


def _rules_table(sampling: SamplingStatus) -> tuple[list[str], list[list[str]]]:
    rows = [
        [_printable(name), *(f"{count:,}" for count in (*counts.values(), counts["spans"] - counts["kept_spans"]))]
        for name, counts in _decided(sampling).items()
    ]
    return ["rule", "traces", "kept", "spans", "kept", "sampled-out"], rows


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name[:64])
