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
# Without partial-order reduction, which the models' `unless` leaves next to nothing of.
PAN_FLAGS = ("-DSAFETY", "-DNOREDUCE", "-DCOLLAPSE", "-DMEMLIM=1500")
MAX_DEPTH = 20_000


class Whole(NamedTuple):
    """A size of a model, and what may stay unreached in it: statements, as spin prints them."""

    model: str
    sizes: tuple[str, ...]
    unreached: frozenset[str] = frozenset()


ONE_THREAD = frozenset({"(producer_killed)", "dropped = (dropped+1)"})  # nobody else holds the lane
WHOLE = {
    "two threads, three drains": Whole("lane", ()),
    "four slots": Whole("lane", ("CAPACITY=4", "THREADS=1", "ATTEMPTS=6"), ONE_THREAD),
    "four drains": Whole("lane", ("THREADS=1", "ATTEMPTS=5", "DRAINS=4"), ONE_THREAD),
    "a kill beside the doorbell": Whole("doorbell", ()),
    "batches beside the doorbell": Whole("doorbell", ("KILLS=0", "RECORDS=3")),
    "naps that end early": Whole("doorbell", ("KILLS=0", "NAPS=1")),
    "two emitters, a kill of each side": Whole("life", ()),
    "two records each": Whole("life", ("ATTEMPTS=2", "DRAINS=1"), frozenset({"(drain_killed)"})),
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
MUTANTS = [
    *(("lane", flag, broken) for flag, broken in LANE.items()),
    *(("doorbell", flag, broken) for flag, broken in DOORBELL.items()),
    *(("life", flag, broken) for flag, broken in LIFE.items()),
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
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def verifier(debian_program: Callable[[str], str], c_compiler: str, tmp_path: Path) -> Verifier:
    return Verifier(debian_program("spin"), c_compiler, tmp_path)


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


@pytest.mark.parametrize(("model", "flag", "broken"), MUTANTS, ids=[flag for _, flag, _ in MUTANTS])
def test_no_rule_can_be_taken_away(model: str, flag: str, broken: str, verifier: Verifier) -> None:
    said = verifier.search(model, (flag, "KILLS=0", "RECORDS=3") if model == "doorbell" else (flag,))
    violated = re.search(r"^pan:1: (.*)$", said, re.MULTILINE)
    assert violated, said
    assert re.search(rf"assertion violated .*\b({broken})\b", violated[1]), said


def test_every_rule_that_a_model_can_do_without_is_tried() -> None:
    tried = {(model, flag) for model, flag, _ in MUTANTS}
    for model in MODELS.glob("*.pml"):
        text = model.read_text(encoding="utf-8")
        flags = set(re.findall(r"^#ifn?def (\w+)|defined\((\w+)\)", text, re.MULTILINE))
        names = {first or second for first, second in flags} - set(re.findall(r"^#define (\w+)", text, re.MULTILINE))
        assert {(model.stem, name) for name in names} == {pair for pair in tried if pair[0] == model.stem}
