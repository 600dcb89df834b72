"""The conservation law, service by service: what the rings took in is what came out of them, to the last span.

    published = delivered + spooled + rejected + dead_lettered + invalid + pending + quarantined

The sums outlive the rings: a ring that is gone leaves its numbers here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from drain.spool.database import SPOOL_SUM_NAMES, SpoolSums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

# Names come from the rings: without a bound a producer could fill the drain's memory with new ones.
_MAX_SERVICES: Final = 1000
_OTHER_SERVICES: Final = "(other services)"


@dataclass(slots=True)
class Sums:
    """What became of the spans of a ring or of a service; the words of `rb_lane`, added up over lanes.

    Attributes:
        rings: how many rings these are the sums of.
        published: spans written to a ring since it was made.
        delivered: accepted by the backend.
        spooled: durable in the spool.
        rejected: refused by the backend.
        dead_lettered: refused by the backend, and kept.
        invalid: records that were no span.
        pending: in a ring, neither released nor counted by a drain that was killed before it could release them.
        quarantined: pending when their ring was set aside.
        repeated: sent again, since a drain was killed before it could release them; not part of the law.
        full: not written, since every lane was full or busy and one was full.
        contended: not written, since every lane was busy.
        oversized: not written, since the record was larger than a slot.
        unsampled: not written, since the trace is not sampled.
        truncated: values cut to their field; the spans were written.
    """

    rings: int = 0
    published: int = 0
    delivered: int = 0
    spooled: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    invalid: int = 0
    pending: int = 0
    quarantined: int = 0
    repeated: int = 0
    full: int = 0
    contended: int = 0
    oversized: int = 0
    unsampled: int = 0
    truncated: int = 0

    def add(self, other: Sums) -> None:
        """Add each number of `other`."""
        for name in SUM_NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def subtract(self, other: Sums) -> None:
        """Take each number of `other` away, down to 0."""
        for name in SUM_NAMES:
            setattr(self, name, max(0, getattr(self, name) - getattr(other, name)))

    @property
    def unaccounted(self) -> int:
        """Published spans of which nobody knows what became: 0, or the law is broken."""
        return self.published - (
            self.delivered
            + self.spooled
            + self.rejected
            + self.dead_lettered
            + self.invalid
            + self.pending
            + self.quarantined
        )


SUM_NAMES: Final = tuple(field.name for field in fields(Sums))


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
        known = service in services or len(services) < _MAX_SERVICES
        return services.setdefault(service if known else _OTHER_SERVICES, Sums())


def log_audit(
    log: FilteringBoundLogger, services: Mapping[str, Sums], spool: Mapping[str, SpoolSums] = MappingProxyType({})
) -> None:
    """Log the whole audit as one line.

    Args:
        log: where to.
        services: of the rings.
        spool: of the spool, by service; empty without one.
    """
    law_holds = not any(s.unaccounted for s in services.values()) and not any(s.unaccounted for s in spool.values())
    spooled = {service: _that_count(sums, SPOOL_SUM_NAMES, {"spooled"}) for service, sums in spool.items()}
    log.info(
        "audit",
        adds_up=law_holds,
        services={service: _that_count(sums, SUM_NAMES, {"rings"}) for service, sums in services.items()},
        **({"spool": spooled} if spooled else {}),
    )


def _that_count(sums: Sums | SpoolSums, names: Sequence[str], always: AbstractSet[str]) -> dict[str, int]:
    counts = {name: getattr(sums, name) for name in (*names, "unaccounted")}
    return {name: count for name, count in counts.items() if count or name in always}


def write_audit(
    services: Mapping[str, Sums], to: TextIO, spool: Mapping[str, SpoolSums] = MappingProxyType({})
) -> None:
    """Write the audit as tables for people: with rich on a terminal, as plain text elsewhere.

    Args:
        services: of the rings.
        to: where to.
        spool: of the spool, by service; empty without one.
    """
    total = Sums()
    for sums in services.values():
        total.add(sums)
    always = {"rings", "published", "delivered", "pending"}
    _write_table("What became of the spans", _table([*services.items(), ("total", total)], SUM_NAMES, always), to)
    if not spool:
        return
    spool_total = SpoolSums(*(sum(getattr(sums, name) for sums in spool.values()) for name in SPOOL_SUM_NAMES))
    always = {"spooled", "delivered", "waiting"}
    to.write("\n")
    table = _table([*spool.items(), ("total", spool_total)], SPOOL_SUM_NAMES, always)
    _write_table("Of those that were spooled", table, to)


def _write_table(title: str, content: tuple[list[str], list[list[str]]], to: TextIO) -> None:
    head, rows = content
    if to.isatty():
        from rich.console import Console  # noqa: PLC0415 - 100 ms, for a table that few runs show
        from rich.table import Table  # noqa: PLC0415 - likewise 100 ms
        from rich.text import Text  # noqa: PLC0415 - no markup: names come out of ring files

        table = Table(title=title)
        for name in head:
            table.add_column(name, justify="left" if name == "service" else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        Console(file=to).print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        to.write("  ".join(cells).rstrip() + "\n")
    to.flush()


def _table(
    services: Sequence[tuple[str, Sums | SpoolSums]], names: Sequence[str], always: AbstractSet[str]
) -> tuple[list[str], list[list[str]]]:
    # Columns that are zero everywhere would hide those that are not.
    shown = [
        name for name in (*names, "unaccounted") if name in always or any(getattr(sums, name) for _, sums in services)
    ]
    rows = [[_printable(service), *(f"{getattr(sums, name):,}" for name in shown)] for service, sums in services]
    return ["service", *(name.replace("_", "-") for name in shown)], rows


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name[:64])
