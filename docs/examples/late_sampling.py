"""The demo's second act: the same work once more, and rules decide which traces are delivered, after the fact.

A producer notices nothing of it, and no producer has to be told: rules are given to the drain. Every span is counted,
each trace is kept whole or not at all, and each span that is kept says how many traces its own stands for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from report import Line, attributes_of, print_table, spans_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from drain_process import Audit

    from ringbuf import EmitterStats

RULES: Final = """\
[sampling]
wait = "1s"
wait_after_root = "100ms"
incoming = "all"            # nobody samples before us

[[sampling.rule]]           # the first that matches a trace decides
name = "failures"
status = "error"

[[sampling.rule]]
name = "slow flushes"
attributes = { "grafos.operation" = "fbbu_flush" }
longer_than = "1ms"
traces_per_second = 20

[[sampling.rule]]
name = "the rest"
ratio = 0.01
"""

_RULE: Final = "ringbuf.sampling.rule"


class Kept:
    """The spans that were kept, read back from a file of OTLP JSON lines.

    Attributes:
        by_rule: how many each rule kept.
        repeated: spans that are there a second time.
    """

    def __init__(self, path: Path) -> None:
        self.by_rule: Counter[str] = Counter()
        ids: Counter[str] = Counter()
        if path.exists():
            for _, span in spans_in(path):
                ids[span["spanId"]] += 1
                self.by_rule[attributes_of(span).get(_RULE, "")] += 1
        self.repeated = ids.total() - len(ids)


def print_rules(rules: Mapping[str, Mapping[str, int]]) -> None:
    """Print what each rule decided."""
    head = ("rule", "traces", "kept", "spans seen", "kept", "sampled out")
    rows: list[Line] = []
    for name, counts in rules.items():
        if name == "default" and not counts["traces"]:
            continue  # of traces that no rule matches: here the last matches all
        traces, kept_traces, spans, kept = (counts[key] for key in ("traces", "kept_traces", "spans", "kept_spans"))
        rows.append((name, *(f"{count:,}" for count in (traces, kept_traces, spans, kept, spans - kept))))
    print_table("What was kept, by rule", head, rows, left=1)


def law_of(producers: Iterable[EmitterStats], audit: Audit, kept: Kept) -> tuple[str, Line]:
    """Return the law in words, and what does not add up; nothing when all does."""
    counts = list(producers)
    seen = sum(count.attempts for count in counts)
    dropped = sum(count.full + count.contended + count.local for count in counts)
    out = sum(sums.get("sampled_out", 0) for sums in (*audit.services.values(), *audit.hold.values()))
    pending = sum(sums.get("pending", 0) for sums in audit.services.values())
    pending += sum(sums.get("waiting", 0) for sums in audit.hold.values())
    in_file = kept.by_rule.total()
    law = f"seen {seen:,} = kept {in_file:,} + sampled out {out:,} + dropped {dropped:,} + pending {pending:,}"
    by_rule = {name: counts["kept_spans"] for name, counts in audit.rules.items() if counts["kept_spans"]}
    decided = sum(counts["spans"] - counts["kept_spans"] for counts in audit.rules.values())
    checks: list[tuple[Any, str]] = [
        (seen == in_file + out + dropped + pending, f"off by {seen - in_file - out - dropped - pending:,}"),
        (kept.repeated == 0, f"spans that are in the file twice: {kept.repeated:,}"),
        (by_rule == dict(kept.by_rule), f"the rules kept {by_rule}, the file has {dict(kept.by_rule)}"),
        (decided == out, f"the rules sampled {decided:,} spans out, the drain {out:,}"),
    ]
    return law, tuple(words for is_right, words in checks if not is_right)
