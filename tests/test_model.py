"""Checks the ring's protocol exhaustively with spin, and that a rule taken away breaks the property it stands for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODELS = Path(__file__).parent / "model"
SOURCES = Path(__file__).parents[1] / "csrc"
# Without partial-order reduction, which the models' `unless` leaves next to nothing of.
PAN_FLAGS = ("-DSAFETY", "-DNOREDUCE", "-DCOLLAPSE", "-DMEMLIM=1500")
MAX_DEPTH = 20_000
SECONDS = 900  # the longest search takes a tenth of it on a machine with nothing else to do


class Whole(NamedTuple):
    """A size of a model, and what may stay unreached in it: statements, as spin prints them."""

    model: str
    sizes: tuple[str, ...]
    unreached: frozenset[str] = frozenset()


ONE_THREAD = frozenset({"(producer_killed)", "dropped = (dropped+1)"})  # nobody else holds the lane
LOCKED = frozenset({"queued[0]!0,after", "queued[1]!1,1"})  # stores that are seq_cst go past the queue
WHOLE = {
    "two threads, three drains": Whole("lane", ()),
    "four slots": Whole("lane", ("CAPACITY=4", "THREADS=1", "ATTEMPTS=6"), ONE_THREAD),
    "four drains": Whole("lane", ("THREADS=1", "ATTEMPTS=5", "DRAINS=4"), ONE_THREAD),
    "a kill beside the doorbell": Whole("doorbell", ()),
    "batches beside the doorbell": Whole("doorbell", ("KILLS=0", "RECORDS=3")),
    "naps that end early": Whole("doorbell", ("KILLS=0", "NAPS=1")),
    "two emitters, a kill of each side": Whole("life", ()),
    "two records each": Whole("life", ("ATTEMPTS=2", "DRAINS=1"), frozenset({"(drain_killed)"})),
    "orders of a lane": Whole("lane_orders", ()),
    "orders of a lane with one slot": Whole("lane_orders", ("CAPACITY=1", "RECORDS=4")),
    "orders beside the doorbell": Whole("doorbell_orders", ()),
    "x86 beside the doorbell": Whole("doorbell_orders", ("X86", "RECORDS=6"), LOCKED),
    # Why no test on x86 can see these two weakened.
    "x86 without the order of a load": Whole(
        "doorbell_orders", ("X86", "LOOK_AT_SLEEPING=RELAXED", "LAST_LOOK=RELAXED"), LOCKED
    ),
    "orders of a peek": Whole("peek_orders", ()),
    "the hold, a kill": Whole("hold", ()),
    "the hold, two kills": Whole("hold", ("RECORDS=2", "DRAINS=3")),
    "x86 peeks": Whole("peek_orders", ("X86", "SLOT_STORE=RELAXED")),
}

# What is taken away, by the model's flag; and the properties of which one must break.
LANE = {
    "NO_BUSY_FLAG": "torn_record|wrong_record",
    "GIVE_BACK_BEFORE_PUBLISH": "torn_record|wrong_record",
    "PUBLISH_BEFORE_WRITE": "torn_record|wrong_record",
    "COPY_BEFORE_TAIL": "torn_record|wrong_record",
    "FULL_BY_ONE_TOO_LATE": "overwritten_record",
    "RELEASE_BEFORE_DELIVERY": "lost_record|counted_undelivered",
    "RELEASE_OUT_OF_ORDER": "lost_record|counted_undelivered",
    "COUNT_AFTER_HEAD": "words_behind_head",
    "COUNT_TWICE": "law_of_the_ring",
    "RESTART_AT_TAIL": "lost_record|words_behind_head",
    "TWO_DRAINS": "law_of_the_ring",
}
DOORBELL = {
    "SLEEPING_AFTER_LAST_LOOK": "lost_wake_up",
    "NO_LAST_LOOK": "lost_wake_up",
    "LOOK_BEFORE_PUBLISH": "lost_wake_up",
    "CROSSING_NOT_SEQ_CST": "lost_wake_up",
    "SLEEPING_BY_PLAIN_STORE": "lost_wake_up",
    "CROSSING_BY_REMAINDER": "lost_wake_up",
    "BELL_UNCHANGED": "lost_wake_up",
    "VALUE_AFTER_LAST_LOOK": "lost_wake_up",
    "VALUE_AFTER_SCAN": "unseen_ring",
    "NO_RING_AT_OPEN": "unseen_ring",
}
LIFE = {
    "NAME_BEFORE_LOCK": "lost_record",
    "NAME_BEFORE_HEADER": "half_made_ring",
    "CLOSE_WITHOUT_LANES": "removed_records",
    "REPLACE_WITHOUT_LANES": "removed_records|stored_unlocked",
    "TAIL_BEFORE_LOCK": "removed_records",
    "UNLINK_WITHOUT_EMPTY_CHECK": "removed_records",
    "UNLINK_LIVING": "removed_living",
    "QUARANTINE_BY_UNLINK": "removed_records|removed_living",
    "MAPPING_INHERITED": "left_behind",
}
HOLD = {
    "RELEASED_BEFORE_PUBLISHED": "lost_record|released_unheld",
    "PUBLISH_BEFORE_WRITE": "torn_record",
    "UPTO_FORGOTTEN": "held_twice",
    "SOURCES_FORGOTTEN": "held_twice",
    "MOVED_BEFORE_PUBLISHED": "lost_record",
    "SETTLED_BEFORE_DECISION": "torn_trace",
    "SETTLED_BEFORE_DELIVERY": "settled_undelivered",
    "REUSED_UNSETTLED": "lost_record",
    "REUSED_UNRELEASED": "held_twice",
    "REUSE_UNDER_THE_SAME_NUMBER": "lost_record|held_twice",
    "NUMBERS_USED_AGAIN": "lost_record|held_twice",
}
# Each order by one step weaker, where memory is no more than C11 promises.
LANE_ORDERS = {
    "TAIL_STORE=RELAXED": "data_race",
    "TAIL_LOAD=RELAXED": "data_race",
    "HEAD_STORE=RELAXED": "data_race",
    "HEAD_LOAD=RELAXED": "data_race",
    "TAKE=RELAXED": "data_race",
    "GIVE_BACK=RELAXED": "data_race",
    "CLOSED_STORE=RELAXED": "removed_records",
    "CLOSED_LOAD=RELAXED": "removed_records",
    "HEAD_BEFORE_TAIL=RELAXED": "tail_behind_head",
    "HEAD_BEFORE_WORDS=RELAXED": "words_behind_head",
}
DOORBELL_ORDERS = {
    "CROSSING=RELEASE": "lost_wake_up",
    "LOOK_AT_SLEEPING=ACQUIRE": "lost_wake_up",
    "SLEEPING_STORE=RELEASE": "lost_wake_up",
    "LAST_LOOK=ACQUIRE": "lost_wake_up",
}
PEEK_ORDERS = {
    "SLOT_STORE=RELAXED": "wrong_record",
    "SLOT_COPY=RELAXED": "wrong_record",
    "TAIL_LOAD=RELAXED": "wrong_record",
    "HEAD_BEFORE_COPY": "wrong_record",
}
# Where the C code has the order that the models define; all that a pattern finds must be of that order.
HEAD = r"rb_load_(\w+)\(&[\w>-]*head\)"
CODE = {
    ("lane_orders", "TAIL_STORE"): (
        "producer/emit.c",
        r"rb_store_(\w+)\(&lane->shared->tail, after\);.*\n +RB_POINT\(publish_stored",
    ),
    ("lane_orders", "TAIL_LOAD"): ("consumer/consumer.c", r"rb_load_(\w+)\(&lane->shared->tail\);.*\n +plausible = "),
    ("lane_orders", "HEAD_STORE"): ("consumer/consumer.c", r"rb_store_(\w+)\(&lane->shared->head,"),
    ("lane_orders", "HEAD_LOAD"): ("producer/emit.c", HEAD),
    ("lane_orders", "TAKE"): ("shared/atomics.h", r"__atomic_exchange_n\(flag, 1, __ATOMIC_(\w+)\)"),
    ("lane_orders", "GIVE_BACK"): ("shared/atomics.h", r"rb_give_back\(uint32_t \*flag\) { rb_store32_(\w+)\("),
    ("lane_orders", "CLOSED_STORE"): (
        "producer/producer.c",
        r"rb_store32_(\w+)\(&producer->lanes\[i\].shared->closed, 1\)",
    ),
    ("lane_orders", "CLOSED_LOAD"): ("consumer/consumer.c", r"rb_load32_(\w+)\(&shared->closed\)"),
    ("lane_orders", "HEAD_BEFORE_TAIL"): ("producer/stats.c consumer/observe.c", HEAD),
    ("lane_orders", "HEAD_BEFORE_WORDS"): ("consumer/consumer.c", HEAD),
    ("doorbell_orders", "CROSSING"): (
        "producer/emit.c",
        r"rb_store_(\w+)\(&lane->shared->tail, after\);\n +RB_POINT\(publish_crossed",
    ),
    ("doorbell_orders", "LOOK_AT_SLEEPING"): ("producer/emit.c", r"rb_load32_(\w+)\(&lane->shared->sleeping\)"),
    ("doorbell_orders", "SLEEPING_STORE"): ("consumer/watch.c", r"rb_\w+32_(\w+)\(&lane->shared->sleeping, 1\)"),
    ("doorbell_orders", "LAST_LOOK"): (
        "consumer/watch.c",
        r"RB_POINT\(sleep_set\);\n +ready \|= rb_load_(\w+)\(&lane->shared->tail\)",
    ),
    ("peek_orders", "SLOT_COPY"): ("shared/atomics.h", r"__atomic_load_n\(&words\[i\], __ATOMIC_(\w+)\)"),
    ("peek_orders", "TAIL_LOAD"): ("consumer/observe.c", r"rb_load_(\w+)\(&lane->shared->tail\)"),
}
MUTANTS = [
    *(("lane", (flag,), broken) for flag, broken in LANE.items()),
    *(("doorbell", (flag, "KILLS=0", "RECORDS=3"), broken) for flag, broken in DOORBELL.items()),
    *(("life", (flag,), broken) for flag, broken in LIFE.items()),
    *(("hold", (flag,), broken) for flag, broken in HOLD.items()),
    *(("lane_orders", (flag,), broken) for flag, broken in LANE_ORDERS.items()),
    *(("doorbell_orders", (flag,), broken) for flag, broken in DOORBELL_ORDERS.items()),
    *(("peek_orders", (flag,), broken) for flag, broken in PEEK_ORDERS.items()),
    # Of those, what x86 itself could show.
    ("doorbell_orders", ("CROSSING=RELEASE", "X86"), "lost_wake_up"),
    ("doorbell_orders", ("SLEEPING_STORE=RELEASE", "X86"), "lost_wake_up"),
    ("peek_orders", ("HEAD_BEFORE_COPY", "X86", "SLOT_STORE=RELAXED"), "wrong_record"),
]


class Verifier:
    """spin, and the compiler of what it writes, in a folder of the test's own."""

    def __init__(self, spin: str, c_compiler: str, folder: Path) -> None:
        self._spin = spin
        self._c_compiler = c_compiler
        self._folder = folder

    def search(self, model: str, flags: Iterable[str], *, optimise: str = "-O0") -> str:
        """Return what the verifier says about a model with these flags; errors are found sooner than -O1 compiles."""
        self._run(self._spin, "-a", *(f"-D{flag}" for flag in flags), MODELS / f"{model}.pml")
        self._run(self._c_compiler, optimise, "-w", *PAN_FLAGS, "pan.c", "-o", "pan")
        return self._run("./pan", f"-m{MAX_DEPTH}", "-w22")

    def _run(self, *command: str | Path) -> str:
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def verifier(debian_program: Callable[[str], str], c_compiler: str, tmp_path: Path) -> Verifier:
    return Verifier(debian_program("spin"), c_compiler, tmp_path)


@pytest.mark.prove
@pytest.mark.parametrize("name", WHOLE)
def test_the_protocol_keeps_its_promises_in_every_state(name: str, verifier: Verifier) -> None:
    whole = WHOLE[name]
    said = verifier.search(whole.model, whole.sizes, optimise="-O1")
    assert re.search(r"errors: 0$", said, re.MULTILINE), said
    # Anything of this means that states were left out.
    assert "Search not completed" not in said, said
    assert "max search depth too small" not in said, said
    assert "Full statespace search" in said, said
    assert int(re.findall(r"(\d+) states, stored", said)[0]) > 10_000, said
    unreached = set(re.findall(r'state \d+, "(.*)"$', said, re.MULTILINE)) - {"-end-"}
    assert unreached <= whole.unreached, said


@pytest.mark.prove
@pytest.mark.parametrize(
    ("model", "flags", "broken"), MUTANTS, ids=["-".join((model, *flags)) for model, flags, _ in MUTANTS]
)
def test_no_rule_can_be_taken_away(model: str, flags: tuple[str, ...], broken: str, verifier: Verifier) -> None:
    said = verifier.search(model, flags)
    violated = re.search(r"^pan:1: (.*)$", said, re.MULTILINE)
    assert violated, said
    assert re.search(rf"assertion violated .*\b({broken})\b", violated[1]), said


def test_every_rule_that_a_model_can_do_without_is_tried() -> None:
    tried = {(model, flags[0]) for model, flags, _ in MUTANTS}
    for model in MODELS.glob("*.pml"):
        text = model.read_text(encoding="utf-8")
        flags = set(re.findall(r"^#ifn?def (\w+)|defined\((\w+)\)", text, re.MULTILINE))
        names = {first or second for first, second in flags} - set(re.findall(r"^#define (\w+)", text, re.MULTILINE))
        orders = re.findall(r"^#define (\w+) (RELEASE|ACQUIRE|SEQ_CST)$", text, re.MULTILINE)
        assert {(model.stem, name) for name in names - {"X86"}} | {(model.stem, name) for name, _ in orders} == {
            (name, rule.partition("=")[0]) for name, rule in tried if name == model.stem
        }


def test_the_models_have_the_orders_of_the_code() -> None:
    for model in MODELS.glob("*_orders.pml"):
        orders = re.findall(
            r"^#define (\w+) (RELEASE|ACQUIRE|SEQ_CST)$", model.read_text(encoding="utf-8"), re.MULTILINE
        )
        for name, order in orders:
            if name == "SLOT_STORE":  # a memcpy, which has none
                continue
            sources, pattern = CODE[model.stem, name]
            for source in sources.split():
                found = re.findall(pattern, (SOURCES / source).read_text(encoding="utf-8"))
                assert {word.upper() for word in found} == {order}, (source, name)
