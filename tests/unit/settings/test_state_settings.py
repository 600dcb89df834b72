"""The settings of spool and dead letters."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from drain import assembly
from drain.commands.failed_start import exit_code_of
from drain.exit_codes import TROUBLE
from drain.settings.configuration import ConfigurationError, load
from drain.spool.spool import Spool, SpoolLockedError
from ringbuf.exceptions import RingBufferError
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from drain.delivery.stores import Stores
    from drain.settings.configuration import Configuration


NOTHING = "nothing is kept on disk: in an outage spans wait in the rings alone, and what is refused is lost"


@pytest.fixture(autouse=True)
def disk_answers_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine not look like a disk that hangs."""
    monkeypatch.setattr(assembly, "_OPEN_SECONDS", SECONDS)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory in which nobody said where a drain keeps its state."""
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def state_of(ring_dir: Path | str) -> Path:
    configuration = load({"ring_dir": ring_dir}, None)
    assert configuration.origins["state_dir"] == "default"
    assert configuration.settings.state_dir is not None
    return configuration.settings.state_dir


def open_and_close(configuration: Configuration) -> tuple[Stores, list[Any]]:
    with structlog.testing.capture_logs() as lines:
        stores = assembly.open_stores(configuration, structlog.get_logger())
    if stores.spool is not None:
        assert stores.spool.close(30)
    return stores, [line for line in lines if line["event"] == NOTHING]


def test_by_default_each_ring_directory_has_a_state_directory_of_its_own(home: Path) -> None:
    state = state_of("/rings/of/shop")
    assert state.parent == home / ".local" / "state" / "ringbuf-drain"
    assert state.name.startswith("rings-of-shop-")
    assert state == state_of("/rings/../rings/of/shop/")
    assert state != state_of("/rings-of/shop")
    (home / "link").symlink_to("/rings/of/shop")
    assert state_of(home / "link") == state
    assert len(state_of("/" + "/".join(["long"] * 200)).name) < 200
    stores, nothing = open_and_close(load({"ring_dir": home / "rings"}, None))
    assert (stores.spool is not None, stores.dead_letters is not None, nothing) == (True, True, [])
    assert sorted(path.name for path in state_of(home / "rings").iterdir()) == ["dead-letters", "spool"]


def test_the_default_follows_xdg_where_that_is_absolute(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "states"))
    assert state_of("rings").parent == home / "states" / "ringbuf-drain"
    monkeypatch.setenv("XDG_STATE_HOME", "states")
    assert state_of("rings").parent == home / ".local" / "state" / "ringbuf-drain"


def test_off_is_said_with_what_it_costs(home: Path, tmp_path: Path) -> None:
    configuration = load({"state_dir": Path("off")}, None)
    stores, (line,) = open_and_close(configuration)
    assert (stores.spool, stores.dead_letters) == (None, None)
    assert (line["log_level"], line["reason"]) == ("info", "--state-dir off")
    assert list(home.iterdir()) == []
    described = configuration.describe()
    assert 'state_dir = "off"  # --state-dir' in described
    (tmp_path / "drain.toml").write_text('state_dir = "off"\n')
    assert load({}, tmp_path / "drain.toml").settings.state_dir is None


@pytest.mark.parametrize("why", ["no home", "no folder can be made"])
def test_a_default_that_cannot_be_had_is_gone_without_and_that_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "no home":
        home.rmdir()
    else:
        monkeypatch.setenv("XDG_STATE_HOME", "/proc/self")  # nobody makes a folder there, not even root
    stores, (line,) = open_and_close(load({}, None))
    assert stores.spool is None
    assert line["log_level"] == "warning"
    assert line["reason"].endswith("see --state-dir")


def test_a_folder_that_was_asked_for_must_be_had() -> None:
    with pytest.raises(RingBufferError, match="cannot be made"):
        open_and_close(load({"state_dir": Path("/proc/self/state")}, None))


@pytest.mark.parametrize("is_default", [True, False])
def test_a_disk_that_hangs_at_the_start_is_not_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, is_default: bool
) -> None:
    answers = threading.Event()
    opened: list[Spool] = []

    def open_when_it_answers(*arguments: Any, **named: Any) -> Spool:
        assert answers.wait(SECONDS)
        opened.append(Spool(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(assembly, "Spool", open_when_it_answers)
    monkeypatch.setattr(assembly, "_OPEN_SECONDS", 0.05)
    configuration = load({} if is_default else {"state_dir": home / "state"}, None)
    try:
        if is_default:
            stores, (line,) = open_and_close(configuration)
            assert stores.spool is None
            assert "the disk does not answer" in line["reason"]
        else:
            with pytest.raises(OSError, match="the disk does not answer") as raised:
                open_and_close(configuration)
            assert exit_code_of(raised.value) == TROUBLE
    finally:
        answers.set()
    until(lambda: opened and not opened[0]._thread.is_alive(), why=lambda: "what nobody uses stays locked")


def test_what_is_open_at_the_last_moment_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class LateFuture(Future[Any]):
        """Is done when the time-out has passed, and before anybody looks."""

        def result(self, timeout: float | None = None) -> Any:
            found = super().result()
            if timeout is not None:
                raise TimeoutError
            return found

    monkeypatch.setattr(assembly, "Future", LateFuture)
    stores, lines = open_and_close(load({"ring_dir": home / "rings"}, None))
    assert stores.spool is not None
    assert lines == []


def test_a_default_that_another_drain_has_is_not_gone_without(home: Path) -> None:
    configuration = load({"ring_dir": home / "rings"}, None)
    first = assembly.open_stores(configuration, structlog.get_logger())
    with pytest.raises(SpoolLockedError):
        open_and_close(configuration)
    assert first.spool is not None
    assert first.spool.close(30)


def test_systemd_s_state_directory_is_taken_and_a_flag_beats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR")
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
    limits = stores.spool._store._room._limits
    assert (limits.max_bytes, limits.max_age_seconds, limits.when_full) == (1 << 21, 9.0, "drop-oldest")
    assert (stores.dead_letters._max_files, stores.dead_letters._max_bytes) == (3, 5)
    assert stores.spool_after == 7
    assert stores.spool.close(30)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["dead-letters", "spool"]


def test_a_spool_flag_without_a_state_directory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--spool-after has no effect with --state-dir off"):
        load({"spool_after": 1.0}, None)


def test_a_spool_flag_is_taken_for_the_default_state_directory(home: Path) -> None:
    assert home.exists()
    assert load({"spool_after": 1.0}, None).settings.spool_after == 1


def test_the_elapsed_limit_reaches_the_policy() -> None:
    assert assembly.retry_policy(load({"retry_elapsed": 5.0}, None)).gives_up(5)
    assert not assembly.retry_policy(load({}, None)).gives_up(1e9)
