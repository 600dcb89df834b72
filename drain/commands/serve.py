"""`ringbuf-drain` without a subcommand: takes spans out of rings and delivers them, until a signal or just once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Final

import ringbuf
from drain import assembly
from drain.commands.reload import Reload
from drain.commands.starting import cannot_start, is_output_taken, log_of
from drain.entry import noted
from drain.exit_codes import AT_ONCE, BROKEN, DELIVERED, LOCKED, UNDELIVERED
from drain.exporters.measured import MeasuredExporter
from drain.exporters.metrics import make_metric_exporter
from drain.log import log_native_lines
from drain.rings.directory import RingDirectory
from drain.service.service import Service
from drain.settings.configuration import flag_of
from drain.settings.settings import LISTEN_OFF
from drain.standard_streams import STDERR, STDOUT, StandardStream
from drain.telemetry.telemetry import Telemetry
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.stores import Stores
    from drain.exporters.protocol import Exporter
    from drain.service.sampling_plan import SamplingPlan
    from drain.settings.configuration import Configuration

_RELOAD_SECONDS: Final = 2.0  # for a reload that runs at the end
# What malloc maps by itself, and how much it keeps at the end of its heap: mallopt(3). A batch takes some megabytes, in
# several pieces; mapped anew for each, they cost a page fault for every 4 KiB, a quarter of the drain's time a span.
_MALLOPT: Final = ((-3, 16 << 20), (-1, 32 << 20))  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
_SWITCH_SECONDS: Final = 0.0005  # a scrape's thread computes: of Python's default, 5 ms, the loop would lose most


def drain(configuration: Configuration, reread: Callable[[], Configuration], *, once: bool) -> int:
    """Drain a ring directory; return the exit code.

    Args:
        configuration: the effective settings.
        reread: reads their sources again, for SIGHUP.
        once: only what is there now, in rings and spool.
    """
    log = log_of(configuration)
    _raise_descriptor_limit()
    _keep_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with contextlib.ExitStack() as cleanup:
        _refuse_what_is_wrong(configuration)
        try:
            directory = RingDirectory(configuration.settings.ring_dir)
            directory.note_crashes()
        except (RingBufferError, OSError) as error:
            cannot_start(error)
        # After the notes of crashes, of which a fault in a ring is none.
        if lib.rb_guard_install() != lib.RB_OK:
            cannot_start("the guard against truncated ring files cannot be installed")
        # After the lock: the file exporter cuts off what a killed drain left incomplete.
        try:
            exporter = MeasuredExporter(assembly.make_exporter(configuration))
            cleanup.callback(exporter.close)
            stores = assembly.open_stores(configuration, log)
            telemetry = Telemetry(
                exporter.state,
                spool=None if stores.spool is None else stores.spool.status,
                dead_letters=None if stores.dead_letters is None else stores.dead_letters.status,
                max_series=configuration.settings.max_series,
                exponential=(configuration.settings.metrics_exporter, configuration.settings.metrics_histograms)
                == ("otlp", "exponential"),
                exemplars=configuration.settings.exemplar_filter,
                log=log,
            )
            audit_to = StandardStream(STDERR if is_output_taken(configuration.settings) else STDOUT)
            sampling = assembly.sampling_plan(
                *(configuration, directory.path, log), exporter=exporter, crash=directory.crash
            )
            service = _service(configuration, directory, exporter, stores, sampling, telemetry, audit_to, log)
            exporter.when_gone, exporter.has_more = service.request_end, service.has_more
            metric_exporter = make_metric_exporter(configuration, log)
            if "grpc" in sys.modules:
                log_native_lines(log)
        except (RingBufferError, ValueError, OSError, MemoryError) as error:
            directory.close()
            cannot_start(error)
        try:
            reload = Reload(configuration, reread, exporter, service, audit_to, log)
            _heed_signals(service, reload)
            listen = _listen(configuration, telemetry, service, log, once=once)
            settings = configuration.settings
            if metric_exporter is not None:
                telemetry.export(
                    metric_exporter,
                    service.snapshots,
                    service.seconds_until_attempt,
                    settings.spool_max_bytes,
                    interval=settings.metrics_interval,
                    timeout=settings.metrics_export_timeout,
                    preference=settings.metrics_temporality,
                )
            log.info(
                "serving",
                version=ringbuf.__version__,
                ring_dir=str(settings.ring_dir),
                exporter=str(settings.exporter),
                to=exporter.endpoint,
                state_dir=None if stores.spool is None else str(settings.state_dir),
                unsampled=settings.unsampled,
                sampling=None if settings.sampling is None else str(settings.sampling),
                keep_ratio=settings.keep_ratio,
                dry_run=sampling is not None and sampling.rules.is_dry_run,
                listen=listen,
                metrics_to=None if metric_exporter is None else metric_exporter.endpoint,
            )
            code = _serve(service, once=once)
            if metric_exporter is not None:  # for the last export: the loop, which has ended, makes no more
                service.snapshots.publish(service.accounts.snapshot())
            if once and not service.accounts.rings_seen():
                log.info("there were no rings", ring_dir=str(settings.ring_dir))
            has_ended = reload.close(_RELOAD_SECONDS)
            log.info("stopped", exit_code=code, to=exporter.endpoint)
        finally:
            telemetry.close()
        if not (service.close() and has_ended):
            # A thread still hangs, in an attempt or a reload: neither it nor the exporter's own may hold up the exit.
            os._exit(code)
    _forget_unwritten_output()
    return code


def _keep_memory() -> None:
    """Let what a batch took be there for the next, where the C library can be told so."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOPT:
            mallopt(parameter, value)


def _refuse_what_is_wrong(configuration: Configuration) -> None:
    """End where it is known that nothing can be served, before anything is opened or made for it."""
    refuse_missing_ring_dir(configuration)
    try:
        assembly.rules(configuration)
    except (ValueError, OSError) as error:
        cannot_start(error)


def refuse_missing_ring_dir(configuration: Configuration) -> None:
    """End the process where a ring directory was named that is not there: it is a typing error more often than not."""
    path, origin = configuration.settings.ring_dir, configuration.origins["ring_dir"]
    if origin != "default" and not os.path.lexists(path):
        cannot_start(
            f"{path}: there is no such directory ({origin}); name another, or make it: "
            + shlex.join(["mkdir", "-m", "0700", str(path)])
        )


def _service(
    configuration: Configuration,
    directory: RingDirectory,
    exporter: Exporter,
    stores: Stores,
    sampling: SamplingPlan | None,
    telemetry: Telemetry,
    audit_to: StandardStream,
    log: FilteringBoundLogger,
) -> Service:
    return Service(
        directory,
        assembly.admission(configuration),
        exporter,
        assembly.retry_policy(configuration),
        assembly.limits(configuration),
        log=log,
        stores=stores,
        sampling=sampling,
        audit_to=audit_to,
        observer=telemetry,
    )


def _listen(
    configuration: Configuration, telemetry: Telemetry, service: Service, log: FilteringBoundLogger, *, once: bool
) -> str:
    """Listen where that is asked for; return the address for people."""
    address = assembly.listen_address(configuration, once=once)
    if address is None:
        return LISTEN_OFF
    listen = configuration.settings.listen
    try:
        return telemetry.listen(
            *address, service.snapshots, service.seconds_until_attempt, configuration.settings.spool_max_bytes
        )
    except OSError as error:
        if configuration.origins["listen"] != "default":
            service.close()
            cannot_start(_unheard(f"{flag_of('listen')} {listen}: {error.strerror}", error))
        # The second drain of a machine is not to fail for a port that nobody chose.
        log.warning("not listening; see --listen", address=listen, reason=error.strerror)
        return LISTEN_OFF


def _unheard(text: str, error: OSError) -> OSError:
    unheard = OSError(text)
    unheard.__cause__ = error
    return unheard


def _heed_signals(service: Service, reload: Reload) -> None:
    signals_seen = 0

    def stop(number: int, _frame: object) -> None:
        nonlocal signals_seen
        signals_seen += 1
        if signals_seen > 1:
            os._exit(AT_ONCE + number)
        service.request_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: service.request_audit())
    signal.signal(signal.SIGHUP, lambda _number, _frame: reload.request())
    if signal.SIGUSR1 in noted:
        service.request_audit()
    if signal.SIGHUP in noted:
        reload.request()


def _serve(service: Service, *, once: bool) -> int:
    undelivered = service.drain_once() if once else service.run()
    service.accounts.tell_audit()
    if service.why_broken:
        return BROKEN
    if service.is_superseded:
        return LOCKED
    return UNDELIVERED if undelivered else DELIVERED


def _raise_descriptor_limit() -> None:
    """Each ring takes a descriptor: the soft limit is for programs that use select()."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _forget_unwritten_output() -> None:
    """Let nothing be left to be flushed when the interpreter ends: that would fail once more, with exit code 120."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)
