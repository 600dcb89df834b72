"""A reload beside the end of the drain: tests/service/commands/test_reload.py has what it takes up."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import structlog

from drain.commands.reload import Reload
from drain.settings.configuration import ConfigurationError
from tests.waiting import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


def reload_that(reread: Callable[[], Any]) -> Reload:
    anything: Any = SimpleNamespace(settings=None, reopen=lambda: None, accounts=SimpleNamespace(failed_reloads=0))
    return Reload(anything, reread, anything, anything, anything, structlog.get_logger())


def test_one_that_runs_is_waited_for_but_not_for_ever() -> None:
    """A thread that the interpreter's end meets inside pydantic's Rust aborts the process."""
    runs, may_end = threading.Event(), threading.Event()

    def reread() -> Any:
        runs.set()
        assert may_end.wait(SECONDS)
        raise ConfigurationError("no more of this")

    reload = reload_that(reread)
    reload.request()
    assert runs.wait(SECONDS)
    assert not reload.close(0.01)
    may_end.set()
    assert reload.close(SECONDS)


def test_where_none_runs_nothing_is_waited_for() -> None:
    assert reload_that(lambda: None).close(SECONDS)
