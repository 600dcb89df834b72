"""Every point at which a producer or a drain is killed, and what it takes to come there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tests.points.receiver import Mood


class ProducerPoint(NamedTuple):
    """A point of csrc.

    Attributes:
        name: in RB_POINT.
        most: how many times a producer comes there in its first round, for sure.
        fate: what has become of the spans of the call that was cut short: "published", "counted" as dropped, "lost"
            (attempted, and nothing happened yet), or "some" of them, of a batch.
    """

    name: str
    most: int = 1
    fate: str = "lost"


class DrainPoint(NamedTuple):
    """A point of csrc, or a step of the drain's Python code.

    Attributes:
        name: in RB_POINT; or dotted, and `/before` or `/after`.
        most: how many times a drain comes there, for sure.
        mood: the receiver's.
        needs: what is done so that a drain comes there: "stop" it, put a "broken" file beside the rings, or let a ring
            be "spoiled" while it is read.
    """

    name: str
    most: int = 1
    mood: Mood = "takes"
    needs: str = ""


PRODUCER_POINTS: Final = (
    # making a ring
    ProducerPoint("create_begin"),
    ProducerPoint("create_opened"),
    ProducerPoint("create_unlocked"),
    ProducerPoint("create_half_locked"),
    ProducerPoint("create_locked"),
    ProducerPoint("create_reserved"),
    ProducerPoint("create_mapped"),
    ProducerPoint("create_unforkable"),
    ProducerPoint("create_prefaulted"),
    ProducerPoint("create_unsummed"),
    ProducerPoint("create_unlinked"),
    ProducerPoint("create_linked"),
    ProducerPoint("create_closed"),
    ProducerPoint("doorbell_found"),
    ProducerPoint("doorbell_mapping"),
    ProducerPoint("create_unrung"),
    ProducerPoint("word_unrung"),
    ProducerPoint("create_rung"),
    ProducerPoint("create_bound"),
    ProducerPoint("create_done"),
    # emitting one span
    ProducerPoint("checkout_begin", 20),
    ProducerPoint("checkout_taken", 20),
    ProducerPoint("checkout_head"),
    ProducerPoint("checkout_full"),
    ProducerPoint("slot_begin", 20),
    ProducerPoint("slot_block", 60),
    ProducerPoint("publish_begin", 20),
    ProducerPoint("publish_unstored", 20),
    ProducerPoint("publish_stored", 15, "published"),
    ProducerPoint("publish_crossed", 4, "published"),
    ProducerPoint("publish_unrung", 1, "published"),
    ProducerPoint("publish_rung", 1, "published"),
    ProducerPoint("checkin_begin", 20, "published"),
    ProducerPoint("checkin_done", 20, "published"),
    ProducerPoint("drop_uncounted", 2),
    ProducerPoint("drop_counted", 2, "counted"),
    ProducerPoint("unsampled_uncounted", 2),
    ProducerPoint("unsampled_counted", 2, "counted"),
    # a batch
    ProducerPoint("batch_record", 9),
    ProducerPoint("batch_checkin", 1, "some"),
    ProducerPoint("run_begin", 3, "some"),
    ProducerPoint("run_half", 3, "some"),
    ProducerPoint("run_published", 3, "some"),
    # another ring in the place of one that the drain gave up
    ProducerPoint("replace_begin", 1, "some"),
    ProducerPoint("replace_shown_twice", 1, "some"),
    ProducerPoint("replace_moved", 1, "some"),
    ProducerPoint("replace_unlocked", 1, "some"),
    ProducerPoint("replace_done", 1, "some"),
    # the end
    ProducerPoint("close_begin"),
    ProducerPoint("close_lane", 2),
    ProducerPoint("close_done"),
)


def _both(
    *names: str, most: int = 1, mood: Mood = "takes", needs: str = "", moments: tuple[str, ...] = ("before", "after")
) -> tuple[DrainPoint, ...]:
    return tuple(DrainPoint(f"drain.{name}/{moment}", most, mood, needs) for name in names for moment in moments)


DRAIN_POINTS: Final = (
    # the start
    *_both(
        "rings.directory.RingDirectory._take_lock",
        "rings.quarantine.Quarantine.__init__",
        "rings.doorbell.Doorbell.__init__",
    ),
    DrainPoint("doorbell_empty"),
    DrainPoint("doorbell_unmapped"),
    DrainPoint("doorbell_mapped"),
    # finding rings
    *_both("rings.directory.RingDirectory.ring_files", "rings.reader.Reader._take_in"),
    DrainPoint("attach_unread", 2),
    DrainPoint("attach_header", 2),
    DrainPoint("attach_mapped", 2),
    DrainPoint("attach_lane", 2),
    DrainPoint("attach_done", 2),
    DrainPoint("state_unset", 2),
    DrainPoint("state_set", 2),
    # reading
    DrainPoint("scan_begin", 20),
    DrainPoint("poll_lane", 20),
    DrainPoint("poll_done", 20),
    DrainPoint("copy_begin", 10),
    DrainPoint("copy_half", 10),
    DrainPoint("copy_done", 10),
    *_both("service.copier.Copier._read", "delivery.batch.Batcher.add", most=5),
    *_both("delivery.batch.Batcher.close", "delivery.dispatch.Dispatch.send", most=3),
    # delivering
    *_both("exporters.measured.MeasuredExporter.export_together", most=4),
    *_both("delivery.settlement.Settlement._settle", most=4),
    DrainPoint("word_unrung", 4),
    *_both("service.service.Service._settle", most=5),
    # releasing
    *_both("rings.ring.Ring.release", most=5),
    DrainPoint("release_uncounted", 6),
    DrainPoint("release_half_counted", 6),
    DrainPoint("release_counted", 6),
    DrainPoint("release_done", 6),
    # sleeping
    DrainPoint("sleep_lane", 4),
    DrainPoint("sleep_set", 4),
    DrainPoint("doorbell_wait", 4),
    DrainPoint("sleep_over", 4),
    DrainPoint("wake_set", 4),
    *_both("telemetry.telemetry.Telemetry.went_round", most=20),
    # the end of a ring
    *_both(
        "rings.reader.Reader.producer_has_left", "rings.reader.Reader.retire", "rings.directory.RingDirectory.remove"
    ),
    *_both("accounting.audit.Audit.ring_is_gone"),
    # the spool
    *_both("spool.store.SpoolStore._open", "spool.database.make_or_migrate"),
    *_both("spool.store.SpoolStore.tend"),
    *_both("spool.spool.Spool.put", "otlp.request.Request.gzip", "spool.store.SpoolStore.write", mood="away at first"),
    *_both("spool.reserve.Reserve.take", mood="away at first"),
    *_both("spool.database.SpoolDatabase.begin", "spool.database.SpoolDatabase.commit", most=2, mood="away at first"),
    *_both("spool.database.SpoolDatabase.add", "delivery.settlement.Settlement._stored", mood="away at first"),
    *_both("spool.spool.Spool.take", "spool.database.SpoolDatabase.body", mood="away at first"),
    *_both("delivery.storing.Storing.remove", "spool.spool.Spool.done", mood="away at first"),
    *_both("spool.database.SpoolDatabase.remove", mood="away at first"),
    # what the backend refuses
    *_both("delivery.dead_letters.DeadLetters.keep", "delivery.dead_letters.DeadLetters._begin", mood="refuses"),
    # unsound rings
    *_both("rings.reader.Reader._move_away", "rings.quarantine.Quarantine.take", needs="broken"),
    *_both("rings.quarantine.Quarantine._remove_oldest", "rings.quarantine.Quarantine._write", needs="broken"),
    *_both("rings.reader.Reader.set_aside", "rings.ring.Ring.set_aside", needs="spoiled"),
    # the stop
    *_both("rings.reader.Reader.stop_at_tails", "service.shutdown.Shutdown.end_delivery", needs="stop"),
    *_both(
        "delivery.delivery.Delivery.stop",
        "service.accounts.Accounts.tell_audit",
        "rings.reader.Reader.close",
        needs="stop",
    ),
    *_both("rings.ring.Ring.give_back", "rings.ring.Ring.close", "service.service.Service.close", needs="stop"),
    *_both(
        "spool.spool.Spool.close",
        "spool.database.SpoolDatabase.close",
        "rings.directory.RingDirectory.close",
        needs="stop",
    ),
)

HOLD_POINTS: Final = (
    DrainPoint("hold_unbegun", 3),
    DrainPoint("hold_begun", 3),
    DrainPoint("hold_append_begin", 12),
    DrainPoint("hold_append_half", 12),
    DrainPoint("hold_unpublished", 12),
    DrainPoint("hold_published", 12),
    DrainPoint("hold_unsettled", 300),
    DrainPoint("hold_settled", 300),
    *_both("sampling.hold.chunks.Chunks._move_out", "sampling.hold.moved.Moved.add", most=2),
    *_both("sampling.hold.decisions.Decisions.append", "sampling.hold.unreleased.Unreleased.released", most=9),
    *_both("sampling.hold.recovery.Recovery._take_up", "sampling.hold.recovery.Recovery._say_again_what_was_moved"),
)
"""Of the hold: killed by test_hold_points.py, in a drain's life as far as the hold sees it."""
