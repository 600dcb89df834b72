"""`--keep-ratio`: late sampling for those who want no file of rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drain import assembly
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
