"""Makes the drain's parts from its settings; a command takes those that it needs.

The settings know nothing of this: they can be read, checked and shown without any part of the drain.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from drain.delivery.dead_letters import DeadLetters
from drain.delivery.retry import RetryPolicy
from drain.delivery.stores import Stores
from drain.exporters.file_options import FileOptions
from drain.exporters.gateways.discovery import Discovery
from drain.exporters.gateways.gateways import Gateways
from drain.exporters.kafka.options import KafkaOptions
from drain.exporters.make import make_exporter as make_exporter_of_kind
from drain.rings.admission import Admission
from drain.rings.held_examination import examine_held
from drain.sampling.hold.files import HOLD_FOLDER
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import of_ratio
from drain.sampling.rules_file import RulesError, read_rules
from drain.service.held_lanes import are_lanes_behind
from drain.service.limits import Limits
from drain.service.sampling_plan import SamplingPlan
from drain.settings.address import Address
from drain.settings.otlp_environment import OtlpSettings, parse_codes
from drain.settings.secrets_in_urls import without_secrets
from drain.settings.settings import LISTEN_OFF
from drain.spool.limits import SpoolLimits
from drain.spool.spool import Spool, SpoolLockedError
from drain.state_directory import DEAD_LETTERS_FOLDER, SPOOL_FOLDER, STATE_OFF
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.exporters.protocol import Exporter
    from drain.sampling.rules import Rules
    from drain.settings.configuration import Configuration


_OPEN_SECONDS: Final = 10.0
_SHARE_OF_FILE_SYSTEM: Final = 4  # of the rings' tmpfs, a quarter at most is the hold's
_NO_STATE: Final = "nothing is kept on disk: in an outage spans wait in the rings alone, and what is refused is lost"


def make_exporter(configuration: Configuration, *, holds: bool = True) -> Exporter:
    """Return the exporter that is asked for.

    Args:
        configuration: which, and how it is set.
        holds: False where it is told and kept anyway what is refused, so that nothing is to wait for an operator.

    Raises:
        ValueError: it cannot work with these settings.
    """
    settings = configuration.settings
    otlp = OtlpSettings(
        endpoint=settings.endpoint,
        endpoint_is_base=configuration.origins["endpoint"] != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        protocol=settings.protocol,
        headers=settings.headers,
        compression=settings.compression,
        timeout_seconds=settings.timeout,
        certificate=settings.certificate,
        client_key=settings.client_key,
        client_certificate=settings.client_certificate,
        insecure=settings.insecure,
        headers_file=settings.headers_file,
        json_non_finite=settings.json_non_finite,
        hold=settings.hold and holds,
        retry_codes=parse_codes(settings.retry_codes),
        refuse_codes=parse_codes(settings.refuse_codes),
        max_connection_age=settings.max_connection_age,
    )
    endpoints = settings.endpoint.split(",") if settings.endpoint and str(settings.exporter).startswith("otlp") else ()
    if len(set(map(without_secrets, endpoints))) < len(endpoints):
        raise ValueError("endpoints that differ in what is secret only cannot be told apart")
    if len(endpoints) > 1 or (endpoints and settings.resolve_interval):
        return _gateways(configuration, otlp, endpoints)
    return _one_exporter(configuration, otlp, settings.endpoint)


def _gateways(configuration: Configuration, otlp: OtlpSettings, endpoints: Sequence[str]) -> Gateways:
    settings = configuration.settings
    make = functools.partial(_one_exporter, configuration, otlp)
    discovery = Discovery(endpoints, make, settings.resolve_interval) if settings.resolve_interval else None
    members = {without_secrets(one): (one, None) for one in endpoints} if discovery is None else discovery.members()
    exporters: dict[str, Exporter] = {}
    with contextlib.ExitStack() as made_so_far:  # which are closed where another cannot be made
        for name, (endpoint, address) in members.items():
            exporters[name] = make(endpoint, address)
            made_so_far.callback(exporters[name].close)
        gateways = Gateways(
            exporters,
            settings.balance,
            settings.hand_over_after,
            endpoints={name: without_secrets(endpoint) for name, (endpoint, _) in members.items()},
        )
        made_so_far.pop_all()
    if discovery is not None:
        gateways.before_close = discovery.close
        discovery.follow(gateways)
    return gateways


def _one_exporter(
    configuration: Configuration, otlp: OtlpSettings, endpoint: str | None, address: str | None = None
) -> Exporter:
    settings = configuration.settings
    is_otlp = configuration.origins["endpoint"].startswith("OTEL_")
    return make_exporter_of_kind(
        settings.exporter,
        otlp=replace(otlp, endpoint=endpoint if is_otlp else None),
        endpoint=None if is_otlp else endpoint,
        address=address,
        output=settings.output,
        file=FileOptions(
            sync=settings.file_sync,
            rotate_bytes=settings.file_rotate_bytes,
            rotate_seconds=settings.file_rotate_seconds,
            keep=settings.file_keep,
            compression=settings.file_compression,
        ),
        kafka=KafkaOptions(
            brokers=settings.kafka_brokers,
            topic=settings.kafka_topic,
            encoding=settings.kafka_encoding,
            partition_by=settings.kafka_partition_by,
            partitioner=settings.kafka_partitioner,
            create_topic=settings.kafka_create_topic,
            properties=settings.kafka,
        ),
    )


def retry_policy(configuration: Configuration) -> RetryPolicy:
    """Return how batches are sent again.

    Raises:
        ValueError: the waits do not fit together.
    """
    settings = configuration.settings
    return RetryPolicy(
        initial=settings.retry_initial,
        maximum=settings.retry_maximum,
        elapsed_limit=settings.retry_elapsed,
        attempts_limit=settings.retry_attempts,
        longest_retry_after=settings.retry_after_maximum,
    )


def open_stores(configuration: Configuration, log: FilteringBoundLogger) -> Stores:
    """Open the spool and the dead letters, where there is a folder for them.

    A folder that nobody asked for and that cannot be had (a home that is read-only, or not there) is gone without, and
    what that costs is said.

    Raises:
        SpoolLockedError: another drain has the folder.
        RingBufferError: a folder is not ours alone.
        OSError: a folder cannot be read.
    """
    is_default = configuration.origins["state_dir"] == "default"
    state_dir = configuration.settings.state_dir
    if state_dir is None:
        if is_default:
            log.warning(_NO_STATE, reason="there is no home directory; see --state-dir")
        else:
            log.info(_NO_STATE, reason=f"--state-dir {STATE_OFF}")
        return Stores()
    try:
        return _open_in_time(state_dir, configuration, log)
    except SpoolLockedError:
        raise
    except (RingBufferError, OSError) as error:
        if not is_default:
            raise
        log.warning(_NO_STATE, reason=f"{error}; see --state-dir")
        return Stores()


def _open_in_time(state_dir: Path, configuration: Configuration, log: FilteringBoundLogger) -> Stores:
    """Open them, unless the disk hangs: no one may wait for it whose spans need none.

    Raises:
        OSError: it does not answer.
    """
    answer: Future[Stores] = Future()

    def open_stores_in() -> None:
        try:
            answer.set_result(_open_stores_in(state_dir, configuration, log))
        except BaseException as error:  # noqa: BLE001 - told to who waits
            answer.set_exception(error)

    threading.Thread(target=open_stores_in, name="state directory", daemon=True).start()
    try:
        return answer.result(_OPEN_SECONDS)
    except TimeoutError as error:
        if answer.done():  # the disk itself said so, or it was open at the last moment
            return answer.result()
        answer.add_done_callback(_close_unused)
        raise OSError(errno.ETIMEDOUT, "the disk does not answer", str(state_dir)) from error


def _close_unused(answer: Future[Stores]) -> None:
    """Let another drain have what was opened too late."""
    if answer.exception() is None and (spool := answer.result().spool) is not None:
        spool.close()


def _open_stores_in(state_dir: Path, configuration: Configuration, log: FilteringBoundLogger) -> Stores:
    settings = configuration.settings
    limits = SpoolLimits(settings.spool_max_bytes, settings.spool_max_age, settings.spool_full)
    # First: it has the lock, without which nothing of another drain's may be touched.
    spool = Spool(state_dir / SPOOL_FOLDER, limits, log=log)
    try:
        letters = DeadLetters(
            state_dir / DEAD_LETTERS_FOLDER,
            max_files=settings.dead_letter_files,
            max_bytes=settings.dead_letter_bytes,
            log=log,
        )
    except BaseException:
        spool.close()
        raise
    return Stores(spool, letters, settings.spool_after)


def rules(configuration: Configuration) -> Rules | None:
    """Return the rules on whole traces, None where there are none.

    Raises:
        ValueError: they have mistakes, or there are two of them.
        OSError: they cannot be read.
    """
    file, keep_ratio = configuration.settings.sampling, configuration.settings.keep_ratio
    if file is not None and keep_ratio is not None:
        origins = configuration.origins["sampling"], configuration.origins["keep_ratio"]
        raise ValueError(
            f"--sampling ({origins[0]}) and --keep-ratio ({origins[1]}): take one of the two away, as either is rules"
        )
    if keep_ratio is not None:
        return of_ratio(keep_ratio)
    try:
        return None if file is None else read_rules(file)
    except RulesError as error:
        raise ValueError("\n".join(f"{file}: {mistake}" for mistake in error.mistakes)) from None


def sampling_plan(
    configuration: Configuration, ring_dir: Path, log: FilteringBoundLogger, *, exporter: Exporter, crash: str = ""
) -> SamplingPlan | None:
    """Return by which rules traces are kept, and the hold; None without rules, and nothing that waits for some.

    Args:
        configuration: the effective settings.
        ring_dir: which this drain has the lock of.
        log: for the hold.
        exporter: to which what is kept goes.
        crash: of which fault the last drain died, of which nothing that it left may kill this one; empty: of none.

    Raises:
        ValueError: the rules are none.
        RingBufferError: the hold's folder is not ours alone.
        OSError: the rules cannot be read, or the hold not be made.
    """
    settings = configuration.settings
    folder = ring_dir / HOLD_FOLDER
    found = rules(configuration)
    if found is None and not folder.exists():
        return None
    status = os.statvfs(ring_dir)
    capacity = min(settings.hold_bytes, status.f_blocks * status.f_frsize // _SHARE_OF_FILE_SYSTEM)
    unsafe = {}
    if crash and folder.exists():
        log.warning("the last drain died of a fault: what waits in the hold is examined first", last_drain=crash)
        unsafe = examine_held(
            folder, encoding=exporter.encoding, batch_spans=settings.batch_spans, rules=settings.sampling, log=log
        )
    hold = Hold(folder, capacity, log=log, unsafe=unsafe)
    waiting = sum(sums.waiting for sums in hold.sums().values())
    taken_up = sum(sums.taken_up for sums in hold.sums().values())  # what is lost of it is to be counted, too
    if found is None and not taken_up and not _are_lanes_behind(configuration, hold, ring_dir, exporter, crash):
        hold.close()
        if not hold.has_later:
            shutil.rmtree(folder, ignore_errors=True)
        return None
    if found is None and waiting:
        log.warning("spans wait in the hold and there are no rules any more: they are delivered", waiting=waiting)
    return SamplingPlan(found or of_ratio(1.0), hold, settings.sampling)


def _are_lanes_behind(configuration: Configuration, hold: Hold, ring_dir: Path, exporter: Exporter, crash: str) -> bool:
    if crash:  # no ring is to be looked at before it was examined
        return len(hold.unreleased) > 0
    most = configuration.settings.max_ring_bytes
    return are_lanes_behind(hold, ring_dir, encoding=exporter.encoding, max_bytes=most)


def admission(configuration: Configuration) -> Admission:
    """Return which ring files are taken in."""
    settings = configuration.settings
    return Admission(frozenset(settings.allow_uid), frozenset(settings.allow_gid), settings.max_ring_bytes)


def listen_address(configuration: Configuration, *, once: bool) -> Address | None:
    """Return where /metrics is to be, None for nowhere.

    Args:
        configuration: the effective settings.
        once: whether the drain ends by itself: then only where that was asked for.
    """
    listen = configuration.settings.listen
    if listen == LISTEN_OFF or (once and configuration.origins["listen"] == "default"):
        return None
    return Address.parse(listen)


def limits(configuration: Configuration) -> Limits:
    """Return the sizes and times of the loop."""
    settings = configuration.settings
    return Limits(
        batch_spans=settings.batch_spans,
        batch_bytes=settings.batch_bytes,
        batch_delay=settings.batch_delay,
        concurrency=settings.concurrency,
        shutdown_timeout=settings.shutdown_timeout,
        counts_unsampled=settings.unsampled == "count",
        decides_on_stop=settings.on_stop == "decide",
    )
