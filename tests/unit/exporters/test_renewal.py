"""When new connections are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drain.exporters import renewal
from drain.exporters.renewal import Renewal, made_after_rotation
from drain.settings.otlp_environment import OtlpSettings
from tests.clocks import Clock

if TYPE_CHECKING:
    from pathlib import Path


def test_after_their_age_and_only_once() -> None:
    clock = Clock()
    due = Renewal(OtlpSettings(max_connection_age=60), clock)
    assert not due.is_due()
    clock.now += 60
    assert [due.is_due(), due.is_due()] == [True, False]
    never = Renewal(OtlpSettings(max_connection_age=0), clock)
    clock.now += 1e9
    assert not never.is_due()


def test_after_failures_in_a_row() -> None:
    due = Renewal(OtlpSettings(), Clock())
    for outcome in (True, False, True):
        due.note(has_failed=outcome)
        assert not due.is_due()
    due.note(has_failed=True)
    assert [due.is_due(), due.is_due()] == [True, False]


def test_when_a_file_is_changed_replaced_or_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a: 1")
    clock = Clock()
    due = Renewal(OtlpSettings(headers_file=file), clock)

    def is_due() -> bool:
        clock.now += 2
        return due.is_due()

    assert not is_due()
    file.write_text("a: 22")
    assert [is_due(), is_due()] == [True, False]
    other = tmp_path / "other"
    other.write_text("a: 33")
    other.rename(file)
    assert [is_due(), is_due()] == [True, False]
    file.unlink()
    assert is_due()
    due.was_not_made(ValueError("it is gone"))
    assert is_due()  # looked at again, until it can be used
    file.write_text("a: 44")
    assert [is_due(), is_due()] == [True, False]


def test_a_start_in_the_middle_of_a_rotation_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_text("old")
    tries = []

    def make() -> int:
        tries.append(1)
        if len(tries) < 4:
            raise ValueError("key and certificate do not fit")
        return 7

    monkeypatch.setattr(renewal, "_ROTATION_PAUSE_SECONDS", 0.0)
    assert made_after_rotation(make, OtlpSettings(client_key=key)) == 7
    tries.clear()
    with pytest.raises(ValueError, match="do not fit"):
        made_after_rotation(make, OtlpSettings(client_key=tmp_path / "missing"))
    assert len(tries) == 1
