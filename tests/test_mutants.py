"""Breaks the C code where its ordering matters, and sees that the C tests notice: a test that cannot fail is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import pytest

from tests.c_build import SANITIZERS, c_build

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[1]
BUILDS = {"": "release"} | {sanitize: name for name, sanitize in SANITIZERS.items()}
SECONDS = 600  # for a program that takes one, on a machine with much else to do
WINGS = ("producer", "consumer", "shared")  # of csrc; the others are not in the programs of tests/c that judge here
LOST = "the wake-up was lost"


class Mutant(NamedTuple):
    """One change of a source file, and the test of tests/c that must fail with it."""

    source: str
    right: str
    wrong: str
    program: str
    sanitize: str
    complaint: str


MUTANTS = {
    "a record is published without release order": Mutant(
        "producer/emit.c",
        "rb_store_release(&lane->shared->tail, after);",
        "rb_store_relaxed(&lane->shared->tail, after);",
        "stress",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a slot is written again without acquire order": Mutant(
        "producer/emit.c",
        "rb_load_acquire(&lane->shared->head)",
        "rb_load_relaxed(&lane->shared->head)",
        "stress",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the drain copies without acquire order": Mutant(
        "consumer/consumer.c",
        "uint64_t tail = rb_load_acquire(&lane->shared->tail); /* pairs with publish(): the slots",
        "uint64_t tail = rb_load_relaxed(&lane->shared->tail); /* pairs with publish(): the slots",
        "stress",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the drain releases without release order": Mutant(
        "consumer/consumer.c",
        "rb_store_release(&lane->shared->head, lane->released);",
        "rb_store_relaxed(&lane->shared->head, lane->released);",
        "stress",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a ring is opened without release order": Mutant(
        "producer/producer_state.h",
        "rb_store32_release(&producer->state, producer->process == 0",
        "rb_store32_relaxed(&producer->state, producer->process == 0",
        "open_race",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "an open ring is taken for one without acquire order": Mutant(
        "producer/producer_state.h",
        "uint32_t state = rb_load32_acquire(&producer->state);",
        "uint32_t state = rb_load32_relaxed(&producer->state);",
        "open_race",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a lane is given back without release order": Mutant(
        "shared/atomics.h",
        "static inline void rb_give_back(uint32_t *flag) { rb_store32_release(flag, 0); }",
        "static inline void rb_give_back(uint32_t *flag) { rb_store32_relaxed(flag, 0); }",
        "stress",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a lane is taken without acquire order": Mutant(
        "shared/atomics.h",
        "__atomic_exchange_n(flag, 1, __ATOMIC_ACQUIRE)",
        "__atomic_exchange_n(flag, 1, __ATOMIC_RELAXED)",
        "stress",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a lane is not taken at all": Mutant(
        "producer/emit.c",
        "if (!rb_try_take(&lane->busy))",
        "if (0)",
        "stress",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the ids are seeded without release order": Mutant(
        "producer/ids.c",
        "rb_store32_release(&producer->id_seeded, producer",
        "rb_store32_relaxed(&producer->id_seeded, producer",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the ids are taken for seeded without acquire order": Mutant(
        "producer/ids.c",
        "rb_load32_acquire(&producer->id_seeded) != RB_SEEDED",
        "rb_load32_relaxed(&producer->id_seeded) != RB_SEEDED",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a ring is closed without release order": Mutant(
        "producer/producer.c",
        "rb_store32_release(&producer->lanes[i].shared->closed, 1);",
        "rb_store32_relaxed(&producer->lanes[i].shared->closed, 1);",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a ring is taken for closed without acquire order": Mutant(
        "consumer/consumer.c",
        "rb_load32_acquire(&shared->closed)",
        "rb_load32_relaxed(&shared->closed)",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the doorbell's address is stored without release order": Mutant(
        "shared/atomics.h",
        "__atomic_store_n(pointer, value, __ATOMIC_RELEASE)",
        "__atomic_store_n(pointer, value, __ATOMIC_RELAXED)",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the doorbell is rung without acquire order": Mutant(
        "producer/emit.c",
        "uint32_t *doorbell = rb_load_pointer_acquire(&producer->doorbell);",
        "uint32_t *doorbell = __atomic_load_n(&producer->doorbell, __ATOMIC_RELAXED);",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the doorbell is looked for without acquire order": Mutant(
        "producer/emit.c",
        "rb_load_pointer_acquire(&producer->doorbell) == NULL",
        "__atomic_load_n(&producer->doorbell, __ATOMIC_RELAXED) == NULL",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the producer looks for a sleeper without any order": Mutant(
        "producer/emit.c",
        "rb_load32_seq_cst(&lane->shared->sleeping)",
        "rb_load32_relaxed(&lane->shared->sleeping)",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "the drain's last look is without any order": Mutant(
        "consumer/watch.c",
        "rb_load_seq_cst(&lane->shared->tail)",
        "rb_load_relaxed(&lane->shared->tail)",
        "handover",
        "thread",
        "ThreadSanitizer: data race",
    ),
    "a full lane is written": Mutant(
        "producer/emit.c",
        "if (lane->tail - lane->head < producer->capacity_slots)",
        "if (lane->tail - lane->head <= producer->capacity_slots)",
        "stress",
        "",
        "Assertion",
    ),
    "an observer keeps what was released during its copy": Mutant(
        "consumer/observe.c",
        "        head = rb_load_acquire(&lane->shared->head);\n        lost =",
        "        lost =",
        "observe",
        "",
        "Assertion",
    ),
    "an observer keeps the record whose slot was just released": Mutant(
        "consumer/observe.c",
        "lost = behind(start, head) < count ? behind(start, head) : count;",
        "lost = behind(start + 1, head) < count ? behind(start + 1, head) : count;",
        "observe",
        "",
        "Assertion",
    ),
    "an observer reads what is not published": Mutant(
        "consumer/observe.c",
        "rb_load_acquire(&lane->shared->tail); /* pairs with publish(): the slots below it are written */",
        "rb_load_acquire(&lane->shared->tail) + 1;",
        "observe",
        "",
        "Assertion",
    ),
    "a crossing is published without sequential consistency": Mutant(
        "producer/emit.c",
        "rb_store_seq_cst(&lane->shared->tail, after);",
        "rb_store_release(&lane->shared->tail, after);",
        "doorbell",
        "",
        LOST,
    ),
    "the drain says that it sleeps by a plain store": Mutant(
        "consumer/watch.c",
        "rb_exchange32_seq_cst(&lane->shared->sleeping, 1);",
        "rb_store32_relaxed(&lane->shared->sleeping, 1);",
        "doorbell",
        "",
        LOST,
    ),
    "the drain's last look comes first": Mutant(
        "consumer/watch.c",
        "rb_exchange32_seq_cst(&lane->shared->sleeping, 1);",
        "ready |= rb_load_seq_cst(&lane->shared->tail) != lane->read; for (volatile int i = 0; i < 300; i++);"
        "lane->shared->sleeping = 1; continue;",
        "doorbell",
        "",
        LOST,
    ),
    "the doorbell's word does not change": Mutant(
        "shared/doorbell_ring.c",
        "FUTEX_OP(FUTEX_OP_ADD, 1,",
        "FUTEX_OP(FUTEX_OP_ADD, 0,",
        "doorbell",
        "",
        LOST,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(
    name: str, c_compiler: str, missing_debian: Callable[[str], NoReturn], ring_dir: Path, tmp_path: Path
) -> None:
    mutant = MUTANTS[name]
    if mutant.complaint == LOST and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one processor sees its own stores in their order")
    tests = tmp_path / "tests"
    tests.mkdir()
    for source in (ROOT / "tests" / "c").rglob("*.[ch]"):
        text = source.read_text(encoding="utf-8")
        # A wake-up that is lost is waited for to the end: here two seconds are enough.
        text = text.replace("patience_nano = UINT64_C(10)", "patience_nano = UINT64_C(2)")
        (tests / source.name).write_text(text, encoding="utf-8")
    library = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", library)
    mutated = library / mutant.source
    text = mutated.read_text(encoding="utf-8")
    assert mutant.right in text, "the code has changed: change the mutant too"
    mutated.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
    program = tmp_path / "test"
    # As in CMakeLists.txt: a memcpy that the compiler writes out is one that ThreadSanitizer does not see.
    sanitize = [f"-fsanitize={mutant.sanitize}", "-fno-builtin-memcpy"] if mutant.sanitize else []
    # What is not changed is there already, built the same way: of an archive that is taken which no file before it has.
    changed = [mutated]
    if mutated.suffix == ".h":
        changed = [path for wing in WINGS for path in sorted((library / wing).glob("*.c"))]
    command: list[str | Path] = [
        c_compiler,
        "-O2",
        "-g",
        *sanitize,
        "-D_GNU_SOURCE",
        f"-I{library}",
        tests / f"{mutant.program}.c",
        *changed,
        c_build(BUILDS[mutant.sanitize], c_compiler, missing_debian) / "libringbuf.a",
        "-o",
        program,
        "-pthread",
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    # Where the test aborts, its ring stays.
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1", "RINGBUF_DIR": str(ring_dir)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([program], capture_output=True, text=True, check=False, timeout=SECONDS, env=environment)

    done = run()
    deadline = time.monotonic() + SECONDS
    while done.returncode == 0 and time.monotonic() < deadline:  # a race of a few nanoseconds may be missed for long
        done = run()
    assert done.returncode != 0, done.stdout
    assert mutant.complaint in done.stderr, done.stderr
