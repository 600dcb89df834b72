"""SIGHUP: a drain that runs takes up its configuration, certificates and headers anew, and the files that it writes."""

from __future__ import annotations

import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drain import assembly
from drain.commands.flags import EXPORTER_FIELDS
from drain.commands.starting import is_output_taken
from drain.log import log_native_lines, reopen_log, set_level
from drain.settings.configuration import ConfigurationError
from drain.settings.settings import Settings
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.exporters.measured import MeasuredExporter
    from drain.sampling.rules import Rules
    from drain.service.service import Service
    from drain.settings.configuration import Configuration
    from drain.standard_streams import StandardStream

_STANDARD_OUTPUT: Final = Path("-")  # on which two exporters may be open

TAKEN_UP: Final = EXPORTER_FIELDS | {"log_level", "allow_uid", "allow_gid", "max_ring_bytes"}
"""Settings that a drain takes up while it runs; the others need a restart."""


class Reload:
    """Reloads in a thread of its own: what hangs in it, a name look-up or a disk, holds up nothing.

    Args:
        configuration: that is in effect.
        reread: reads the sources again; raises ConfigurationError.
        exporter: the service's.
        service: that runs.
        audit_to: where audits go.
        log: for what was taken up, and what was not.
    """

    def __init__(
        self,
        configuration: Configuration,
        reread: Callable[[], Configuration],
        exporter: MeasuredExporter,
        service: Service,
        audit_to: StandardStream,
        log: FilteringBoundLogger,
    ) -> None:
        self._configuration = configuration
        self._first = configuration.settings
        self._reread = reread
        self._exporter = exporter
        self._service = service
        self._audit_to = audit_to
        self._log = log
        # To which a signal handler may put something, whatever it has interrupted.
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False: no more come
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Reload soon; for signal handlers."""
        self._requests.put(True)

    def close(self, seconds: float) -> bool:
        """Take up nothing more; return whether what runs has ended in time.

        Where it has not, the interpreter must not end as usual: it ends threads where they stand, and in the middle of
        a library that is no Python that aborts the process.
        """
        self._requests.put(False)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._requests.get():
            try:
                self._reload()
            except Exception as error:  # noqa: BLE001 - the drain goes on with what it has, and hears the next signal
                self._service.accounts.failed_reloads += 1
                self._log.error("nothing is taken up", reason=repr(error))

    def _reload(self) -> None:
        self._reopen_streams()
        try:
            new = self._reread()
        except ConfigurationError as error:
            self._service.accounts.failed_reloads += 1
            self._log.error("the configuration is not taken up", reason=str(error))
            self._exporter.renew()
            self._service.request_renewal(assembly.admission(self._configuration))
            return
        changed = _changed(self._configuration.settings, new.settings)
        for warning in new.warnings:
            self._log.warning("a setting may not be what was meant", reason=warning)
        if "log_level" in changed:
            set_level(new.settings.log_level)
        is_native = "grpc" in sys.modules
        is_taken = self._took_exporter(new, changed)
        if "grpc" in sys.modules and not is_native:
            log_native_lines(self._log)
        rules, has_rules = self._rules_of(new)
        self._service.request_renewal(assembly.admission(new), rules)
        if not (is_taken and has_rules):
            self._service.accounts.failed_reloads += 1
        # A drain that starts without rules has no hold, and one that starts with rules keeps it.
        has_both = _have_rules(self._first) and _have_rules(new.settings)
        taken_up = TAKEN_UP | {"sampling", "keep_ratio"} if has_both and has_rules else TAKEN_UP
        self._log.info(
            "reloaded",
            taken_up=sorted(changed & taken_up if is_taken else changed & taken_up - EXPORTER_FIELDS),
            need_a_restart=sorted(_changed(self._first, new.settings) - taken_up),
            to=self._exporter.endpoint,
        )
        if is_taken:  # else it is tried again by the next signal
            self._configuration = new

    def _rules_of(self, new: Configuration) -> tuple[Rules | None, bool]:
        """Return the rules to be taken up, None: those in effect stay; and whether that is as it should be."""
        if not _have_rules(self._first):
            return None, True
        try:
            return assembly.rules(new), True
        except (ValueError, OSError) as error:
            self._log.error("the rules are not taken up", reason=str(error))
            return None, False

    def _took_exporter(self, new: Configuration, changed: set[str]) -> bool:
        """Make another exporter where its settings changed, else let it look at its files; return whether it did."""
        if not changed & EXPORTER_FIELDS:
            self._exporter.renew()
            return True
        before, after = self._configuration.settings, new.settings
        if is_output_taken(after) and not is_output_taken(self._first):
            self._log.error("the exporter is not taken up", reason="audits go to standard output until a restart")
            return False
        is_same_file = before.exporter == after.exporter == "file" and before.output == after.output != _STANDARD_OUTPUT
        try:
            self._exporter.replace(lambda: assembly.make_exporter(new), is_alone=is_same_file)
        except (RingBufferError, ValueError, OSError) as error:
            self._log.error("the exporter is not taken up", reason=str(error))
            return False
        return True

    def _reopen_streams(self) -> None:
        try:
            self._audit_to.reopen()
            reopen_log()
        except OSError as error:
            self._log.error("the log cannot be opened anew", reason=error.strerror)


def _have_rules(settings: Settings) -> bool:
    return settings.sampling is not None or settings.keep_ratio is not None


def _changed(before: Settings, after: Settings) -> set[str]:
    return {name for name in Settings.model_fields if getattr(before, name) != getattr(after, name)}
