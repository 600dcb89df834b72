"""The rates of the last seconds outlive the drain, and a file of them that is none is as if there were none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from drain.sampling.rates_file import read_rates, write_rates
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.sampling.thresholds import Thresholds
from ringbuf.sampling import THRESHOLDS

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 10**9
NOW = 1_000 * SECOND
RULES = Rules(
    (Rule("errors", statuses=frozenset({2}), traces_per_second=10.0), Rule(DEFAULT)), kept_spans_per_second=50
)


def busy() -> Thresholds:
    thresholds = Thresholds(RULES)
    for second in range(5):
        thresholds.add([100, 0], 100.0, NOW + second * SECOND)
    return thresholds


def test_thresholds_go_on_after_a_restart(tmp_path: Path) -> None:
    before, at = busy(), NOW + 5 * SECOND
    write_rates(tmp_path / "rates", before.states())
    after = Thresholds(RULES, read_rates(tmp_path / "rates", at))
    assert after.choices(at) == before.choices(at)
    assert after.choices(at)[0].share == pytest.approx(0.1)
    assert Thresholds(RULES).choices(at)[0].threshold == 0  # what it would be without


def test_a_rule_that_is_new_begins_anew(tmp_path: Path) -> None:
    write_rates(tmp_path / "rates", busy().states())
    others = Rules((Rule("slow", longer_than_nano=1, traces_per_second=10.0), Rule(DEFAULT)))
    states = read_rates(tmp_path / "rates", NOW + 5 * SECOND)
    assert Thresholds(others, states).choices(NOW + 5 * SECOND)[0].share == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "another"},
        {"rates": {"errors": {"first": 1, "seconds": [[5, 1.0], [4, 1.0]]}}},
        {"rates": {"errors": {"first": 1, "seconds": [[5, -1.0]]}}},
        {"rates": {"errors": {"first": 1, "seconds": [[5, 1e999]]}}},
        {"rates": {"errors": {"first": 1, "seconds": [[10**12, 1.0]]}}},
        {"rates": {"errors": {"first": 1, "seconds": [[5, 10**400]]}}},
        {"rates": {"errors": {"first": 1, "seconds": [[1e999, 1.0]]}}},
        {"rates": {"errors": {"first": 1e999, "seconds": [[5, 1.0]]}}},
        {"rates": {"errors": {"first": 6, "seconds": [[5, 1.0]]}}},
        {"rates": {"errors": {"first": None, "seconds": [[5, 1.0]]}}},
        {"rates": {"errors": {"seconds": []}}},
        {"rates": {"errors": 1}},
        {"rates": [1]},
    ],
)
def test_a_file_that_is_none_has_no_rates(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "rates"
    write_rates(path, busy().states())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_rates(path, NOW + 5 * SECOND) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"{}", b"x" * (1 << 21)])
def test_nor_has_one_that_is_no_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rates"
    path.write_bytes(content)
    assert read_rates(path, NOW) == {}
    assert read_rates(tmp_path / "none", NOW) == {}


def test_thresholds_are_true_for_what_they_were_kept_with(tmp_path: Path) -> None:
    write_rates(tmp_path / "rates", busy().states())
    choices = Thresholds(RULES, read_rates(tmp_path / "rates", NOW + 5 * SECOND)).choices(NOW + 5 * SECOND)
    assert all(0 <= choice.threshold <= THRESHOLDS for choice in choices)
