"""The rings that are attached: taken in, set aside where they are unsound, and seen to their end."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from drain.rings.directory import file_id
from drain.rings.documents import Documents
from drain.rings.examination import Examination
from drain.rings.intake import Intake
from drain.rings.quarantine import Quarantine
from drain.rings.ring import Life, Ring, Scratch
from drain.rings.verdict import Suspect
from drain.rings.watch import Watch
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingFormatError, RingVersionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.audit import Audit
    from drain.accounting.span_metrics import SpanMetrics
    from drain.otlp.request import Encoding
    from drain.rings.admission import Admission
    from drain.rings.directory import FileId, RingDirectory
    from drain.rings.verdict import Verdict

# A quantum of records: a batch of the data plane's. What one costs in Python is spent once for all of them.
_SCRATCH_BYTES: Final = 2 << 20
_LIVENESS_SECONDS: Final = 1.0

_LAST_DRAIN: Final = {
    lib.RB_CONSUMER_NONE: "none, or stopped",
    lib.RB_CONSUMER_ATTACHED: "killed",  # what is pending may have been sent already
    lib.RB_CONSUMER_DETACHED: "gave it up",
}


class Reader:
    """The rings of one directory.

    Args:
        directory: this drain's own.
        admission: which files are taken in.
        encoding: what the exporter sends.
        audit: keeps the sums of rings that are gone.
        batch_spans: how many records are read in one go, at most.
        are_held: records are read into a hold.
        rules: the file with those by which it is decided on traces; None: there is none.
        log: a line for each change.
        spans: where the rings' spans are counted; None: nowhere.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        directory: RingDirectory,
        admission: Admission,
        encoding: Encoding,
        audit: Audit,
        *,
        batch_spans: int,
        are_held: bool = False,
        rules: Path | None = None,
        log: FilteringBoundLogger,
        spans: SpanMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._spans = spans
        self._quarantine = Quarantine(directory)
        self._intake = Intake(directory, admission, log=log, clock=clock)
        self._encoding = encoding
        self._audit = audit
        self._log = log
        self._clock = clock
        self._scratch = Scratch(_SCRATCH_BYTES)
        self._documents = Documents()
        self._rings: dict[int, Ring] = {}  # by inode
        self._next_liveness = 0.0
        self._batch_spans = batch_spans
        self._are_held = are_held
        self._rules = rules
        # Of the rings that were there when a drain died of a fault; None: none did, or the first look is to come.
        self._examination: Examination | None = None
        self._verdicts: dict[int, Verdict] = {}  # by inode, on rings that could not be taken in yet
        self._watch: Watch | None = None  # made anew after each change of the rings
        self.quarantined = 0

    @property
    def rings(self) -> list[Ring]:
        """The attached rings."""
        return list(self._rings.values())

    @property
    def pending(self) -> int:
        """Records that are not released, as of each ring's last poll."""
        return sum(ring.pending for ring in self._rings.values())

    def inodes(self) -> set[int] | None:
        """Return those of all rings that there are, attached or not; None where the directory cannot be read now."""
        try:
            return {*self._directory.ring_files().values(), *self._rings}
        except OSError:
            return None

    def admit(self, admission: Admission) -> None:
        """Take in files by other rules from now on; rings that are attached stay."""
        self._intake.admit(admission)

    @property
    def left_alone(self) -> int:
        """How many files of the directory are not read: refused, or of a newer version."""
        return self._intake.left_alone

    @property
    def in_examination(self) -> int:
        """How many rings are not read before a process of its own has read them."""
        return len(self._verdicts) + (0 if self._examination is None else self._examination.waiting)

    @property
    def watch(self) -> Watch:
        """The rings that may have something to serve; good until the next call of a method that changes the rings."""
        if self._watch is None:
            self._watch = Watch(self._rings.values())
        return self._watch

    def look(self) -> bool:
        """Take in new rings and see which lost their producer or their file; return whether anything changed."""
        now = self._clock()
        is_changed = False
        if self._intake.is_due():
            is_changed = self.scan()
        if now >= self._next_liveness:
            self._next_liveness = now + _LIVENESS_SECONDS
            is_changed |= self.check_producers()
        return is_changed

    def scan(self) -> bool:
        """Compare the directory with what is attached; return whether a ring was attached or lost its name."""
        names = self._intake.names()
        if names is None:
            return False
        is_changed = self._follow_names({inode: name for name, inode in names.items()})
        is_to_examine = bool(self._directory.crash) and self._examination is None
        suspects = []
        for name, inode in names.items():
            fd = None if self._is_known(inode) else self._intake.opened(name, inode)
            if fd is None:
                continue
            if is_to_examine:
                suspects.append(Suspect(name, inode, os.fstat(fd).st_size))
                os.close(fd)
            elif verdict := self._verdicts.get(inode):
                is_changed |= self._judge(name, fd, verdict)
            else:
                is_changed |= self._take_in(name, fd)
        if is_to_examine:
            self._examine(suspects)
        return is_changed

    def take_examined(self) -> bool:
        """Take in the rings that another process has read and lived; return whether there was one."""
        if self._examination is None or not self._directory.crash:
            return False
        verdicts = self._examination.verdicts()
        for suspect, verdict in verdicts:
            self._verdicts[suspect.inode] = verdict
            fd = self._intake.opened(suspect.name, suspect.inode)
            if fd is not None:
                self._judge(suspect.name, fd, verdict)
            elif self._intake.is_left_alone(suspect.inode):
                del self._verdicts[suspect.inode]
        is_changed = bool(verdicts)
        if self._verdicts and self._intake.is_due():
            is_changed |= self.scan()
        # Until then it is to be found by the next drain: this one may be killed before it has released the unsafe.
        if not self.in_examination and not any(ring.unsafe for ring in self._rings.values()):
            self._directory.forget_crash()
        return is_changed

    def check_producers(self) -> bool:
        """Find the rings whose producer is gone without closing them; return whether there is one more."""
        found = False
        for ring in self._rings.values():
            if ring.life is Life.ALIVE and ring.producer_is_gone():
                self.producer_has_left(ring)
                found = True
        return found

    def poll(self) -> None:
        """Look at every lane of every ring."""
        for ring in self.rings:
            if ring.life is not Life.SET_ASIDE:
                try:
                    ring.poll()
                except RingFormatError as error:
                    self.set_aside(ring, error)

    def stop_at_tails(self) -> None:
        """Let the reading end at what is there now: what living producers publish after it is for the next drain."""
        self.scan()
        self.check_producers()
        for ring in self.rings:
            try:
                if ring.life is Life.ALIVE:
                    ring.stop_at_tails()
                    if ring.is_closed:
                        self.producer_has_left(ring)
            except RingFormatError as error:
                self.set_aside(ring, error)

    def producer_has_left(self, ring: Ring) -> None:
        """Note that nothing more is published: the tails of the next poll are the last."""
        ring.producer_has_left()
        self._watch = None

    def retire(self, ring: Ring) -> None:
        """Let go of a ring from which nothing more is to come: keep its sums, and remove its file if it ended well."""
        if self._rings.get(ring.file.inode) is not ring:
            return  # a batch may hold several parts of it, each of which asks when it is settled
        self._watch = None
        del self._rings[ring.file.inode]
        sums = ring.sums()
        self._audit.ring_is_gone(ring.service, sums)
        if ring.life is not Life.SET_ASIDE:
            removed = self._directory.remove(ring.name, ring.file)
            self._log.info(
                "ring ended",
                ring=ring.name,
                service=ring.service,
                closed=ring.is_closed,
                removed=removed,
                published=sums.published,
                delivered=sums.delivered,
                spooled=sums.spooled,
            )
        ring.close()

    def set_aside(self, ring: Ring, error: RingFormatError) -> None:
        """Quarantine an attached ring; what was copied out of it is still delivered."""
        was_named = ring.is_named
        ring.set_aside()
        self._watch = None
        sums = ring.sums()
        self._log.warning(
            "ring quarantined",
            ring=ring.name,
            service=ring.service,
            reason=error.reason,
            pending=sums.quarantined,
            in_flight=ring.unreleased,
        )
        self.quarantined += 1
        if was_named:
            self._move_away(ring.name, ring.file, {"reason": error.reason, "status": error.status, **asdict(sums)})
        if not ring.unreleased:
            self.retire(ring)

    def move_to(self, directory: RingDirectory) -> None:
        """Go on in another directory; rings of the old one are read to their end.

        Raises:
            RingBufferError: its quarantine cannot be made; the reader is as it was.
        """
        self._renew_quarantine(directory)
        self._directory = directory
        self._intake.move_to(directory)
        self._end_examination()
        self.scan()

    def mend_quarantine(self) -> None:
        """Make the folder anew if it was removed.

        Raises:
            RingBufferError: it cannot be made.
        """
        if not self._quarantine.is_in(self._directory):
            self._renew_quarantine(self._directory)

    def say_detached(self) -> None:
        """Let all producers make new rings, where the path leads now."""
        for ring in self._rings.values():
            if ring.is_named:
                self._lost_its_file(ring)

    def let_go(self) -> None:
        """Let go of all rings as a drain that is killed does: write nothing into them, and leave their files."""
        self._end_examination()
        self._watch = None
        with contextlib.ExitStack() as closing:  # all of them, though one raises
            closing.callback(self._rings.clear)
            for ring in self.rings:
                closing.callback(ring.close)
                closing.callback(self._note_gone, ring)

    def _note_gone(self, ring: Ring) -> None:
        self._audit.ring_is_gone(ring.service, ring.sums())

    def close(self) -> None:
        """Let go of all rings, as a drain that stops in good order: the next goes on where this one ends."""
        with contextlib.ExitStack() as closing:  # all of them, though one raises
            closing.callback(self._quarantine.close)
            closing.callback(self.let_go)
            for ring in self.rings:
                closing.callback(ring.give_back)

    def _follow_names(self, name_by_inode: dict[int, str]) -> bool:
        """Note which rings have another name now; return whether one has none."""
        is_changed = False
        for inode, ring in self._rings.items():
            if not ring.is_named:
                continue
            if inode in name_by_inode:
                ring.name = name_by_inode[inode]
            else:
                is_changed = True
                self._lost_its_file(ring)
        for inode in [*self._verdicts]:
            if inode not in name_by_inode or self._intake.is_left_alone(inode):
                del self._verdicts[inode]
        return is_changed

    def _is_known(self, inode: int) -> bool:
        is_in_examination = self._examination is not None and self._examination.is_waiting(inode)
        return is_in_examination or inode in self._rings or self._intake.is_left_alone(inode)

    def _examine(self, suspects: list[Suspect]) -> None:
        self._examination = Examination(
            self._directory.path,
            suspects,
            encoding=self._encoding,
            max_bytes=self._intake.admission.max_ring_bytes,
            batch_spans=self._batch_spans,
            are_held=self._are_held,
            rules=self._rules,
            log=self._log,
            clock=self._clock,
        )
        self._log.warning(
            "the last drain died of a fault: its rings are examined first",
            last_drain=self._directory.crash,
            rings=len(suspects),
        )

    def _judge(self, name: str, fd: int, verdict: Verdict) -> bool:
        """Take in a ring that was examined, without what kills; return whether it is attached.

        The verdict is kept as long as the ring cannot be attached for want of something: it would be read whole else.
        """
        if not verdict.is_attachable:
            self._quarantine_unread(name, file_id(fd), RingFormatError(name, verdict.reason))
            os.close(fd)
        elif self._take_in(name, fd):
            ring = self._rings[verdict.inode]
            ring.unsafe = verdict.unsafe
            if verdict.reason:
                self.set_aside(ring, RingFormatError(name, verdict.reason))
            elif verdict.unsafe:
                self._log.error("records killed a drain: they are invalid", ring=name, positions=verdict.unsafe)
        elif not self._intake.is_left_alone(verdict.inode):
            return False
        del self._verdicts[verdict.inode]
        return verdict.inode in self._rings

    def _take_in(self, name: str, fd: int) -> bool:
        file = file_id(fd)
        try:
            ring = Ring(
                name,
                self._directory.path / name,
                fd,
                max_bytes=self._intake.admission.max_ring_bytes,
                encoding=self._encoding,
                scratch=self._scratch,
                documents=self._documents,
            )
        except RingVersionError as error:
            self._intake.leave_alone(name, file.inode, error.reason)
        except RingFormatError as error:
            self._quarantine_unread(name, file, error)
        except (OSError, MemoryError) as error:
            self._intake.try_again_later(name, error)
        else:
            self._rings[file.inode] = ring
            self._watch = None
            self._audit.ring_had(ring.service, ring.before)
            if self._spans is not None:
                ring.span_counter = self._spans.of(ring.layout, ring.service)
            self._log.info(
                "ring attached",
                ring=name,
                service=ring.service,
                lanes=len(ring.lanes),
                capacity_slots=ring.capacity_slots,
                pending=ring.pending,
                last_drain=_LAST_DRAIN.get(ring.found_state, "unknown"),
            )
            return True
        return False

    def _quarantine_unread(self, name: str, file: FileId, error: RingFormatError) -> None:
        self._log.warning("ring quarantined", ring=name, reason=error.reason)
        self.quarantined += 1
        self._move_away(name, file, {"reason": error.reason, "status": error.status})

    def _renew_quarantine(self, directory: RingDirectory) -> None:
        quarantine = Quarantine(directory)
        self._quarantine.close()
        self._quarantine = quarantine

    def _end_examination(self) -> None:
        self._verdicts.clear()
        if self._examination is not None:
            self._examination.close()
            self._examination = None

    def _lost_its_file(self, ring: Ring) -> None:
        """Go on with what is mapped: the spans are there, but the producer's next ring must have a name again."""
        self._log.warning("ring file was removed or replaced", ring=ring.name, service=ring.service)
        ring.is_named = False
        ring.set_consumer_state(lib.RB_CONSUMER_DETACHED)

    def _move_away(self, name: str, file: FileId, reason: dict[str, Any]) -> None:
        try:
            self._quarantine.take(name, file, reason)
        except OSError as error:
            # Else it would be opened, found unsound and reported at every look.
            self._intake.never_again(name, file.inode)
            self._log.error("ring cannot be moved to quarantine", ring=name, reason=str(error))
