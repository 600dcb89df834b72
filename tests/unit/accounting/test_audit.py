"""The audit keeps the sums of rings that are gone, and says when they do not add up."""

from __future__ import annotations

import io

import structlog

from drain.accounting.audit import Audit, log_audit, write_audit
from drain.accounting.hold_sums import HoldSums
from drain.accounting.letter_sums import LetterSums
from drain.accounting.sampling_status import RuleStatus, SamplingStatus
from drain.accounting.sums import Sums


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_sums_of_gone_and_attached_rings_of_a_service_are_added() -> None:
    audit = Audit()
    audit.ring_is_gone("shop", Sums(rings=1, published=5, delivered=4, invalid=1))
    audit.ring_is_gone("shop", Sums(rings=1, published=1, quarantined=1))
    services = audit.by_service([("shop", Sums(rings=1, published=3, pending=3)), ("bank", Sums(rings=1))])
    assert services == {
        "bank": Sums(rings=1),
        "shop": Sums(rings=3, published=9, delivered=4, invalid=1, quarantined=1, pending=3),
    }
    assert audit.by_service([]).keys() == {"shop"}, "asking for the audit must not change it"


def test_spans_of_which_nobody_knows_are_unaccounted() -> None:
    assert (
        Sums(published=10, delivered=4, spooled=1, rejected=1, dead_lettered=1, invalid=1, pending=1).unaccounted == 1
    )
    assert Sums(published=10, delivered=9, quarantined=1, repeated=7, full=3, truncated=1).unaccounted == 0


def test_services_beyond_the_bound_are_counted_together() -> None:
    audit = Audit()
    for number in range(1200):
        audit.ring_is_gone(f"service-{number}", Sums(rings=1, published=2))
    services = audit.by_service([])
    assert len(services) == 1001
    assert services["(other services)"] == Sums(rings=200, published=400)
    assert sum(sums.published for sums in services.values()) == 2400


def test_the_plain_table_has_each_service_a_total_and_no_column_of_zeros() -> None:
    text = io.StringIO()
    write_audit({"shop": Sums(rings=1, published=12345, delivered=12340, dead_lettered=5), "": Sums(rings=1)}, text)
    lines = text.getvalue().splitlines()
    assert lines[0].split() == ["service", "rings", "published", "delivered", "dead-lettered", "pending"]
    assert lines[1].split() == ["shop", "1", "12,345", "12,340", "5", "0"]
    assert lines[3].split() == ["total", "2", "12,345", "12,340", "5", "0"]


def test_what_waited_for_a_decision_has_a_table_and_a_law_of_its_own() -> None:
    hold = {"shop": HoldSums(taken_up=2, held=10, delivered=3, sampled_out=8, waiting=1)}
    text = io.StringIO()
    write_audit({"shop": Sums(rings=1, published=10, spooled=10)}, text, hold=hold)
    lines = text.getvalue().splitlines()
    assert lines[-3].split() == ["service", "taken-up", "held", "delivered", "sampled-out", "waiting"]
    assert lines[-1].split() == ["total", "2", "10", "3", "8", "1"]
    with structlog.testing.capture_logs() as logged:
        log_audit(structlog.get_logger(), {}, hold=hold)
        log_audit(structlog.get_logger(), {}, hold={"shop": HoldSums(held=2, delivered=1)})
    assert [line["adds_up"] for line in logged] == [True, False]
    assert logged[0]["hold"] == {"shop": {"taken_up": 2, "held": 10, "delivered": 3, "sampled_out": 8, "waiting": 1}}


def test_what_each_rule_decided_is_told() -> None:
    rules = {
        "failures": RuleStatus({"rule": 4, "timeout": 1}, kept_traces=5, kept_spans=20, sampled_out_spans=0),
        "rest": RuleStatus({"root": 1000}, kept_traces=10, kept_spans=30, sampled_out_spans=4000),
    }
    text = io.StringIO()
    write_audit({}, text, sampling=SamplingStatus(rules))
    lines = text.getvalue().splitlines()
    assert lines[-3].split() == ["rule", "traces", "kept", "spans", "kept", "sampled-out"]
    assert lines[-1].split() == ["rest", "1,000", "10", "4,030", "30", "4,000"]
    with structlog.testing.capture_logs() as logged:
        log_audit(structlog.get_logger(), {}, sampling=SamplingStatus(rules, is_dry_run=True))
    assert logged[0]["rules"]["failures"] == {"traces": 5, "kept_traces": 5, "spans": 20, "kept_spans": 20}
    assert logged[0]["dry_run"]


def test_a_broken_law_shows_in_table_and_log() -> None:
    text = io.StringIO()
    services = {"shop": Sums(rings=1, published=2, delivered=1)}
    write_audit(services, text)
    assert text.getvalue().splitlines()[0].split()[-1] == "unaccounted"
    with structlog.testing.capture_logs() as lines:
        log_audit(structlog.get_logger(), services)
        log_audit(structlog.get_logger(), {"shop": Sums(rings=1, published=1, delivered=1)})
    assert [line["adds_up"] for line in lines] == [False, True]
    assert lines[0]["services"] == {"shop": {"rings": 1, "published": 2, "delivered": 1, "unaccounted": 1}}


def test_a_service_name_cannot_send_escape_sequences_to_the_terminal() -> None:
    for text in (io.StringIO(), Terminal()):
        write_audit({"\x1b[2Jevil\n[red]": Sums(rings=1)}, text)
        assert "\x1b[2J" not in text.getvalue()
        assert "evil" in text.getvalue()


def test_what_became_of_dead_letters_has_a_table_and_a_law_of_its_own() -> None:
    services = {"shop": Sums(rings=1, published=7, dead_lettered=7)}
    text = io.StringIO()
    sound = LetterSums(found=5, kept=7, waiting=4, deleted=8)
    write_audit(services, text, letters={"bank": LetterSums(kept=1, waiting=1), "shop": sound})
    head, *rows = text.getvalue().splitlines()[-4:]
    assert head.split() == ["service", "found", "kept", "waiting", "deleted"]
    assert [row.split() for row in rows] == [
        ["bank", "0", "1", "1", "0"],
        ["shop", "5", "7", "4", "8"],
        ["total", "5", "8", "5", "8"],
    ]
    with structlog.testing.capture_logs() as lines:
        log_audit(structlog.get_logger(), services, letters={"shop": sound})
        # One service's does not make up for another's.
        over, under = LetterSums(kept=7, waiting=8), LetterSums(found=5, kept=7, waiting=4, deleted=7)
        log_audit(structlog.get_logger(), services, letters={"bank": over, "shop": under})
        log_audit(structlog.get_logger(), services, letters={})
    assert [line["adds_up"] for line in lines] == [True, False, True]
    assert lines[0]["dead_letters"] == {"shop": {"found": 5, "kept": 7, "waiting": 4, "deleted": 8}}
    assert lines[1]["dead_letters"]["shop"]["unaccounted"] == 1
    assert lines[2]["dead_letters"] == {}
