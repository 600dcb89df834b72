"""Code that tests run in a process of its own, forked or, where only the producer is installed, started."""

from __future__ import annotations

import pytest

from tests import nursery

CODE = "import sys; print('drain.command' in sys.modules, sys.argv[1]); sys.exit(3)"


@pytest.mark.parametrize("is_forked", [True, False])
def test_code_runs_to_its_end_forked_or_started(is_forked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_forked:
        monkeypatch.setattr(nursery, "is_drain_installed", lambda: False)
    done = nursery.run(CODE, "given")
    assert (done.returncode, done.stdout, done.stderr) == (3, f"{is_forked} given\n", "")


@pytest.mark.parametrize("is_forked", [True, False])
def test_a_warning_is_an_error_and_a_signal_a_negative_code(is_forked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_forked:
        monkeypatch.setattr(nursery, "is_drain_installed", lambda: False)
    done = nursery.run("import warnings; warnings.warn('that is old')")
    assert done.returncode > 0
    assert "UserWarning: that is old" in done.stderr
    assert nursery.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").returncode == -9
