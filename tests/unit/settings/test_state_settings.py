"""The settings of spool and dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from drain import assembly
from drain.settings.settings import ConfigurationError, load

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_state_directory_nothing_is_kept() -> None:
    stores = assembly.open_stores(load({}, None), structlog.get_logger())
    assert (stores.spool, stores.dead_letters) == (None, None)


def test_systemd_s_state_directory_is_taken_and_a_flag_beats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    configuration = load({}, None)
    assert configuration.settings.state_dir == tmp_path / "one"
    assert configuration.origins["state_dir"] == "STATE_DIRECTORY"
    assert load({"state_dir": tmp_path / "three"}, None).settings.state_dir == tmp_path / "three"


def test_the_stores_get_their_bounds(tmp_path: Path) -> None:
    flags = {
        "state_dir": tmp_path / "state",
        "spool_after": 7.0,
        "spool_max_bytes": 1 << 21,
        "spool_max_age": 9.0,
        "spool_full": "drop-oldest",
        "dead_letter_files": 3,
        "dead_letter_bytes": 5,
    }
    stores = assembly.open_stores(load(flags, None), structlog.get_logger())
    assert stores.spool is not None
    assert stores.dead_letters is not None
    limits = stores.spool._store._limits
    assert (limits.max_bytes, limits.max_age_seconds, limits.when_full) == (1 << 21, 9.0, "drop-oldest")
    assert (stores.dead_letters._max_files, stores.dead_letters._max_bytes) == (3, 5)
    assert stores.spool_after == 7
    assert stores.spool.close(30)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["dead-letters", "spool"]


def test_a_spool_flag_without_a_state_directory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--spool-after has no effect without --state-dir"):
        load({"spool_after": 1.0}, None)


def test_the_elapsed_limit_reaches_the_policy() -> None:
    assert assembly.retry_policy(load({"retry_elapsed": 5.0}, None)).gives_up(5)
    assert not assembly.retry_policy(load({}, None)).gives_up(1e9)
