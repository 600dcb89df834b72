"""`--keep-ratio`: late sampling for those who want no file of rules."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import structlog

from drain import assembly
from drain.exporters.console import ConsoleExporter
from drain.sampling.rules import of_ratio
from drain.settings.configuration import ConfigurationError, load

if TYPE_CHECKING:
    from pathlib import Path


def test_a_share_is_rules() -> None:
    assert assembly.rules(load({"keep_ratio": 0.25}, None)) == of_ratio(0.25)
    assert assembly.rules(load({}, None)) is None


def test_a_share_and_a_file_are_one_too_many(tmp_path: Path) -> None:
    config = tmp_path / "drain.toml"
    config.write_text("keep_ratio = 0.5\n")
    with pytest.raises(ValueError, match=r"--sampling \(--sampling\) and --keep-ratio \(.*drain.toml\): take one of"):
        assembly.rules(load({"sampling": str(tmp_path / "rules.toml")}, config))


@pytest.mark.parametrize("share", [-0.1, 1.5, "half"])
def test_what_is_no_share_is_refused(share: object) -> None:
    with pytest.raises(ConfigurationError, match="--keep-ratio"):
        load({"keep_ratio": share}, None)


def test_the_hold_has_its_size_with_a_share_too() -> None:
    assert load({"keep_ratio": 0.25, "hold_bytes": "1GiB"}, None).settings.hold_bytes == 1 << 30
    with pytest.raises(ConfigurationError, match="--hold-bytes has no effect without --sampling"):
        load({"hold_bytes": "1GiB"}, None)


@pytest.mark.parametrize(
    ("asked", "file_system", "given"),
    [
        ("256MiB", 4 << 30, 256 << 20),
        ("256MiB", 512 << 20, 128 << 20),
        ("1GiB", 1 << 30, 256 << 20),
        ("256MiB", 32 << 20, 16 << 20),
    ],
)
def test_the_hold_has_at_most_a_quarter_of_the_rings_file_system_and_at_least_what_it_needs(
    asked: str, file_system: int, given: int, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=file_system >> 12, f_frsize=4096))
    settings = load({"keep_ratio": 0.25, "hold_bytes": asked}, None)
    plan = assembly.sampling_plan(settings, ring_dir, structlog.get_logger(), exporter=ConsoleExporter())
    assert plan is not None
    assert plan.hold.capacity_bytes == given
    plan.hold.close()
