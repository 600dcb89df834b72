"""When new connections are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drain.exporters import otlp_grpc, renewal
from drain.exporters.otlp_grpc import OtlpGrpcExporter
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


def test_a_file_that_is_gone_when_its_age_is_asked_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    monkeypatch.setattr(type(key), "exists", lambda _file: True)  # a moment ago

    def make() -> None:
        raise ValueError("key and certificate do not fit")

    with pytest.raises(ValueError, match="do not fit"):
        made_after_rotation(make, OtlpSettings(client_key=key))


@pytest.mark.parametrize("name", ["certificate", "client_certificate", "client_key"])
def test_a_file_that_a_rotation_takes_away_under_grpc_is_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = {name: tmp_path / name for name in ("certificate", "client_certificate", "client_key")}
    monkeypatch.setattr(otlp_grpc, "client_context", lambda _settings: None)  # it was there a moment ago
    exporter = OtlpGrpcExporter("https://127.0.0.1:1", OtlpSettings())
    exporter._settings = OtlpSettings(
        certificate=files["certificate"],
        client_certificate=files["client_certificate"],
        client_key=files["client_key"],
    )
    exporter._renewal = Renewal(exporter._settings)
    for other, file in files.items():
        if other != name:
            file.write_text("pem")
    told = []
    monkeypatch.setattr(Renewal, "was_not_made", lambda _renewal, error: told.append(str(error)))
    before = exporter._channel
    exporter.renew()
    assert exporter._channel is before
    assert told == [f"cannot read {files[name]}: No such file or directory"]
    exporter.close()
